"""Claim 3: do gates open where a named entity is complete, more than an untrained model's do?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-03.nc``, its results and
figure to ``runs/claim_03_gates_at_entities`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: every finished seed of "engram" and
"moe-engram" is then measured. Without it the packaged pair is. ENGRAM_INTERP_ENTITIES names a file of
``token<TAB>label`` lines, such as Few-NERD's, to take 400 sentences of in place of the packaged passages.
"""

# %% 1 The arms and the passages with their entities
import os
import sys
from pathlib import Path

from engram_interp import arms, claims, gates
from engram_interp.data import prompts, public_sets

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_03_gates_at_entities"))
RUNS, ENTITIES = os.environ.get("ENGRAM_INTERP_RUNS"), os.environ.get("ENGRAM_INTERP_ENTITIES")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = public_sets.few_nerd(ENTITIES) if ENTITIES else prompts.load("entities")
texts = texts.head(4) if QUICK else texts
n_inits = 2 if QUICK else 20
how = {"n_boot": 20 if QUICK else 1000, "n_inits": n_inits, "init_documents": len(texts), "seed": 0}

# %% 2 The gates of every seed at entity ends against elsewhere, beside fresh initialisations
results, models = {}, []
for arm in ("engram", "moe-engram"):
    for run in family.runs.get(arm, {}).values():
        model = run.load()
        models.append(model)
        found = gates.selectivity(model, texts, **how)
        results[f"selectivity-{arm}-seed{run.seed}"] = found
        print(found.summary())

# %% 3 The measures: every layer and stream, none selected
measures = []
for name, found in results.items():
    where = name.removeprefix("selectivity-")
    for layer in found.data["layer"].values:
        for stream in range(found.data.sizes["stream"]):
            cell = found.data.sel(layer=layer).isel(stream=stream)
            at = f"layer {layer}" + (f", stream {stream}" if found.data.sizes["stream"] > 1 else "")
            measures.append(
                claims.Measure.of(
                    cell,
                    "entity_auc",
                    label=f"AUC at entity ends, {where}, {at}",
                    null="null_entity_auc",
                    compared_with=f"range of {n_inits} untrained initialisations",
                    expects="above",
                )
            )
            measures.append(
                claims.Measure.of(
                    cell,
                    "entity_difference",
                    label=f"mean gate there less elsewhere, {where}, {at}",
                    null="null_entity_difference",
                    compared_with=f"range of {n_inits} untrained initialisations",
                    role="beside",
                )
            )

# %% 4 The verdict
verdict = claims.verdict(
    3,
    measures,
    scope=family.scope("engram"),
    models=models,
    remark=family.lacking("engram", "moe-engram") if RUNS else "",
    provenance={"n_documents": len(texts), "text_digest": texts.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
