"""Claim 7: is it only bigram statistics? An ungated table of bigrams as large, and the orders one by one.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-07.nc``, its results and
figure to ``runs/claim_07_bigrams`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean nothing.
ENGRAM_INTERP_OUT names another folder to write to, ENGRAM_INTERP_TEXT a held-out text to measure
losses on in place of the packaged passages; ENGRAM_INTERP_RUNS a folder of arms that
``engram-interp family`` trained: "bigram" is then compared with "engram".
In the packaged pair only what each order is worth to the trained model can be told, which decides nothing.
"""

# %% 1 The arms, and the texts that losses are measured on
import math
import os
from itertools import islice
from pathlib import Path

from engram_interp import ablation, arms, claims, domains
from engram_interp.data import documents, prompts

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", "runs/claim_07_bigrams"))
RUNS, TEXT = os.environ.get("ENGRAM_INTERP_RUNS"), os.environ.get("ENGRAM_INTERP_TEXT")
MARGIN = 0.02  # nats a token: what the claim calls no difference

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
if TEXT:
    opened = [text[:800] for text in islice(documents.documents([TEXT]), 400)]
    texts = prompts.from_texts(opened, name=Path(TEXT).name)
texts = texts.head(4) if QUICK else texts
n_boot = 20 if QUICK else 1000
run = family.first("engram")
again = family.another(run)
model = run.load()
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
def loss_over(one, other):
    """Loss of one run less that of another on the same tokens, in nats a token, over documents."""
    subject, against = one.load(), other.load()
    found = domains.gain(against, subject, {"passages": texts}, n_boot=n_boot, seed=0)
    results[f"loss-{one.name}-{other.name}"] = found
    models.extend([subject, against])
    return found.data.sel(domain="passages", per="token")


def within(data, label, role="decides"):
    """A difference of losses that the claim expects to be none."""
    return claims.Measure.of(
        data,
        "gain",
        unit="nats",
        label=label,
        null=0.0,
        compared_with="no difference",
        expects="within",
        margin=MARGIN,
        role=role,
    )


measures = [
    within(loss_over(one, other), f"loss of the bigram arm less engram's, seed {one.seed}")
    for one, other in family.pairs("bigram", "engram")
]
if again is not None:
    measures.append(within(loss_over(again, run), "another seed of engram", role="control"))

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
remark = f"{third.said()}, in a model that learnt to use them"
if absent := family.lacking("bigram") if RUNS else "the bigram arm is not in the package":
    remark = f"{absent}; {remark}"
if RUNS and again is None:
    remark += f"{'; ' if remark else ''}no second seed shows what a seed does"

verdict = claims.verdict(
    7,
    measures,
    scope=family.scope("engram", "bigram"),
    models=models,
    rule="views",
    remark=remark,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 6
print(verdict.summary())
