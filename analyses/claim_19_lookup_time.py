"""Claim 19: does a look-up take longer in a larger table?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-19.nc``, its results and
figure to ``runs/claim_19_lookup_time`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes small tables and few rounds: its numbers mean nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to. No model is read, only random rows: on
another machine the numbers are others. Leave the machine alone while it runs.
"""

# %% 1 Sizes: from one that lies in a processor's caches to one that does not
import os
import sys
from pathlib import Path

from engram_interp import arms, claims, lookup_time
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_19_lookup_time"))
MARGIN = 0.15  # share of the smallest table's time
SIZES = (1, 4) if QUICK else (1, 10, 100, 1000)

# %% 2 Look-ups in all of them in turns, with cold and with warm caches
found = lookup_time.measure(SIZES, rounds=5 if QUICK else 40, n_boot=20 if QUICK else 1000, seed=0)
print(found.summary())
found.plot()

# %% 3 For scale: a forward pass of the packaged model, timed by the same clock
import time

model = arms.bundled().first("engram").load()
tokens = model.to_tokens(" ".join(prompts.load("entities").texts[:8]))[:, : model.n_ctx]
spans = []
for _ in range(2 if QUICK else 10):
    start = time.perf_counter()
    model.logits(tokens)
    spans.append(1e6 * (time.perf_counter() - start) / tokens.shape[1])

# %% 4 The measures: the whole look-up decides, its parts say where the time goes
last, parts = found.data.isel(megabytes=-1), {"look-up": "decides", "hash": "beside", "gather": "beside"}
measures = []
for state in found.data["state"].values:
    for part, role in parts.items():
        measures.append(
            claims.Measure.of(
                last.sel(state=state, part=part),
                "ratio",
                label=f"time of the {part} in {SIZES[-1]:,} MB over {SIZES[0]} MB, {state}",
                null=1.0,
                compared_with="no growth",
                **({"expects": "within", "margin": MARGIN} if role == "decides" else {"role": "beside"}),
            )
        )
cold = float(last["microseconds"].sel(state="cold", part="look-up"))
measures.append(
    claims.Measure(
        label=f"a cold look-up in {SIZES[-1]:,} MB",
        value=cold,
        unit="µs a token",
        null=sorted(spans)[len(spans) // 2],
        compared_with="a forward pass of the packaged model",
        role="beside",
    )
)

# %% 5 The verdict: the algorithm does not grow, but rows that no cache holds take longer to fetch
verdict = claims.verdict(
    19,
    measures,
    scope="in host memory on this machine, rows drawn evenly",
    rule="views",
    remark=measures[-1].said(),
    provenance={"rounds": 5 if QUICK else 40, "seed": 0},
)
claims.keep(verdict, OUT, {"lookup-time": found})
verdict.plot()

# %% 6
print(verdict.summary())
