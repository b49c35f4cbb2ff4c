"""Claim 5: does the gate prefer rows that training hit often, even where they hurt?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-05.nc``, its results and
figure to ``runs/claim_05_often_hit_rows`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: every finished seed of "engram" is then measured.
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
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_05_often_hit_rows"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
n_boot = 20 if QUICK else 1000
how = {"per_document": 2 if QUICK else 12, "n_inits": 2 if QUICK else 10, "n_boot": n_boot, "seed": 0}

# %% 2 Gates against the hits of their rows, over all sampled reads and over those that hurt
results, models = {}, []
for run in family.runs["engram"].values():
    model = run.load()
    models.append(model)
    found = gates.preference(model, texts, **how)
    results[f"preference-seed{run.seed}"] = found
    print(found.summary())
    found.plot()

# %% 3 The measures: every layer and stream, none selected
measures = []
WORDS = {"all": "all reads", "hurt": "reads that hurt"}
for name, found in results.items():
    seed = name.removeprefix("preference-")
    for layer in found.data["layer"].values:
        for stream in range(found.data.sizes["stream"]):
            cell = found.data.sel(layer=layer).isel(stream=stream)
            at = f"{seed}, layer {layer}" + (f", stream {stream}" if found.data.sizes["stream"] > 1 else "")
            measures += [
                claims.Measure.of(
                    cell.sel(read=read),
                    "correlation",
                    label=f"ρ of gate and hits, {words}, {at}",
                    null="null_correlation",
                    compared_with="untrained",
                    expects="above",
                )
                for read, words in WORDS.items()
            ]
        often, seldom = (found.data.sel(layer=layer, quarter=q) for q in ("most hits", "fewest hits"))
        beside = claims.Measure.of(seldom, "quarter_delta", label="", role="beside")
        measures.append(
            claims.Measure.of(
                often,
                "quarter_delta",
                label=f"cost of shutting, most hits, {seed}, layer {layer}",
                null=beside.value,
                null_low=beside.low,
                null_high=beside.high,
                compared_with="fewest hits",
                role="beside",
            )
        )

# %% 4 The verdict
verdict = claims.verdict(
    5,
    measures,
    scope=family.scope("engram"),
    models=models,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
