"""Claim 6: are collisions harmless? N-grams of like counts whose rows the hash made busy, or quiet.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-06.nc``, its results and
figure to ``runs/claim_06_collisions`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained: "engram" is then measured against "dense" in every seed, and "shuffled", which reads other
rows and must not feel these collisions, stands beside it. ``scripts/count_ngrams.py --model`` must have
counted for each "engram" first: a row's hits alone do not tell whose they are.
"""

# %% 1 The arms and the passages
import os
import sys
from pathlib import Path

from engram_interp import arms, claims, crowding
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_06_collisions"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")
MARGIN = 0.02  # nats a token: what the claim calls no harm
FOLD = 4.0  # times the reads by others in busy rows over those in quiet ones, below which nothing is compared
GAIN, SHUT, SHUFFLED = "gain over the baseline", "gates shut", "shuffled"

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
how = {"n_boot": 20 if QUICK else 300, "n_permutations": 5 if QUICK else 100, "seed": 0}

# %% 2 What the memory is worth where rows have much company less where they have little
results, models = {}, []
for run, base in family.pairs("engram", "dense"):
    model, baseline = run.load(), base.load()
    others = {}
    if SHUFFLED in family and run.seed in family.runs[SHUFFLED]:
        others[SHUFFLED] = family.runs[SHUFFLED][run.seed].load()
    models += [model, baseline, *others.values()]
    if model.counts is None:
        continue
    found = crowding.effect(model, texts, baseline=baseline, others=others, **how)
    results[f"crowding-seed{run.seed}"] = found
    print(found.summary())
    found.plot()

# %% 3 The measures: the gain over the baseline decides; shutting gates is off the training distribution
measures = []
for name, found in results.items():
    seed, pooled = name.removeprefix("crowding-"), found.data.sel(stratum="all")
    for measure in found.data["measure"].values:
        for order in found.data["order"].values:
            cell = pooled.sel(measure=measure, order=order)
            said = f"{float(cell['company_more']):,.0f} reads by others, {float(cell['company_less']):,.0f}"
            measures.append(
                claims.Measure.of(
                    cell,
                    "difference",
                    label=f"{measure}, busy less quiet rows ({said}), {order} tokens, {seed}",
                    null=0.0,
                    compared_with="no difference",
                    **({"expects": "within", "margin": MARGIN} if measure == GAIN else {"role": "beside"}),
                )
            )

# Both halves may be crowded: then what differs little says nothing of company.
for name, found in results.items():
    for order in found.data["order"].values:
        cell = found.data.sel(stratum="all", measure=GAIN, order=order)
        seed = name.removeprefix("crowding-")
        fold = float(cell["company_more"]) / max(float(cell["company_less"]), 1.0)
        measures.append(
            claims.Measure(
                label=f"company in busy over that in quiet rows, {order} tokens, {seed}",
                value=fold,
                low=fold,
                high=fold,
                null=FOLD,
                compared_with="what counts as more",
                expects="above",
                role="control",
            )
        )

# %% 4 The verdict
remark = "" if results else "nobody counted the n-grams of these models' training text"
if RUNS and SHUFFLED not in family:
    remark = "; ".join(part for part in (remark, family.lacking(SHUFFLED)) if part)
verdict = claims.verdict(
    6,
    measures,
    scope=family.scope("engram", "dense"),
    models=models,
    remark=remark,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
