"""Claim 10: is early placement best, and the convolution dispensable?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-10.nc``, its results and
figure to ``runs/claim_10_placement`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained, in place of the packaged pair. The arms "late" and "no-conv" are compared with
"engram" by ENGRAM_INTERP_LOSSES, which ``engram-interp losses`` saved of them, or on ENGRAM_INTERP_TEXT,
a held-out text; for the packaged pair by the losses in the package.
"""

# %% 1 The arms, and the texts that losses are measured on
import math
import os
import sys
from pathlib import Path

from engram_interp import ablation, arm_losses, arms, claims
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_10_placement"))
RUNS, TEXT, LOSSES = (os.environ.get(f"ENGRAM_INTERP_{name}") for name in ("RUNS", "TEXT", "LOSSES"))
MARGIN = 0.02  # nats a token: what the claim calls no difference

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
n_boot = 20 if QUICK else 1000
model = family.first("engram").load()
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


without = family.first("engram").load()
sites = [f"blocks.{layer}.engram.hook_conv_out" for layer in model.memory_layers]
with without.hooks(fwd_hooks=[(site, shut) for site in sites]):
    conv = ablation.effect(model, texts, kinds=["output_off"], baseline=without, n_boot=n_boot, seed=0)
results["conv-off"] = conv


# %% 4 Trained late, and trained without: the loss on the same tokens
losses = arm_losses.told(family, text=TEXT, saved=LOSSES, n_boot=n_boot)
if losses is not None:
    results["losses"] = losses
    print(losses.summary())


def between(arm, reference="engram"):
    """Cells that compare an arm's losses with another's on the same tokens, by run."""
    return {} if losses is None else losses.between(arm, reference)


def within(cell, label):
    """A difference of losses that the claim expects to be none; its interval holds what a seed may do."""
    low, high = losses.over_seeds(cell)
    return claims.Measure.of(
        cell,
        "difference",
        low=low,
        high=high,
        label=f"{label}, over documents and seeds",
        null=0.0,
        compared_with="no difference",
        expects="within",
        margin=MARGIN,
    )


again = between("engram")
spread, freedom = (math.nan, 0) if losses is None else losses.between_seeds()


def above(cell, label):
    """A loss that the claim expects to be higher, by more than another seed moves it."""
    return claims.Measure.of(
        cell,
        "difference",
        label=label,
        null=0.0 if freedom else math.nan,  # without a second seed of any arm the claim stays open
        null_low=-spread,
        null_high=spread,
        compared_with="two runs that differ by seed alone",
        expects="above",
    )


late, bare = between("late"), between("no-conv")
measures = [above(cell, f"loss of {name} less engram's") for name, cell in late.items()]
measures += [within(cell, f"loss without convolution less engram's, {name}") for name, cell in bare.items()]
measures += [
    claims.Measure.of(cell, "difference", label=f"another seed, {name}", role="beside")
    for name, cell in again.items()
]

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
scope, remarks = family.scope("engram", "late", "no-conv"), []
if losses is not None and RUNS:
    remarks = [losses.basis()]
elif losses is not None:
    scope = f"by {losses.basis()}, the parts of a trained model {scope}"
missing = [arm for arm, cells in (("late", late), ("no-conv", bare)) if not cells]
remarks += [f"no losses of {' and '.join(missing)}"] if missing else []
remarks += [f"{switched.said()}, in a model that learnt to use it"]
remarks += [] if freedom else ["no second seed shows what a seed does"]

verdict = claims.verdict(
    10,
    measures,
    scope=scope,
    models=models,
    rule="parts",
    remark="; ".join(remarks),
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 7
print(verdict.summary())
