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
PAIRS = [(one, other) for one, other in (("engram", "dense"), ("moe-engram", "moe")) if one in family]
PAIRS = [(one, other) for one, other in PAIRS if other in family]
at_loss = {}
for memory, plain in PAIRS:
    run, base = family.first(memory), family.first(plain)
    baseline, again = base.load(), family.second(plain)
    reference = None if again is None else again.load()
    look(memory, run.load(), baseline, reference)
    if memory == "engram" and "shuffled" in family:
        look("shuffled", family.first("shuffled").load(), baseline, reference)
    if run.kept():
        step, loss, earlier = run.at_loss(base.loss)
        at_loss[memory] = (
            f"step {step:,} of {memory}, held-out loss {loss:.3f} for the baseline's {base.loss:.3f}"
        )
        print(at_loss[memory])
        look(f"{memory} at equal loss", earlier, baseline, reference)

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
        every["shuffled ids"] = headline(view, "shuffled")
    return {what: ends for what, ends in every.items() if not math.isnan(ends[0])}


measures = []
for name in [one + part for one, _ in PAIRS for part in ("", " at equal loss")]:
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
    family.lacking("moe-engram", "moe", "shuffled") if RUNS else "the control arms are not in the package"
)
if RUNS and family.second("dense") is None:
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
