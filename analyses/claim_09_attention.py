"""Claim 9: does a memory free attention for distance?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-09.nc``, its results and
figure to ``runs/claim_09_attention`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: "engram" is then set against "dense" in every seed, and must go beyond another seed of
"dense" and beyond "shuffled", whose memory is told nothing of the n-gram.
"""

# %% 1 The arms, and the longest passages: nothing can be far in a short text
import math
import os
import sys
from pathlib import Path

from engram_interp import arms, attention, claims
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_09_attention"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
how = {"n_boot": 20 if QUICK else 1000, "seed": 0}

# %% 2 Mean distance of attention by layer against the baseline's; the gates shut in the same model beside it
results, models = {}, []


def look(model, baseline, name):
    """The reach of a model's attention beside a baseline's, kept under a name."""
    models.extend([model, baseline])
    results[name] = attention.reach(model, texts, baseline=baseline, **how)
    print(f"{name}: {results[name].summary()}")


for run, base in family.pairs("engram", "dense"):
    look(run.load(), base.load(), f"reach-seed{run.seed}")
results[next(iter(results))].plot()

# %% 3 What else differs from the baseline: another seed of it, and a memory that is told nothing
again = family.another(family.first("dense"))
if again is not None:
    look(again.load(), family.first("dense").load(), "reach-another-seed")
for run, base in family.pairs("shuffled", "dense")[:1]:
    look(run.load(), base.load(), "reach-shuffled")


# %% 4 The measures: every layer from the first read on, beyond the layers before it and beyond those
def nulls(layer, before):
    """What a layer's difference must exceed, in tokens: both ends, and of what."""
    every = {"no difference": [0.0]}
    same = results[name].data.sel(condition="engram", statistic="distance")
    if before:
        ends = [same[f"difference{end}"].sel(layer=before).values.tolist() for end in ("_low", "_high")]
        every["layers before the first read"] = [*ends[0], *ends[1]]
    for other, words in (("reach-another-seed", "another baseline seed"), ("reach-shuffled", "shuffled ids")):
        if other in results:
            cell = results[other].data.sel(condition="engram", statistic="distance", layer=layer)
            every[words] = [float(cell[f"difference{end}"]) for end in ("_low", "_high")]
            if other == "reach-another-seed":  # which of two seeds is the baseline is chance
                every[words] += [-end for end in every[words]]
    numbers = [x for ends in every.values() for x in ends if not math.isnan(x)]
    return {"null_low": min(numbers), "null_high": max(numbers), "compared_with": ", ".join(every)}


measures = []
for name, found in results.items():
    if not name.startswith("reach-seed"):
        continue
    first = int(str(found.data.attrs["memory_layers"]).split(", ")[0])
    engram = found.data.sel(condition="engram")
    for layer in range(first, engram.sizes["layer"]):
        at = f"{name.removeprefix('reach-')}, layer {layer}"
        cell = engram.sel(layer=layer)
        measures += [
            claims.Measure.of(
                cell.sel(statistic="distance"),
                "difference",
                label=f"distance less the baseline's, {at}",
                unit="tokens",
                null=0.0,
                expects="above",
                **nulls(layer, list(range(first))),
            ),
            claims.Measure.of(
                cell.sel(statistic="near"),
                "difference",
                label=f"share of the last four tokens less the baseline's, {at}",
                unit="1",
                null=0.0,
                role="beside",
            ),
        ]

# %% 5 The verdict
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
    9,
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
