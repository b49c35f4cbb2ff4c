"""Claim 8: are edits of the memory local, and do they compose?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-08.nc``, its results and
figure to ``runs/claim_08_edits`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: every finished seed of "engram" is then measured.
"""

# %% 1 The arms and the passages
import os
import sys
from pathlib import Path

import numpy as np

from engram_interp import arms, claims, editing
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_08_edits"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")
MARGIN = 0.02  # nats a token: what other n-grams may pay more than under a random change
COMPOSED = 0.8  # share of what each edit gains alone that is left when all are written

family = arms.load(RUNS) if RUNS else arms.bundled()
passages = prompts.load("entities")
texts = passages.head(3) if QUICK else passages
n_boot = 20 if QUICK else 1000


# %% 2 Twenty-four edits a model: n-grams of the passages and target tokens, drawn by a seed
def planned(model):
    """Edits of n-grams that end somewhere in the passages, each to a whole word."""
    generator = np.random.default_rng(0)
    tokens = [model.token_text(i) for i in range(model.d_vocab)]
    words = [i for i, text in enumerate(tokens) if text[:1] == " " and text[1:].isalpha()]
    edits = []
    for _ in range(2 if QUICK else 24):
        passage = passages.texts[int(generator.integers(len(passages)))].split(" ")
        context = " ".join(passage[: int(generator.integers(4, 16))])
        target = int(generator.choice(words))
        edits.append(editing.plan(model, context, target, corrections=8 if QUICK else 40))
    return edits


# %% 3 What they gain, alone and together, what they leave alone, and what they cost
results, models = {}, []
for run in family.runs["engram"].values():
    model = run.load()
    models.append(model)
    found = editing.evaluate(model, planned(model), texts, n_boot=n_boot, seed=0)
    results[f"edits-seed{run.seed}"] = found
    print(found.summary())
    found.plot()

# %% 4 The measures: every part of the claim must hold
measures = []
for name, found in results.items():
    seed, data = name.removeprefix("edits-"), found.data
    share = int(data["local_equal"]) / int(data["local_tokens"]) if int(data["local_tokens"]) else np.nan
    measures += [
        claims.Measure.of(
            data,
            "gain",
            label=f"rise of the target's log p, {seed}",
            null="control_gain",
            compared_with="random change of the same rows",
            expects="above",
        ),
        claims.Measure.of(
            data,
            "composed",
            label=f"rise together over the sum of rises alone, {seed}",
            null=COMPOSED,
            compared_with="threshold",
            expects="above",
        ),
        claims.Measure(
            label=f"share of positions out of reach that kept every bit, {seed}",
            value=share,
            low=share,  # all of them were looked at: nothing is sampled
            high=share,
            null=1.0,
            compared_with="all",
            expects="within",
            margin=1e-9,
        ),
        claims.Measure.of(
            data.sel(group="shared row"),
            "delta_loss",
            label=f"loss of other n-grams that read an edited row, {seed}",
            null="control_delta_loss",
            compared_with="random change of the same rows",
            expects="within",
            margin=MARGIN,
        ),
    ]

# %% 5 The verdict
verdict = claims.verdict(
    8,
    measures,
    scope=family.scope("engram"),
    models=models,
    rule="parts",
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 6
print(verdict.summary())
