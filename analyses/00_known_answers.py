"""What do the measures of depth say where the answer is known? Made-up pairs come first.

Each ``# %%`` opens a cell (Jupyter, VS Code and Spyder read the format); as a script it runs from top to
bottom, writes its table and figure to ``runs/00_known_answers`` and prints one verdict.

By default 60 exchangeable and 20 planted pairs a law, under five minutes on two cores. ENGRAM_INTERP_FULL=1
draws 400 and 100, in some twenty, to runs/full: these are in README. ENGRAM_INTERP_QUICK=1 draws a few, to
see that everything runs: its numbers mean nothing and go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to.
"""

# %% 1 How pairs are drawn: one latent state that turns from layer to layer, seen through random rotations
import json
import os
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from scipy import stats

from engram_interp import depth, lens_depth, pairs
from engram_interp.checkpoints import relayered
from engram_interp.data import prompts
from engram_interp.metrics import alignment, neighbours, procrustes, synthetic
from engram_interp.results import write_bundle

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK, FULL = (os.environ.get(f"ENGRAM_INTERP_{name}") == "1" for name in ("QUICK", "FULL"))
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}{'full/' * FULL}00_known_answers"))
SEED = 0
NULLS, PLANTED, N_BOOT = (3, 2, 50) if QUICK else (400, 100, 500) if FULL else (60, 20, 500)
FIRST = 2

LAWS = {
    "ten layers, neighbours at CKA .7-.8": synthetic.Law(),
    "blurred: smoother, more private noise": synthetic.Law(smoothness=2.5, private=1.2),
    "six layers": synthetic.Law(n_layers=6),
}


# %% 2 One pair: a model, a baseline, and as the reference another seed of the baseline, or none
def drawn_pair(
    law: synthetic.Law, index: int, *, layers: list[float] | None, another: bool
) -> depth.DepthResult:
    """The headline of one drawn pair, with everything that `depth.compare` would say about it."""
    generator = np.random.default_rng([SEED, index])
    world = synthetic.world(law, generator)
    model = synthetic.model(world, generator, layers=layers, width=32)
    baseline, other = (synthetic.model(world, generator, width=width) for width in (40, 36))
    return depth.from_activations(
        model,
        baseline,
        world.document,
        reference=other if another else None,
        first_memory_layer=FIRST,
        n_boot=N_BOOT,
        seed=index,
        checks="none",
    )


# %% 3 Do 95 % intervals hold the truth? Of exchangeable pairs it is 0, of planted ones 1 layer
def coverage(
    law: synthetic.Law, *, layers: list[float] | None, count: int, truth: float, another: bool = True
) -> dict[str, float]:
    """Shares of intervals that hold 0 and the truth, for the headline and for the paper's own index."""
    rows = []
    for index in range(count):
        data = drawn_pair(law, index, layers=layers, another=another).data
        row = []
        for name in ("headline", "soft_headline"):
            value, low, high = (float(data[f"{name}{end}"]) for end in ("", "_low", "_high"))
            row += [value, low <= 0 <= high, low <= truth <= high]
        plain = (data["path"] - data["path_self"])[data["interior"].values].mean()
        rows.append([*row, float(plain)])
    table = np.asarray(rows, dtype=float)
    names = ("path", "path holds 0", "path holds the truth", "soft", "soft holds 0", "soft holds the truth")
    found = dict(zip((*names, "path by subtraction"), table.mean(axis=0).tolist(), strict=True))
    return found | {"path sd": float(table[:, 0].std()), "soft sd": float(table[:, 3].std()), "pairs": count}


measured = {}
for name, law in LAWS.items():
    deeper = synthetic.one_layer_deeper(law, start=FIRST)
    measured[name] = {
        "null": coverage(law, layers=None, count=NULLS, truth=0.0),
        "one layer deeper": coverage(law, layers=deeper, count=PLANTED, truth=1.0),
        # The case of the bundled pair: the baseline itself stands for another seed.
        "null, no other seed": coverage(law, layers=None, count=NULLS, truth=0.0, another=False),
        "one layer deeper, no other seed": coverage(
            law, layers=deeper, count=PLANTED, truth=1.0, another=False
        ),
    }
    for kind, found in measured[name].items():
        print(name, "|", kind, "|", {key: round(value, 3) for key, value in found.items()})

