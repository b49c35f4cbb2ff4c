"""Claim 1: does a memory make layers deeper? Similarity, prediction and function, each beside its nulls.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-01.nc``, its results and
figure to ``runs/claim_01_depth`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: the memory added to the dense model (engram, dense) and the one of equal size (moe-engram,
moe) are then compared, beside a second seed of the baseline, shuffled ids, deeper models, a memory in a model
of four residual streams and the two kept checkpoints between which the loss passed the baseline's (these
beside the baseline's other seed at the same step). Without it the packaged pair is measured alone.
"""

# %% 1 The arms, and the passages
import math
import os
import sys
from pathlib import Path

from engram_interp import arms, claims, depth, lens_depth, stitching
from engram_interp.checkpoints import load_model
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_01_depth"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
if QUICK:
    texts = prompts.from_texts(texts.texts[:8], name="quick")
n_boot = 20 if QUICK else 1000
WHOLE = {"CKA": depth.compare, "lens": lens_depth.compare, "stitching": stitching.compare}

# %% 2 One comparison by three views; whatever stands in the place of the model with memory is read alike
results, models = {}, {}


def look(name, model, baseline, reference=None, first=None):
    """The three views of one model against a baseline, from a layer on, kept under a name."""
    models.update({each.name: each for each in (model, baseline, reference) if each is not None})
    for view, compare in WHOLE.items():
        found = compare(
            model, baseline, texts, reference=reference, first_memory_layer=first, n_boot=n_boot, seed=0
        )
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
at_loss, compared, unmatched, unended = [], [], [], {}
for run, base in pairs:
    name, baseline, again = f"{run.arm} seed {run.seed}", base.load(), family.another(base)
    reference, model = None if again is None else again.load(), run.load()
    compared.append((name, base))
    look(name, model, baseline, reference)
    unmatched += [] if run.kept() else [f"{name} at equal loss, of which no weights were kept"]
    for step, less, earlier in run.around(base) if run.kept() else ():
        at = f"{name} {'before' if less > 0 else 'after'} equal loss"
        at_loss.append(f"{at}: step {step:,}, loss {less:+.3f} nats against the baseline's")
        print(at_loss[-1])
        compared.append((at, base))
        look(at, earlier, baseline, reference)
        if again is not None and step in again.kept():
            # What weights of this step alone make of the other seed. It is read against its own end, which it
            # resembles, so this null may be too narrow: no third seed stands between them.
            unended[at] = f"{again.arm} seed {again.seed} at step {step} against seed {base.seed}"
            other = load_model(again.kept()[step], name=f"{again.name} at step {step:,}")
            look(unended[at], other, baseline, reference, first=model.memory_layers[0])
    key = f"stitching, {base.name} beside another seed"
    if reference is not None and key not in results:  # the lens and CKA hold it themselves
        first = model.memory_layers[0]
        results[key] = stitching.compare(
            reference, baseline, texts, first_memory_layer=first, n_boot=n_boot, seed=0
        )
        print(f"another seed: {results[key].summary()}")
for run, base in [*family.pairs("shuffled", "dense"), *family.pairs("streams", "dense")]:
    again = family.another(base)
    look(f"{run.arm} seed {run.seed}", run.load(), base.load(), None if again is None else again.load())

# %% 4 For scale: how one or two more layers read, in models without memory
deeper = [f"deeper-{more}" for more in (1, 2) if f"deeper-{more}" in family and "dense" in family]
for arm in deeper:
    base = family.first("dense")
    again = family.another(base)
    look(arm, family.first(arm).load(), base.load(), None if again is None else again.load(), first=1)

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
shuffled, streams = (
    [f"{arm} seed {run.seed}" for run, _ in family.pairs(arm, "dense")] for arm in ("shuffled", "streams")
)


def nulls(view, name, base):
    """What a view must exceed, by name: numbers in layers."""
    if view in OTHER_SEED:
        again = headline(view, name, OTHER_SEED[view])
    else:
        again = headline(view, f"{base.name} beside another seed")
    every = {
        "before the first read": headline(view, name, "control_shift"),
        # Which of two seeds is the baseline is chance.
        "another baseline seed": (*again, *(-end for end in again)),
    }
    if name in unended:
        every[unended[name]] = headline(view, unended[name])
    if name.startswith("engram"):
        every |= {f"shuffled ids, seed {one.split()[-1]}": headline(view, one) for one in shuffled}
    return {"0": (0.0,)} | {what: ends for what, ends in every.items() if not math.isnan(ends[0])}


def measure(view, name, **facts):
    """One view of one comparison."""
    value, low, high = headline(view, name)
    return claims.Measure(
        label=f"{view}, {name}", value=value, low=low, high=high, unit="layers", null=0.0, **facts
    )


measures, alone = [], []
for name, base in compared:
    for view in WHOLE:
        beside = nulls(view, name, base)
        ends = [end for ends in beside.values() for end in ends if not math.isnan(end)]
        said = f"range over {', '.join(beside)}"
        facts = {"null_low": min(ends), "null_high": max(ends), "compared_with": said, "expects": "above"}
        measures.append(measure(view, name, **facts))
        alone += [] if "another baseline seed" in beside else [f"{view}, another seed of {base.name}"]
# A shift that another seed may make as well, or that goes with a better loss, says nothing of the memory.
for label in dict.fromkeys([*alone, *unmatched]):
    measures.append(claims.Measure(label=label, value=math.nan, expects="above", role="control"))
# A model of four streams differs from the baseline by more than its memory, so it decides nothing.
beside = (*shuffled, *streams, *deeper, *dict.fromkeys(unended.values()))
measures += [measure(view, name, role="beside") for name in beside for view in WHOLE]
if "tuned lens, engram" in results:
    measures.append(
        claims.Measure.of(
            results["tuned lens, engram"].data, "headline", label="tuned lens", null=0.0, role="beside"
        )
    )

# %% 7 The verdict: views that agree are a finding, one alone is a picture
lacking = (
    family.lacking("engram", "dense", "moe-engram", "moe", "shuffled")
    if RUNS
    else "the control arms are not in the package"
)
if at_loss:
    without = [at for at, _ in compared if at.endswith("equal loss") and at not in unended]
    at_loss.append(
        "those weights are from before the learning rate came down, the baseline's from after it"
        + (
            "; the baseline's other seed at the same step is among their nulls, read against its own end, "
            "which may be too narrow"
            if unended
            else ""
        )
        + (f"; no null of that kind was measured for {', '.join(without)}" if without else "")
    )
verdict = claims.verdict(
    1,
    measures,
    scope=family.scope("engram", "dense", "moe-engram", "moe"),
    models=models.values(),
    remark="; ".join(part for part in (*at_loss, lacking) if part),
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, {key.replace(", ", "-").replace(" ", "-"): each for key, each in results.items()})
verdict.plot()

# %% 8
print(verdict.summary())
