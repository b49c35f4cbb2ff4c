"""Claim 7: is it only bigram statistics? An ungated table of bigrams as large, and the orders one by one.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-07.nc``, its results and
figure to ``runs/claim_07_bigrams`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained, in place of the packaged pair. The arm "bigram" is compared with
"engram" by ENGRAM_INTERP_LOSSES, which ``engram-interp losses`` saved of them, or on ENGRAM_INTERP_TEXT,
a held-out text; for the packaged pair by the losses in the package.
"""

# %% 1 The arms, and the texts that losses are measured on
import math
import os
import sys
from pathlib import Path

from engram_interp import ablation, arm_losses, arms, claims
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_07_bigrams"))
RUNS, TEXT, LOSSES = (os.environ.get(f"ENGRAM_INTERP_{name}") for name in ("RUNS", "TEXT", "LOSSES"))
MARGIN = 0.02  # nats a token: what the claim calls no difference

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
n_boot = 20 if QUICK else 1000
model = family.first("engram").load()
results, models = {}, [model]

# %% 2 What each order is worth to the model that learnt to use it: other rows of the same heads, and none
for order in (2, 3):
    found = ablation.effect(
        model, texts, kinds=["rows_random", "rows_zero"], orders=[order], n_boot=n_boot, seed=0
    )
    results[f"order-{order}"] = found
    print(f"order {order}: {found.summary()}")
    found.plot()


# %% 3 A table of bigrams without a gate, as large, from the same weights on the same batches
losses = arm_losses.told(family, text=TEXT, saved=LOSSES, n_boot=n_boot)
if losses is not None:
    results["losses"] = losses
    print(losses.summary())


def between(arm, reference="engram"):
    """Cells that compare an arm's losses with another's on the same tokens, by run."""
    return {} if losses is None else losses.between(arm, reference)


def within(cell, label, role="decides"):
    """A difference of losses that the claim expects to be none."""
    return claims.Measure.of(
        cell,
        "difference",
        label=label,
        null=0.0,
        compared_with="no difference",
        expects="within",
        margin=MARGIN,
        role=role,
    )


bigram, again = between("bigram"), between("engram")
measures = [within(cell, f"loss of {name} less engram's") for name, cell in bigram.items()]
measures += [within(cell, f"another seed, {name}", role="control") for name, cell in again.items()]

# %% 4 Beside it: each order's worth, and by how often training saw the n-gram
for order in (2, 3):
    data = results[f"order-{order}"].data.sel(kind="rows_random")
    measures.append(
        claims.Measure.of(
            data,
            "delta_loss",
            label=f"other rows of order {order}",
            null="control_delta_loss",
            compared_with="random change of the same size",
            role="beside",
        )
    )
    for stratum in data["stratum"].values:
        cell = data.sel(stratum=stratum)
        if int(cell["stratum_tokens"]) and not math.isnan(float(cell["stratum_delta_loss_low"])):
            measures.append(
                claims.Measure.of(
                    cell,
                    "stratum_delta_loss",
                    label=f"other rows of order {order}, n-gram seen {stratum} times",
                    null="stratum_control_delta_loss",
                    compared_with="random change of the same size",
                    role="beside",
                )
            )

# %% 5 The verdict
third = claims.Measure.of(
    results["order-3"].data.sel(kind="rows_random"),
    "delta_loss",
    label="other rows of order 3 cost",
    role="beside",
)
remarks = [] if losses is None else [losses.basis()]
remarks += [] if bigram else ["no losses of the bigram arm"]
remarks += [f"{third.said()}, in a model that learnt to use them"]
remarks += [] if again else ["no second seed shows what a seed does"]

verdict = claims.verdict(
    7,
    measures,
    scope=family.scope("engram", "bigram"),
    models=models,
    rule="views",
    remark="; ".join(remarks),
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 6
print(verdict.summary())
