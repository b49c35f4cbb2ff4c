"""Claim 4: do gates matter at this scale? One model with its gates held, and one trained without any.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-04.nc``, its results and
figure to ``runs/claim_04_gates_matter`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to, ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained; without it the packaged pair is measured. The arm "open" (gate fixed at 1 from the first
step) is compared with "engram" by ENGRAM_INTERP_LOSSES, which ``engram-interp losses`` saved of them, or
on ENGRAM_INTERP_TEXT, a held-out text; for the packaged pair by the losses in the package.
"""

# %% 1 The arms, and the texts that losses are measured on
import math
import os
import sys
from pathlib import Path

from engram_interp import ablation, arm_losses, arms, claims, gates
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_04_gates_matter"))
RUNS, TEXT, LOSSES = (os.environ.get(f"ENGRAM_INTERP_{name}") for name in ("RUNS", "TEXT", "LOSSES"))
MARGIN = 0.02  # nats a token: what the claim calls no difference

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
n_boot = 20 if QUICK else 1000
results, models = {}, []
runs = list(family.runs["engram"].values())

# %% 2 Every gate held at its mean: what choosing by token is worth to a model that learnt to choose
for run in runs:
    model = run.load()
    models.append(model)
    held = ablation.effect(model, texts, kinds=["gate_mean", "gate_one", "output_off"], n_boot=n_boot, seed=0)
    results[f"gates-held-seed{run.seed}"] = held
    print(f"seed {run.seed}: {held.summary()}")
held.plot()

# %% 3 What the gate knows of it: its AUC for tokens where shutting it costs, beside untrained gates
n_inits = 2 if QUICK else 20
init_documents = 4 if QUICK else 16 if RUNS else 8  # on the packaged pair: five minutes on two cores
for run, model in zip(runs, models, strict=True):
    useful = gates.usefulness(
        model, texts, n_inits=n_inits, init_documents=init_documents, n_boot=n_boot, seed=0
    )
    results[f"usefulness-seed{run.seed}"] = useful
    print(f"seed {run.seed}: {useful.summary()}")

# %% 4 Trained without a gate, from the same weights on the same batches; the loss on the same tokens
losses = arm_losses.told(family, text=TEXT, saved=LOSSES, n_boot=n_boot)
ungated, again = {}, {}
if losses is not None:
    results["losses"] = losses
    ungated, again = losses.between("open", "engram"), losses.between("engram", "engram")
    print(losses.summary())

# %% 5 The measures of every seed, none selected
measures = []
for run in runs:
    held, seed = results[f"gates-held-seed{run.seed}"].data, f"seed {run.seed}"
    at = held.sel(kind="gate_mean")
    measures += [
        claims.Measure.of(
            at,
            "delta_loss",
            label=f"loss with every gate held at its mean, {seed}",
            null=0.0,
            compared_with="no change",
            expects="within",
            margin=MARGIN,
        ),
        claims.Measure.of(
            at,
            "control_delta_loss",
            label=f"a random change as large as holding the gates, {seed}",
            role="beside",
        ),
        claims.Measure.of(
            held.sel(kind="gate_one"), "delta_loss", label=f"every gate set to 1, {seed}", role="beside"
        ),
        claims.Measure.of(
            held.sel(kind="output_off"),
            "delta_loss",
            label=f"loss without the memory, {seed}",
            null=MARGIN,
            compared_with="margin",
            expects="above",
            role="control",
        ),
    ]
for name, cell in ungated.items():  # another seed may do as much as a missing gate: the interval holds that
    low, high = losses.over_seeds(cell)
    measures.append(
        claims.Measure.of(
            cell,
            "difference",
            low=low,
            high=high,
            label=f"trained with the gate at 1, less gated, {name}, over documents and seeds",
            null=0.0,
            compared_with="no difference",
            expects="within",
            margin=MARGIN,
        )
    )
if not ungated:  # half of the claim stays open: a model that learnt to use its gate
    label = "trained with the gate at 1, less gated"
    measures.append(
        claims.Measure(label=label, value=math.nan, unit="nats", null=0.0, expects="within", margin=MARGIN)
    )
for name, cell in again.items():
    label = f"another seed of the gated model, {name}"
    measures.append(claims.Measure.of(cell, "difference", label=label, role="beside"))
for run in runs:
    useful = results[f"usefulness-seed{run.seed}"].data
    for index, layer in enumerate(useful["layer"].values):
        measures.append(
            claims.Measure.of(
                useful.isel(layer=index, stream=0),
                "auc",
                label=f"AUC of the gate for a cost of shutting it, seed {run.seed}, layer {layer}",
                null="null_auc",
                compared_with="untrained",
                role="beside",
            )
        )

# %% 6 The verdict: both the held and the missing gate must make no difference
remarks = [] if losses is None else [losses.basis()]
remarks += [] if ungated else ["no losses of an arm trained without a gate"]
remarks += [] if again else ["no second seed shows what a seed does"]
verdict = claims.verdict(
    4,
    measures,
    scope=family.scope("engram", "open"),
    models=models,
    rule="parts",
    remark="; ".join(remarks),
    provenance={"n_documents": len(texts), "text_digest": texts.digest, "n_boot": n_boot, "seed": 0},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 7
print(verdict.summary())
