"""Claim 1: does a memory make layers deeper? Similarity, prediction and function, each beside its nulls.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-01.nc``, its results and
figure to ``runs/claim_01_depth`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean nothing.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: the memory added to the dense model (engram, dense) and the one of equal size (moe-engram,
moe) are then compared, beside a second seed of the baseline, shuffled ids, deeper models and an earlier
checkpoint of equal loss. Without it the packaged pair is measured alone.
"""

# %% 1 The arms, and the passages
import math
import os
from pathlib import Path

from engram_interp import arms, claims, depth, lens_depth, stitching
from engram_interp.data import prompts

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", "runs/claim_01_depth"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
if QUICK:
    texts = prompts.from_texts(texts.texts[:8], name="quick")
n_boot = 20 if QUICK else 1000
WHOLE = {"CKA": depth.compare, "lens": lens_depth.compare, "stitching": stitching.compare}

# %% 2 One comparison by three views; whatever stands in the place of the model with memory is read alike
results, models = {}, {}


def look(name, model, baseline, reference=None):
    """The three views of one model against a baseline, kept under a name."""
    models.update({each.name: each for each in (model, baseline, reference) if each is not None})
    for view, compare in WHOLE.items():
        found = compare(model, baseline, texts, reference=reference, n_boot=n_boot, seed=0)
        results[f"{view}, {name}"] = found
        print(f"{name}: {found.summary()}")


def headline(view, name, variable="headline"):
    """Value and interval of a view's headline, in layers; NaN where there is none."""
    found = results.get(f"{view}, {name}")
    if found is None or variable not in found.data:
        return (math.nan,) * 3
    return tuple(float(found.data[f"{variable}{end}"]) for end in ("", "_low", "_high"))


# %% 3 Memory against no memory, with every null that was trained: other seeds, shuffled ids, equal loss
pairs = [*family.pairs("engram", "dense"), *family.pairs("moe-engram", "moe")]
at_loss = {}
for run, base in pairs:
    name, baseline, again = f"{run.arm} seed {run.seed}", base.load(), family.another(base)
    reference = None if again is None else again.load()
    look(name, run.load(), baseline, reference)
    if run.kept():
        step, loss, earlier = run.at_loss(base.loss)
        at_loss[name] = f"equal loss: {name} at step {step:,}, {loss:.3f} for the baseline's {base.loss:.3f}"
        print(at_loss[name])
        look(f"{name} at equal loss", earlier, baseline, reference)
for run, base in family.pairs("shuffled", "dense"):
    again = family.another(base)
    look(f"shuffled seed {run.seed}", run.load(), base.load(), None if again is None else again.load())

# %% 4 For scale: how one or two more layers read, in models without memory
for deeper in ("deeper-1", "deeper-2"):
    if deeper in family and "dense" in family:
        found = depth.compare(
            family.first(deeper).load(),
            family.first("dense").load(),
            texts,
            first_memory_layer=1,
            n_boot=n_boot,
            seed=0,
        )
        results[f"CKA, {deeper}"] = found
        print(found.summary())

# %% 5 The tuned lens, where the package has one, for a second opinion on the first
if not RUNS:
    tuned = lens_depth.compare(
        family.first("engram").load(),
        family.first("dense").load(),
        texts,
        lens="tuned",
        n_boot=n_boot,
        seed=0,
    )
    results["tuned lens, engram"] = tuned
    print(tuned.summary())

# %% 6 The measures: each view must lie beyond 0 and beyond every null of its own
OTHER_SEED = {"CKA": "null_headline", "lens": "reference_headline"}


def nulls(view, name):
    """What a view must exceed, by name: (value, low, high) in layers."""
    every = {"0": (0.0, 0.0, 0.0)}
    every["before the first read"] = headline(view, name, "control_shift")
    if view in OTHER_SEED:
        every["another baseline seed"] = headline(view, name, OTHER_SEED[view])
    if name.startswith("engram"):
        for run in family.runs.get("shuffled", {}).values():
            every[f"shuffled ids, seed {run.seed}"] = headline(view, f"shuffled seed {run.seed}")
    return {what: ends for what, ends in every.items() if not math.isnan(ends[0])}


measures = []
names = [f"{run.arm} seed {run.seed}" for run, _ in pairs]
for name in [one + part for one in names for part in ("", " at equal loss")]:
    for view in WHOLE:
        value, low, high = headline(view, name)
        if f"{view}, {name}" not in results:
            continue
        beside = nulls(view, name)
        ends = [end for ends in beside.values() for end in ends if not math.isnan(end)]
        measures.append(
            claims.Measure(
                label=f"{view}, {name}",
                value=value,
                low=low,
                high=high,
                unit="layers",
                null=0.0,
                null_low=min(ends),
                null_high=max(ends),
                compared_with=", ".join(beside),
                expects="above",
            )
        )
for key in ("CKA, deeper-1", "CKA, deeper-2", "tuned lens, engram"):
    if key in results:
        measures.append(claims.Measure.of(results[key].data, "headline", label=key, null=0.0, role="beside"))

# %% 7 The verdict: views that agree are a finding, one alone is a picture
lacking = (
    family.lacking("engram", "dense", "moe-engram", "moe", "shuffled")
    if RUNS
    else "the control arms are not in the package"
)
if RUNS and len(family.runs.get("dense", {})) < 2:
    lacking += f"{'; ' if lacking else ''}no second seed of the baseline"
verdict = claims.verdict(
    1,
    measures,
    scope=family.scope("engram", "dense"),
    models=models.values(),
    remark="; ".join(part for part in (*at_loss.values(), lacking) if part),
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, {key.replace(", ", "-").replace(" ", "-"): each for key, each in results.items()})
verdict.plot()

# %% 8
print(verdict.summary())
