"""Claim 16: does the gate suppress memory that conflicts with the context?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-16.nc``, its results and
figure to ``runs/claim_16_conflict`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: every finished seed of "engram" and "moe-engram" is then measured.
"""

# %% 1 The arms and the passages
import os
import sys
from pathlib import Path

from engram_interp import arms, claims, gates
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_16_conflict"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
n_inits = 2 if QUICK else 20
how = {"n_boot": 20 if QUICK else 1000, "n_inits": n_inits, "init_documents": len(texts), "seed": 0}

# %% 2 At the same query: the gate on the token's own rows against others', beside fresh initialisations
results, models = {}, []
for arm in ("engram", "moe-engram"):
    for run in family.runs.get(arm, {}).values():
        model = run.load()
        models.append(model)
        found = gates.selectivity(model, texts, **how)
        results[f"selectivity-{arm}-seed{run.seed}"] = found
        print(found.summary())
        found.plot()

# %% 3 The measures: every layer and stream, both kinds of other rows, none selected
measures = []
for name, found in results.items():
    where = name.removeprefix("selectivity-")
    for other in found.data["other"].values:
        for layer in found.data["layer"].values:
            for stream in range(found.data.sizes["stream"]):
                cell = found.data.sel(layer=layer, other=other).isel(stream=stream)
                at = f"layer {layer}" + (f", stream {stream}" if found.data.sizes["stream"] > 1 else "")
                measures.append(
                    claims.Measure.of(
                        cell,
                        "conflict_auc",
                        label=f"AUC, own rows against {other}, {where}, {at}",
                        null="null_conflict_auc",
                        compared_with=f"range of {n_inits} untrained initialisations",
                        expects="above",
                    )
                )

# %% 4 The verdict
verdict = claims.verdict(
    16,
    measures,
    scope=family.scope("engram"),
    models=models,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
