"""Claim 20: does a memory gain more on prose than on program code?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-20.nc``, its results and
figure to ``runs/claim_20_domains`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: "engram" is then set against "dense" in every seed, with "shuffled" beside it.
"""

# %% 1 The arms, the packaged prose, and pieces of the running Python's own library
import math
import os
import platform
import sys
from pathlib import Path

from engram_interp import arms, claims, domains
from engram_interp.data import prompts, source_code

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_20_domains"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
prose = prompts.load("entities")
prose = prose.head(4) if QUICK else prose
texts = {"code": source_code.load(len(prose), seed=0), "prose": prose}
how = {"n_boot": 20 if QUICK else 1000, "seed": 0}

# %% 2 Loss of the baseline less that of the model in both
results, models = {}, []
for arm in ("engram", "shuffled"):
    for run, base in family.pairs(arm, "dense"):
        model, baseline = run.load(), base.load()
        models += [model, baseline]
        found = domains.gain(model, baseline, texts, **how)
        results[f"gain-{arm}-seed{run.seed}"] = found
        print(found.summary())
        found.plot()

# %% 3 What else differs from the baseline: another seed of it (a memory told nothing was measured above)
again = family.another(family.first("dense"))
if again is not None:
    model, baseline = again.load(), family.first("dense").load()
    models += [model, baseline]
    results["gain-another-seed"] = domains.gain(model, baseline, texts, **how)
    print(f"another seed: {results['gain-another-seed'].summary()}")


def nulls(per):
    """What the difference must exceed: both ends, and of what."""
    every = {"no difference": [0.0]}
    for name, found in results.items():
        if name == "gain-another-seed" or name.startswith("gain-shuffled"):
            cell = found.data.sel(domain="prose", per=per)
            ends = [float(cell[f"difference{end}"]) for end in ("_low", "_high")]
            # Which of two seeds is the baseline is chance.
            every[name.removeprefix("gain-")] = ends + ([-end for end in ends] if "another" in name else [])
    numbers = [x for ends in every.values() for x in ends if not math.isnan(x)]
    return {
        "null_low": min(numbers),
        "null_high": max(numbers),
        "compared_with": f"range over {', '.join(every)}",
    }


# %% 4 The measures: per byte, since a token of code is less text
WORDS = {"byte": "a byte", "token": "a token", "loss": "of the baseline's loss"}
UNITS = {"byte": "nats a byte", "token": "nats", "loss": "%"}
measures = []
for name, found in results.items():
    where = name.removeprefix("gain-")
    if where == "another-seed":
        continue
    for per, unit in UNITS.items():
        decides = per == "byte" and where.startswith("engram")
        measures.append(
            claims.Measure.of(
                found.data.sel(domain="prose", per=per),
                "difference",
                label=f"gain on prose less gain on code, {WORDS[per]}, {where}",
                unit=unit,
                null=0.0,
                **(nulls(per) | {"expects": "above"} if decides else {"role": "beside"}),
            )
        )
    for domain in found.data["domain"].values:
        cell = found.data.sel(domain=domain, per="byte")
        measures.append(
            claims.Measure.of(
                cell, "gain", label=f"gain on {domain}, {where}", unit=UNITS["byte"], null=0.0, role="beside"
            )
        )

if again is None:  # a difference that another seed may make as well says nothing of the memory
    measures.append(
        claims.Measure(
            label="the same between two seeds of the baseline",
            value=math.nan,
            expects="above",
            role="control",
        )
    )

# %% 5 The verdict
version = platform.python_version()
other = [m.said() for m in measures if m.role == "beside" and ", a token, engram" in m.label]
remarks = ["the models were trained on English Wikipedia alone, so code is strange to both", *other]
remarks += [] if again else ["no second seed of the baseline"]
verdict = claims.verdict(
    20,
    measures,
    scope=family.scope("engram", "dense"),
    models=models,
    remark="; ".join(remarks),
    provenance={"code": f"the library of Python {version}", "text_digest": prose.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 6
print(verdict.summary())
