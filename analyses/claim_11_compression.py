"""Claim 11: does it matter that n-grams are of normalised tokens?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-11.nc``, its results and
figure to ``runs/claim_11_compression`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean nothing.
ENGRAM_INTERP_OUT names another folder to write to, ENGRAM_INTERP_TEXT a held-out text to measure
losses on in place of the packaged passages; ENGRAM_INTERP_RUNS a folder of arms that
``engram-interp family`` trained: "raw-ids" is then compared with "engram".
In the packaged pair only how much the map merges can be told, which decides nothing.
"""

# %% 1 The arms, and the texts that losses are measured on
import math
import os
from itertools import islice
from pathlib import Path

from engram_interp import arms, claims, domains
from engram_interp.data import documents, prompts

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", "runs/claim_11_compression"))
RUNS, TEXT = os.environ.get("ENGRAM_INTERP_RUNS"), os.environ.get("ENGRAM_INTERP_TEXT")

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
def loss_over(one, other):
    """Loss of one run less that of another on the same tokens, in nats a token, over documents."""
    subject, against = one.load(), other.load()
    found = domains.gain(against, subject, {"passages": texts}, n_boot=n_boot, seed=0)
    results[f"loss-{one.name}-{other.name}"] = found
    models.extend([subject, against])
    return found.data.sel(domain="passages", per="token")


def above(data, label):
    """A loss that the claim expects to be higher, by more than another seed moves it."""
    return claims.Measure.of(
        data,
        "gain",
        unit="nats",
        label=label,
        null=0.0 if again else math.nan,
        null_low=-spread,
        null_high=spread,
        compared_with="another seed of engram",
        expects="above",
    )


seeds = None
if again is not None:
    seeds = claims.Measure.of(
        loss_over(again, run), "gain", unit="nats", label="another seed of engram", role="beside"
    )
spread = math.nan if seeds is None else abs(seeds.value)  # without a second seed the claim stays open
measures = [
    above(loss_over(one, other), f"loss with raw ids less engram's, seed {one.seed}")
    for one, other in family.pairs("raw-ids", "engram")
]
measures += [] if seeds is None else [seeds]
shares = [
    claims.Measure(label=f"distinct n-grams of order {order} merged", value=share, unit="%", role="beside")
    for order, share in merged.items()
]

# %% 4 The verdict
remark = (
    f"the map merges {merged[2]:.1f} % of the distinct n-grams of order 2 and {merged[3]:.1f} % of order 3"
)
if absent := family.lacking("raw-ids") if RUNS else "the arm with raw ids is not in the package":
    remark = f"{absent}; {remark}"
if RUNS and again is None:
    remark += f"{'; ' if remark else ''}no second seed shows what a seed does"

verdict = claims.verdict(
    11,
    [*measures, *shares],
    scope=family.scope("engram", "raw-ids"),
    models=models,
    rule="views",
    remark=remark,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
