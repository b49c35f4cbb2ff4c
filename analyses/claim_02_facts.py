"""Claim 2: are facts in the table, and reading not? Probes with the memory off, and invented facts.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes ``claim-02.nc``, its results and
figure to ``runs/claim_02_facts`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean
nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to; ENGRAM_INTERP_RUNS a folder of arms that ``engram-interp
family`` trained. Models whose training text held the invented facts are also asked for these, by how often it
stated them; others answer the packaged probes alone. ENGRAM_INTERP_SETS names a folder with public sets
(facts….jsonl, boolq….jsonl, lambada….jsonl, plain or .xz) to be asked beside the packaged ones, and
ENGRAM_INTERP_TRAINED the files that the arms were trained on, in order and with the system's path separator
between them: the public facts are then sorted by how many paragraphs of it name subject and object.
"""

# %% 1 The arms and the probes
import os
import sys
from pathlib import Path

from engram_interp import ablation, arms, claims
from engram_interp.data import fiction, probes, public_sets

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}claim_02_facts"))
RUNS, SETS = os.environ.get("ENGRAM_INTERP_RUNS"), os.environ.get("ENGRAM_INTERP_SETS")
TRAINED = [name for name in os.environ.get("ENGRAM_INTERP_TRAINED", "").split(os.pathsep) if name]
N = 80  # probes of a public set, or of a class of support: more take long and say the same of small models
KINDS = (
    "output_off",
    "rows_random",
)  # the memory gone; other rows of the same heads, nearer to what it knows

family = arms.load(RUNS) if RUNS else arms.bundled()
runs = [run for arm in ("engram", "moe-engram") for run in family.runs.get(arm, {}).values()]
runs = runs or [family.first("engram")]  # which says what is there instead
PLAIN = {"engram": "dense", "moe-engram": "moe"}
sets = [probes.load(kind) for kind in ("facts", "reading", "continuation")]
if SETS:
    place = {key: next(Path(SETS).glob(f"**/{key}*.jsonl*"), None) for key in ("facts", "boolq", "lambada")}
    if place["facts"] and TRAINED:
        documents = list(runs[0].documents(TRAINED))  # every arm of a family has the same
        sets += public_sets.facts_by_support(place["facts"], documents, named="public facts", per_class=N)
    sets += [public_sets.boolq(place["boolq"], n=N, longest=450)] if place["boolq"] else []
    sets += [public_sets.lambada(place["lambada"], n=N)] if place["lambada"] else []
if QUICK:
    sets = [probes.ProbeSet(name=s.name, kind=s.kind, probes=s.probes[:4]) for s in sets]
how = {"kinds": KINDS, "n_swaps": 1 if QUICK else 4, "n_boot": 20 if QUICK else 1000, "seed": 0}


def beside(run):
    """The baseline from the same seed, or None where it is not there."""
    base = family.runs.get(PLAIN[run.arm], {}).get(run.seed)
    return None if base is None else base.load()


def together(name, kinds, counts, seed):
    """The invented facts of some kinds and counts as one set."""
    each = [fiction.probes(seed, kind=kind, count=count).probes for kind in kinds for count in counts]
    return probes.ProbeSet(name=name, kind="continuation", probes=tuple(p for part in each for p in part))


# %% 2 What is left of facts, reading and continuation without the memory, beside the baseline
results, models = {}, []
for run in runs:
    model, baseline = run.load(), beside(run)
    models += [each for each in (model, baseline) if each is not None]
    found = ablation.retained(model, sets, baseline=baseline, **how)
    results[f"retained-{run.arm}-seed{run.seed}"] = found
    print(found.summary())

# %% 3 Invented facts: those an n-gram can hold, those none can, and all by how often training said them
invented = {}
for run in runs:
    if run.fiction is None:
        continue
    made = [together(f"all × {n}", fiction.KINDS, (n,), run.fiction) for n in fiction.COUNTS]
    made.append(together("n-gram × 16, 64", ("surname", "idiom"), (16, 64), run.fiction))
    made.append(together("distant × 4, 16, 64", ("birthplace",), (4, 16, 64), run.fiction))
    found = ablation.retained(run.load(), made[-2:] if QUICK else made, baseline=beside(run), **how)
    results[f"invented-{run.arm}-seed{run.seed}"] = invented[f"{run.arm} seed {run.seed}"] = found
    print(found.summary())

# %% 4 The measures: facts must lose more than reading, and more than by a random change of the same size
measures = []


def read(found, name, kind):
    """One cell of a result, over all strata."""
    return found.data.sel(probe_set=name, stratum="all", kind=kind)


def add(cell, label, other=None, compared_with="random control", role="decides"):
    """What is retained of a cell, expected below another cell's or below its own control's."""
    at, name = (cell, "control_retained") if other is None else (other, "retained")
    null = claims.Measure.of(at, name, label="null", role="beside")
    measures.append(
        claims.Measure.of(
            cell,
            "retained",
            label=label,
            null=null.value,
            null_low=null.low,
            null_high=null.high,
            compared_with=compared_with,
            expects="below",
            role=role,
        )
    )


names = [one.name for one in sets]
for run in runs:
    memory, found = f"{run.arm} seed {run.seed}", results[f"retained-{run.arm}-seed{run.seed}"]
    for kind in KINDS:
        facts, reading = (read(found, name, kind) for name in names[:2])
        add(facts, f"facts against reading, {memory}, {kind}", reading, "reading retained")
        add(facts, f"facts against a random change, {memory}, {kind}", role="control")
    for name in names[3:]:
        if name != "boolq":
            for kind in KINDS:
                add(read(found, name, kind), f"{name}, {memory}, {kind}", role="beside")
    for name in names:
        cell = found.data.sel(probe_set=name, stratum="all")
        label = f"share right, intact, {name}, {memory}"
        measures.append(
            claims.Measure.of(
                cell,
                "intact_score",
                label=label,
                null="swapped_score",
                compared_with="guessing",
                role="beside",
            )
        )
for memory, found in invented.items():
    for kind in KINDS:
        near, far = (read(found, name, kind) for name in ("n-gram × 16, 64", "distant × 4, 16, 64"))
        what = f"invented facts an n-gram can hold, {memory}, {kind}"
        add(near, what, far, "those no n-gram can hold")
        add(near, f"{what}, against a random change", role="control")
    for name in found.data["probe_set"].values:
        cell = found.data.sel(probe_set=name, stratum="all")
        measures.append(
            claims.Measure.of(
                cell,
                "intact_score",
                label=f"share right, invented {name}, {memory}",
                null="baseline_score",
                compared_with="baseline",
                role="beside",
            )
        )

# %% 5 The verdict; where the intact model is not above chance nothing is retained, and nothing follows
remark = "" if invented else "no invented facts in the training text"
if RUNS:
    remark = "; ".join(part for part in (family.lacking("engram", "moe-engram"), remark) if part)
verdict = claims.verdict(
    2,
    measures,
    scope=family.scope(*{run.arm for run in runs}),
    models=models,
    remark=remark,
    provenance={"n_boot": how["n_boot"], "seed": 0, "kinds": ", ".join(KINDS)},
)
claims.keep(verdict, OUT, results)
verdict.plot()

# %% 6
print(verdict.summary())
