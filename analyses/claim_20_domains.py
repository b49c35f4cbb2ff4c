"""Claim 20: does a memory gain more on prose than on program code?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-20.nc``, its results and
figure to ``runs/claim_20_domains`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean nothing.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: "engram" is then set against "dense" in every seed, with "shuffled" beside it.
"""

# %% 1 The arms, the packaged prose, and pieces of the running Python's own library
import os
import platform
from pathlib import Path

from engram_interp import arms, claims, domains
from engram_interp.data import prompts, source_code

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", "runs/claim_20_domains"))
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

# %% 3 The measures: per byte, since a token of code is less text
WORDS = {"byte": "a byte", "token": "a token", "loss": "of the baseline's loss"}
UNITS = {"byte": "nats a byte", "token": "nats", "loss": "%"}
measures = []
for name, found in results.items():
    where = name.removeprefix("gain-")
    for per, unit in UNITS.items():
        decides = per == "byte" and where.startswith("engram")
        measures.append(
            claims.Measure.of(
                found.data.sel(domain="prose", per=per),
                "difference",
                label=f"gain on prose less gain on code, {WORDS[per]}, {where}",
                unit=unit,
                null=0.0,
                compared_with="no difference",
                **({"expects": "above"} if decides else {"role": "beside"}),
            )
        )
    for domain in found.data["domain"].values:
        cell = found.data.sel(domain=domain, per="byte")
        measures.append(
            claims.Measure.of(
                cell, "gain", label=f"gain on {domain}, {where}", unit=UNITS["byte"], null=0.0, role="beside"
            )
        )

# %% 4 The verdict
version = platform.python_version()
verdict = claims.verdict(
    20,
    measures,
    scope=family.scope("engram", "dense"),
    models=models,
    remark="the models were trained on English Wikipedia alone, so code is strange to both",
    provenance={"code": f"the library of Python {version}", "text_digest": prose.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
