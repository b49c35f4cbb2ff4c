"""Claim 11: does it matter that n-grams are of normalised tokens?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-11.nc``, its results and
figure to ``runs/claim_11_compression`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained, in place of the packaged pair. The arm "raw-ids" is compared with
"engram" by ENGRAM_INTERP_LOSSES, which ``engram-interp losses`` saved of them, or on ENGRAM_INTERP_TEXT,
a held-out text; for the packaged pair by the losses in the package.
"""

# %% 1 The arms, and the texts that losses are measured on
import math
import os
import sys
from pathlib import Path

from engram_interp import arm_losses, arms, claims
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_11_compression"))
RUNS, TEXT, LOSSES = (os.environ.get(f"ENGRAM_INTERP_{name}") for name in ("RUNS", "TEXT", "LOSSES"))

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
n_boot = 20 if QUICK else 1000
model = family.first("engram").load()
results, models = {}, [model]

# %% 2 How many n-grams of a text the map makes one: distinct ones over token ids and over canonical ids
tokens = [model.to_tokens(text)[0].tolist() for text in texts.texts]


def distinct(order, ids):
    """Distinct n-grams of an order, within documents."""
    return len({tuple(one[i : i + order]) for one in ids for i in range(len(one) - order + 1)})


canonical = [[int(model.token_map[i]) for i in one] for one in tokens]
merged = {order: 100 * (1 - distinct(order, canonical) / distinct(order, tokens)) for order in (1, 2, 3)}
for order, share in merged.items():
    print(f"order {order}: the map merges {share:.1f} % of the distinct n-grams of these texts")


# %% 3 Trained over token ids as they are, from the same weights on the same batches
losses = arm_losses.told(family, text=TEXT, saved=LOSSES, n_boot=n_boot)
if losses is not None:
    results["losses"] = losses
    print(losses.summary())


def between(arm, reference="engram"):
    """Cells that compare an arm's losses with another's on the same tokens, by run."""
    return {} if losses is None else losses.between(arm, reference)


again = between("engram")
spread, freedom = (math.nan, 0) if losses is None else losses.between_seeds()


def above(cell, label):
    """A loss that the claim expects to be higher, by more than another seed moves it."""
    return claims.Measure.of(
        cell,
        "difference",
        label=label,
        null=0.0 if freedom else math.nan,  # without a second seed of any arm the claim stays open
        null_low=-spread,
        null_high=spread,
        compared_with="two runs that differ by seed alone",
        expects="above",
    )


raw = between("raw-ids")
measures = [above(cell, f"loss of {name} less engram's") for name, cell in raw.items()]
measures += [
    claims.Measure.of(cell, "difference", label=f"another seed, {name}", role="beside")
    for name, cell in again.items()
]
shares = [
    claims.Measure(label=f"distinct n-grams of order {order} merged", value=share, unit="%", role="beside")
    for order, share in merged.items()
]

# %% 4 The verdict
scope, remarks = family.scope("engram", "raw-ids"), []
if losses is not None and RUNS:
    remarks = [losses.basis()]
elif losses is not None:
    scope = f"by {losses.basis()}, the merged n-grams {scope}"
remarks += [] if raw else ["no losses of the arm with raw ids"]
remarks += [
    f"the map merges {merged[2]:.1f} % of the distinct n-grams of order 2 and {merged[3]:.1f} % of order 3"
]
remarks += [] if freedom else ["no second seed shows what a seed does"]

verdict = claims.verdict(
    11,
    [*measures, *shares],
    scope=scope,
    models=models,
    rule="views",
    remark="; ".join(remarks),
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
