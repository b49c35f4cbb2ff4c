"""Claim 7: is it only bigram statistics? An ungated table of bigrams as large, and the orders one by one.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-07.nc``, its results and
figure to ``runs/claim_07_bigrams`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained, in place of the packaged pair. The arm "bigram", which has no convolution either, is
compared with "no-conv", and beside that with "engram", by ENGRAM_INTERP_LOSSES, which ``engram-interp
losses`` saved of them, or on ENGRAM_INTERP_TEXT, a held-out text; for the packaged pair by the losses in the
package.
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
results, models = {}, []
runs = list(family.runs["engram"].values())

# %% 2 What each order is worth to the model that learnt to use it: other rows of the same heads, and none
for run in runs:
    model = run.load()
    models.append(model)
    for order in (2, 3):
        found = ablation.effect(
            model, texts, kinds=["rows_random", "rows_zero"], orders=[order], n_boot=n_boot, seed=0
        )
        results[f"order-{order}-seed{run.seed}"] = found
        print(f"seed {run.seed}, order {order}: {found.summary()}")
        found.plot()


# %% 3 A table of bigrams without a gate, as large, from the same weights on the same batches
losses = arm_losses.told(family, text=TEXT, saved=LOSSES, n_boot=n_boot)
if losses is not None:
    results["losses"] = losses
    print(losses.summary())


def between(arm, reference):
    """Cells that compare an arm's losses with another's on the same tokens, by run."""
    if losses is None or not {arm, reference} <= set(losses.data["arm"].values.tolist()):
        return {}
    return arm_losses.join([losses], references=(reference,), n_boot=n_boot).between(arm, reference)


# The bigram table has no convolution: against "engram" it would be judged by what that one's is worth.
alike, whole, again = between("bigram", "no-conv"), between("bigram", "engram"), between("engram", "engram")
measures = []
for name, cell in alike.items():  # another seed may do as much: the interval holds that
    low, high = losses.over_seeds(cell)
    measures.append(
        claims.Measure.of(
            cell,
            "difference",
            low=low,
            high=high,
            label=f"loss of {name} less that of a memory without convolution, over documents and seeds",
            null=0.0,
            compared_with="no difference",
            expects="within",
            margin=MARGIN,
        )
    )
beside = [
    claims.Measure.of(cell, "difference", label=f"loss of {name} less that of engram", role="beside")
    for name, cell in (whole | between("no-conv", "engram")).items()
]
measures += beside
measures += [
    claims.Measure.of(cell, "difference", label=f"another seed, {name}", role="beside")
    for name, cell in again.items()
]

# %% 4 Beside it: each order's worth, and by how often training read the rows
for name in [name for name in results if name.startswith("order-")]:
    data, where = (
        results[name].data.sel(kind="rows_random"),
        name.replace("-seed", ", seed ").replace("-", " "),
    )
    measures.append(
        claims.Measure.of(
            data,
            "delta_loss",
            label=f"other rows of {where}",
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
                    label=f"other rows of {where}, by {data.attrs['strata']}: {stratum}",
                    null="stratum_control_delta_loss",
                    compared_with="random change of the same size",
                    role="beside",
                )
            )

# %% 5 The verdict
third = [
    claims.Measure.of(
        results[f"order-3-seed{run.seed}"].data.sel(kind="rows_random"),
        "delta_loss",
        label=f"other rows of order 3 cost seed {run.seed}",
        role="beside",
    )
    for run in runs
]
remarks = [] if losses is None else [losses.basis()]
remarks += [] if alike else ["no losses of the bigram arm and of one without convolution"]
remarks += [f"{measure.said()}, which learnt to use them" for measure in third]
remarks += [measure.said() for measure in beside]
remarks += [] if again else ["no second seed shows what a seed does"]

verdict = claims.verdict(
    7,
    measures,
    scope=family.scope("engram", "bigram", "no-conv"),
    models=models,
    rule="views",
    remark="; ".join(remarks),
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 6
print(verdict.summary())
