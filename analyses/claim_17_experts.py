"""Claim 17: do experts relearn what a memory could hold?

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-17.nc``, its results and
figure to ``runs/claim_17_experts`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained, with "moe" and "moe-engram". The package holds no mixture of experts: without such
runs the claim is not tested.
"""

# %% 1 The arms and the passages
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

from engram_interp import arms, claims, experts
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_17_experts"))
RUNS = os.environ.get("ENGRAM_INTERP_RUNS")

family = arms.load(RUNS) if RUNS else arms.bundled()
texts = prompts.load("entities")
texts = texts.head(4) if QUICK else texts
how = {"n_boot": 20 if QUICK else 1000, "seed": 0}

# %% 2 Load, choice by n-gram and redundancy of the experts, with and without a memory, seed by seed
results, models = {}, []
for run, base in family.pairs("moe-engram", "moe"):
    each = {"without": base.load(), "with": run.load()}
    models += each.values()
    found = experts.use(each, texts, **how)
    results[f"experts-seed{run.seed}"] = found
    print(found.summary())
    found.plot()


def in_nats(made, one, other):
    """The same information in nats, not as a share of what a choice among so many experts can tell."""
    ours, theirs = (math.log(int(each["experts"])) for each in (one, other))
    scaled = {name: getattr(made, name) * ours for name in ("value", "low", "high")}
    scaled |= {name: getattr(made, name) * theirs for name in ("null", "null_low", "null_high")}
    return replace(made, label=f"{made.label}, as it is", unit="nats", **scaled)


# %% 3 The measures: without a memory the choice should tell more of the n-gram, in layers that could read it
measures = []
for name, found in results.items():
    first = family.first("moe-engram").training["recipe"]["engram"]["layer_ids"][0]
    for layer in found.data["layer"].values:
        at = f"{name.removeprefix('experts-')}, layer {layer}"
        without, with_memory = (found.data.sel(model=model, layer=layer) for model in ("without", "with"))
        for variable, words, order in (
            ("information", "what the choice tells of the last two tokens", 2),
            ("information", "what the choice tells of the token", 1),
            ("redundancy", "cosine of two experts' outputs", None),
            ("load", "effective share of experts", None),
        ):
            one, other = without, with_memory
            if order is not None:
                one, other = one.sel(order=order), other.sel(order=order)
            beside = claims.Measure.of(other, variable, label="", role="beside")
            made = claims.Measure.of(
                one,
                variable,
                label=f"{words}, without memory, {at}",
                null=beside.value,
                null_low=beside.low,
                null_high=beside.high,
                compared_with="with memory",
                role="beside",
            )
            if order == 2 and layer >= first:  # more experts can tell more; by which scale is not settled
                made = replace(made, role="decides", expects="above")
                of_all = replace(made, label=f"{made.label}, of ln(experts)")
                measures += [in_nats(made, without, with_memory), of_all]
            else:
                measures.append(made)

# %% 4 The verdict
absent = family.lacking("moe", "moe-engram") if RUNS else "no mixture of experts is in the package"
verdict = claims.verdict(
    17,
    measures,
    scope=family.scope("moe", "moe-engram"),
    models=models,
    remark=absent,
    provenance={"n_documents": len(texts), "text_digest": texts.digest, **how},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 5
print(verdict.summary())