# %% 4 One pair of each kind: what each measure says at each layer, in layers
law = synthetic.Law()
CASES = {
    "nothing changed": list(range(10)),
    "identity layer put in at 4": [0, 1, 2, 3, 3, 4, 5, 6, 7, 8],
    "one layer deeper from 2 on": [int(layer) for layer in synthetic.one_layer_deeper(law, start=FIRST)],
}
READERS = {
    "soft index (paper), own bias left in": lambda s, _own: alignment.soft_index(s) - np.arange(len(s)),
    "soft index, self-calibrated": lambda s, own: alignment.soft_index(s) - alignment.soft_index(own),
    "parabolic peak": lambda s, own: alignment.peak(s) - alignment.peak(own),
    "monotone path": lambda s, own: alignment.calibrated_shift(
        *(alignment.monotone_path(part, refine="parabola") for part in (s, own))
    ),
}
says: dict[str, dict[str, list[float]]] = {}
results = {}
for case, layers in CASES.items():
    generator = np.random.default_rng(SEED)
    world = synthetic.world(law, generator)
    model = synthetic.model(world, generator, layers=layers, width=32)
    baseline, other = (synthetic.model(world, generator, width=width) for width in (40, 36))
    results[case] = depth.from_activations(model, baseline, world.document, reference=other, n_boot=N_BOOT)
    data = results[case].data
    says[case] = {
        f"CKA, {reader}": read(data["cka"].values, data["cka_self"].values).tolist()
        for reader, read in READERS.items()
    }
    path = READERS["monotone path"]
    overlaps = (neighbours.overlap(part, baseline).mean(-1) for part in (model, other))
    says[case]["mutual k-NN, monotone path"] = path(*overlaps).tolist()
    turned = (procrustes.similarity(part, baseline) for part in (model, other))
    says[case]["Procrustes, monotone path"] = path(*turned).tolist()
    print(f"\n{case}: true shift {(np.asarray(layers) - np.arange(10)).tolist()}")
    for reader, values in says[case].items():
        print(f"  {reader:45s} {np.round(values, 2).tolist()}")
    whole, trimmed = (float(data[name]) for name in ("headline", "headline_trimmed"))
    print(f"  headline {whole:.2f}, {trimmed:.2f} without the rows of largest norm")

# %% 5 Real weights: the bundled baseline against a copy with a block that does nothing, or one run twice
base = pairs.load("wiki-nano").baseline
texts = prompts.load("entities").texts[: 4 if QUICK else None]
rest = range(2, base.n_layers)
PUT_IN = {"idles after layer 1": [0, 1, None, *rest], "runs layer 1 twice": [0, 1, 1, *rest]}
for case, blocks in PUT_IN.items():
    longer = relayered(base, blocks, name=case)
    results[case] = depth.compare(base, longer, texts, first_memory_layer=2, n_boot=N_BOOT)
    data = results[case].data
    names = {"shift": "soft index, self-calibrated", "peak_shift": "parabolic peak", "path_shift": "path"}
    says[case] = {f"CKA, {what}": data[name].values.tolist() for name, what in names.items()}
    says[case]["lens depth"] = lens_depth.compare(base, longer, texts, n_boot=2).data["shift"].values.tolist()
    print(f"\nThe baseline against a copy that {case}: true shift 0, 0, then about 1")
    for reader, values in says[case].items():
        print(f"  {reader:45s} {np.round(values, 2).tolist()}")
real = says["idles after layer 1"]

# %% 6 The same as a figure: the truth as a line, each measure as points
figure = go.Figure()
case = "one layer deeper from 2 on"
figure.add_scatter(x=list(range(10)), y=np.subtract(CASES[case], range(10)), name="truth", mode="lines")
for reader, values in says[case].items():
    figure.add_scatter(x=list(range(10)), y=values, name=reader, mode="markers")
figure.update_layout(
    template="plotly_white",
    title="A model that is one layer deeper from layer 2 on, as each measure sees it",
    xaxis_title="layer of the model, from 0",
    yaxis_title="shift (layers)",
)

# %% 7 Keep the numbers, the results and the figure
OUT.mkdir(parents=True, exist_ok=True)
(OUT / "known_answers.json").write_text(json.dumps({"coverage": measured, "cases": says}, indent=1) + "\n")
write_bundle(
    OUT / "known_answers.engram",
    results,
    meta={"quick": QUICK, "nulls": NULLS, "planted": PLANTED},
    overwrite=True,
)
figure.write_html(OUT / "known_answers.html", include_plotlyjs=True)

# %% 8 The verdict
null, planted = (measured[next(iter(LAWS))][kind] for kind in ("null", "one layer deeper"))


def share(found: dict[str, float], name: str, *, but: bool = False) -> str:
    """A share of pairs, or of the others, in per cent with its exact 95 % interval (Clopper and Pearson)."""
    pairs_drawn = int(found["pairs"])
    held = round((1 - found[name] if but else found[name]) * pairs_drawn)
    ends = stats.binomtest(held, pairs_drawn).proportion_ci(method="exact")
    return f"{100 * held / pairs_drawn:.1f} % [{100 * ends.low:.0f}, {100 * ends.high:.0f}]"


print(
    f"Over {NULLS} exchangeable pairs the headline's 95 % interval held 0 in {share(null, 'path holds 0')}; "
    f"over {PLANTED} pairs one layer deeper it excluded 0 in {share(planted, 'path holds 0', but=True)} and "
    f"held 1 in {share(planted, 'path holds the truth')}. The paper's index, read against the reference's, "
    f"held 0 in {share(null, 'soft holds 0')} and 1 in {share(planted, 'soft holds the truth')}, and read "
    f"the one layer as {planted['soft']:.2f} on average. On real weights, after a block that does nothing, "
    f"the path reads {real['CKA, path'][-1]:.2f} and the lens {real['lens depth'][-1]:.2f} layers."
)
