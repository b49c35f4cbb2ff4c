"""Claim 18: do early layers do less beside a memory?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-18.nc``, its results and
figure to ``runs/claim_18_early_layers`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: "engram" is then set against "dense" in every seed, and must go beyond another seed of
"dense" and beyond "shuffled", whose memory is told nothing of the n-gram.
"""

# %% 1 The arms and the passages
import math
import os
import sys
from pathlib import Path

from engram_interp import arms, claims, skipping
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_18_early_layers"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(2) if QUICK else texts.head(60)
how = {"n_boot": 20 if QUICK else 1000, "seed": 0}

# %% 2 The cost of skipping each layer against the baseline's; where a layer reads memory, its write is kept
results, models = {}, []


def skip(model, baseline, name):
    """The cost of skipping every layer of a model beside a baseline's, kept under a name."""
    models.extend([model, baseline])
    results[name] = skipping.effect(model, texts, baseline=baseline, **how)
    print(f"{name}: {results[name].summary()}")


for run, base in family.pairs("engram", "dense"):
    skip(run.load(), base.load(), f"skipping-seed{run.seed}")
results[next(iter(results))].plot()

# %% 3 What else differs: another seed of the baseline, and a memory that is told nothing
again = family.another(family.first("dense"))
if again is not None:
    skip(again.load(), family.first("dense").load(), "skipping-another-seed")
for run, base in family.pairs("shuffled", "dense")[:1]:
    skip(run.load(), base.load(), "skipping-shuffled")


# %% 4 The measures: every layer of the first half
def cost(name, layer):
    """Difference to the baseline of skipping a layer, the memory's write kept where there is one."""
    data = results[name].data.sel(layer=layer)
    kept = layer in [int(i) for i in str(data.attrs["memory_layers"]).split(", ") if i]
    return data.sel(memory="kept" if kept else "skipped")


NULLS = {"skipping-another-seed": "another baseline seed", "skipping-shuffled": "shuffled ids"}
measures = []
for name, found in results.items():
    if not name.startswith("skipping-seed"):
        continue
    for layer in range(found.data.sizes["layer"] // 2):
        every = {"no difference": [0.0]}
        for other, words in NULLS.items():
            if other in results:
                every[words] = [float(cost(other, layer)[f"difference{end}"]) for end in ("_low", "_high")]
                if other == "skipping-another-seed":  # which of two seeds is the baseline is chance
                    every[words] += [-end for end in every[words]]
        numbers = [x for ends in every.values() for x in ends if not math.isnan(x)]
        measures.append(
            claims.Measure.of(
                cost(name, layer),
                "difference",
                label=f"cost of skipping layer {layer} less the baseline's, {name.removeprefix('skipping-')}",
                null=0.0,
                null_low=min(numbers),
                null_high=max(numbers),
                compared_with=", ".join(every),
                expects="below",
            )
        )

# %% 5 The verdict; a skipped model is off its training distribution, whatever the number says
absent = family.lacking("shuffled") if RUNS else "no control arm with as many parameters is in the package"
alone = "" if again else "no second seed of the baseline"
if again is None:  # a difference that another seed may make as well says nothing of the memory
    measures.append(
        claims.Measure(
            label="the same between two seeds of the baseline",
            value=math.nan,
            expects="above",
            role="control",
        )
    )
remark = "; ".join(part for part in (alone, absent) if part)
verdict = claims.verdict(
    18,
    measures,
    scope=family.scope("engram", "dense"),
    models=models,
    remark=remark,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 6
print(verdict.summary())
