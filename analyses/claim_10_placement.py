"""Claim 10: is early placement best, and the convolution dispensable?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-10.nc``, its results and
figure to ``runs/claim_10_placement`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean nothing.
ENGRAM_INTERP_OUT names another folder to write to, ENGRAM_INTERP_TEXT a held-out text to measure
losses on in place of the packaged passages; ENGRAM_INTERP_RUNS a folder of arms that
``engram-interp family`` trained: "late" and "no-conv" are then compared
with "engram". In the packaged pair only what each part is worth to the trained model can be told.
"""

# %% 1 The arms, and the texts that losses are measured on
import math
import os
from itertools import islice
from pathlib import Path

from engram_interp import ablation, arms, claims, domains
from engram_interp.data import documents, prompts

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", "runs/claim_10_placement"))
RUNS, TEXT = os.environ.get("ENGRAM_INTERP_RUNS"), os.environ.get("ENGRAM_INTERP_TEXT")
MARGIN = 0.02  # nats a token: what the claim calls no difference

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
if TEXT:
    opened = [text[:800] for text in islice(documents.documents([TEXT]), 400)]
    texts = prompts.from_texts(opened, name=Path(TEXT).name)
texts = texts.head(4) if QUICK else texts
n_boot = 20 if QUICK else 1000
run = family.first("engram")
again = family.another(run)
model = run.load()
results, models = {}, [model]

# %% 2 What each memory layer is worth to the model that learnt to use it
for layer in model.memory_layers:
    found = ablation.effect(model, texts, kinds=["output_off"], layers=[layer], n_boot=n_boot, seed=0)
    results[f"layer-{layer}"] = found
    print(f"layer {layer}: {found.summary()}")


# %% 3 And the convolution: off in a second copy of the model, with a hook as in TransformerLens
def shut(written, hook):
    """What the convolution writes, gone; TransformerLens calls it with the place it hangs on."""
    assert hook.name.endswith("hook_conv_out")
    return written * 0


without = run.load()
sites = [f"blocks.{layer}.engram.hook_conv_out" for layer in model.memory_layers]
with without.hooks(fwd_hooks=[(site, shut) for site in sites]):
    conv = ablation.effect(model, texts, kinds=["output_off"], baseline=without, n_boot=n_boot, seed=0)
results["conv-off"] = conv


# %% 4 Trained late, and trained without: the loss on the same tokens
def loss_over(one, other):
    """Loss of one run less that of another on the same tokens, in nats a token, over documents."""
    subject, against = one.load(), other.load()
    found = domains.gain(against, subject, {"passages": texts}, n_boot=n_boot, seed=0)
    results[f"loss-{one.name}-{other.name}"] = found
    models.extend([subject, against])
    return found.data.sel(domain="passages", per="token")


def within(data, label, role="decides"):
    """A difference of losses that the claim expects to be none."""
    return claims.Measure.of(
        data,
        "gain",
        unit="nats",
        label=label,
        null=0.0,
        compared_with="no difference",
        expects="within",
        margin=MARGIN,
        role=role,
    )


def above(data, label):
    """A loss that the claim expects to be higher, by more than another seed moves it."""
    return claims.Measure.of(
        data,
        "gain",
        unit="nats",
        label=label,
        null=0.0 if again else math.nan,
        null_low=-spread,
        null_high=spread,
        compared_with="another seed of engram",
        expects="above",
    )


seeds = None
if again is not None:
    seeds = claims.Measure.of(
        loss_over(again, run), "gain", unit="nats", label="another seed of engram", role="beside"
    )
spread = math.nan if seeds is None else abs(seeds.value)  # without a second seed the claim stays open
measures = [
    above(loss_over(one, other), f"loss of the late arm less engram's, seed {one.seed}")
    for one, other in family.pairs("late", "engram")
]
measures += [
    within(loss_over(one, other), f"loss without convolution less engram's, seed {one.seed}")
    for one, other in family.pairs("no-conv", "engram")
]
measures += [] if seeds is None else [seeds]

# %% 5 Beside it: the parts of the trained model
for layer in model.memory_layers:
    measures.append(
        claims.Measure.of(
            results[f"layer-{layer}"].data.isel(kind=0),
            "delta_loss",
            label=f"memory of layer {layer} off",
            null="control_delta_loss",
            compared_with="random change of the same size",
            role="beside",
        )
    )
switched = claims.Measure.of(
    conv.data, "baseline_delta_loss", label="switching off the convolution costs", role="beside"
)
measures.append(switched)

# %% 6 The verdict: both parts of the claim must hold
remark = f"{switched.said()}, in a model that learnt to use it"
if absent := family.lacking("late", "no-conv") if RUNS else "no arm of another shape is in the package":
    remark = f"{absent}; {remark}"
if RUNS and again is None:
    remark += f"{'; ' if remark else ''}no second seed shows what a seed does"

verdict = claims.verdict(
    10,
    measures,
    scope=family.scope("engram", "late", "no-conv"),
    models=models,
    rule="parts",
    remark=remark,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 7
print(verdict.summary())
