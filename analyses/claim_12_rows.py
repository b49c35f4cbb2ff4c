"""Claim 12: do rows of the tail stay untrained, or collapse?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-12.nc``, its results and
figure to ``runs/claim_12_rows`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 draws few bootstraps: its numbers mean nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: every finished seed of "engram" is then measured.
"""

# %% 1 The arms; rows need no prompts
import os
import sys
from dataclasses import replace
from pathlib import Path

from engram_interp import arms, claims, slots

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_12_rows"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")
MOVED, SPAN = 1.0, 0.75  # initial norms that count as trained; share of the initial rank that counts as whole
RARE = 50.0  # training hits; a row with more is not one of the tail

family = arms.load(RUNS) if RUNS else arms.bundled()
how = {"n_boot": 20 if QUICK else 300, "seed": 0}

# %% 2 Every row beside its own initial state, by training hits
results, models = {}, []
for run in family.runs["engram"].values():
    model = run.load()
    models.append(model)
    found = slots.trained_rows(model, **how)
    results[f"rows-seed{run.seed}"] = found
    print(found.summary())
    found.plot()

# %% 3 The measures, on the tenth of the rows that training hit least
measures = []
for name, found in results.items():
    for layer in found.data["layer"].values:
        at = f"{name.removeprefix('rows-')}, layer {layer}"
        cells = {str(group): found.data.sel(layer=layer, group=group) for group in found.data["group"].values}
        least = cells["tenth hit least"]
        whole = SPAN * float(least["initial_rank"])
        moved = claims.Measure.of(
            least,
            "moved",
            label=f"how far the tenth hit least has moved, {at}",
            null=MOVED,
            compared_with="its initial norm",
            expects="below",
        )
        rank = claims.Measure.of(
            least,
            "rank",
            label=f"effective rank of the tenth hit least, {at}",
            null=whole,
            compared_with=f"{SPAN:g} of that at first",
            expects="below",
        )
        # Rows that have not moved span what they did at first; those that have may have moved together.
        moved, rank = {
            "supports": (moved, replace(rank, role="beside")),
            "contradicts": (replace(moved, role="beside"), rank),
            "open": (moved, rank),
        }[moved.says()]
        hits = float(least["hits"])
        measures += [
            moved,
            rank,
            claims.Measure(
                label=f"median training hits of the tenth hit least, {at}",
                value=hits,
                low=hits,
                high=hits,
                unit="hits",
                null=RARE,
                compared_with="what counts as rare",
                expects="below",
                role="control",
            ),
            claims.Measure.of(
                least,
                "cosine",
                label=f"cosine with its own initial state, {at}",
                null="other_cosine",
                compared_with="another initialisation",
                expects="above",
                role="control",
            ),
            claims.Measure.of(
                cells["tenth hit most"],
                "moved",
                label=f"how far the tenth hit most has moved, {at}",
                role="beside",
            ),
        ]
        never = int(cells["0"]["rows"]) / sum(int(cells[group]["rows"]) for group in list(cells)[:4])
        measures.append(
            claims.Measure(
                label=f"rows never hit, {at}",
                value=100 * never,
                low=100 * never,
                high=100 * never,
                unit="%",
                role="beside",
            )
        )

# %% 4 The verdict
verdict = claims.verdict(
    12, measures, scope=family.scope("engram"), models=models, rule="views", provenance=how
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
