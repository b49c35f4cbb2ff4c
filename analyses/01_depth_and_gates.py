"""Does memory make layers look deeper, and where do its gates open? The bundled pair, in ten cells.

Each ``# %%`` opens a cell (Jupyter, VS Code and Spyder read the format); as a script it runs from top to
bottom, writes its results and figures to ``runs/01_depth_and_gates`` and prints one verdict.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean nothing and
go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to.
"""

# %% 1 The pair and the prompts: two models trained on the same text in the same order, one with a memory
import os
import sys
from pathlib import Path

from engram_interp import pairs
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}01_depth_and_gates"))

pair = pairs.load("wiki-nano")
texts = prompts.load("entities")
if QUICK:
    texts = prompts.from_texts(texts.texts[:3], name="quick")
n_boot = 50 if QUICK else 1000
print(f"{len(texts)} prompts; memory at layers {pair.engram.memory_layers} of {pair.engram.n_layers}, from 0")

# %% 2 Which layer: where along the baseline's layers each layer of the model with memory lies
from engram_interp import depth

d = depth.compare(pair.engram, pair.baseline, texts, n_boot=n_boot, seed=0)
print(d.summary())
d.plot()

# %% 3 The shift against the baseline's own reading; layers before the first memory read are the control
d.plot(view="shift")

# %% 4 How early each layer's prediction is the final one, by the raw logit lens
from engram_interp import lens

lenses = {
    "lens-engram": lens.convergence(pair.engram, texts, n_boot=n_boot),
    "lens-baseline": lens.convergence(pair.baseline, texts, n_boot=n_boot),
}
print(lenses["lens-engram"].summary())
lenses["lens-engram"].plot(baseline=lenses["lens-baseline"])

# %% 5 Which token: where the gates open, beside an untrained gate and two permutations
from engram_interp import gates

reading = gates.read(pair.engram, texts)
statistics = gates.statistics(pair.engram, texts, n_boot=n_boot)
print(statistics.summary())
statistics.plot()

# %% 6 One prompt, a phrase of the training text: what each layer would predict after each token
example = pairs.examples("wiki-nano")[0]
table = lens.table(pair.engram, example["text"])
print(f"“{example['phrase']}” stands {example['count']} times in the training text. {table.summary()}")
table.plot()

# %% 7 Which slot: the rows that its last token reads, and what each gives to the value
from engram_interp import slots

lookup = slots.lookup(pair.engram, example["text"])
print(lookup.summary())
last = lookup.data.isel(token=-1)
last[["address", "row_norm", "share", "hits"]].to_dataframe()

# %% 8 Does it matter: parts of the memory off, each beside a random control that moves as much
from engram_interp import ablation

effect = ablation.effect(pair.engram, texts, kinds=["gate_zero", "rows_zero", "rows_random"], n_boot=n_boot)
print(effect.summary())
effect.plot()

# %% 9 By hand, as in TransformerLens: look with run_with_cache, change with a hook
tokens = pair.engram.to_tokens(example["text"])
site = f"blocks.{pair.engram.memory_layers[0]}.engram.hook_gate"
logits, cache = pair.engram.run_with_cache(tokens, names_filter=site)


def shut(gate, hook):
    """Shut the gate; TransformerLens calls it with the place it hangs on."""
    assert hook.name == site
    return gate * 0


with pair.engram.hooks(fwd_hooks=[(site, shut)]):
    without = pair.engram.logits(tokens)
top = {
    name: pair.engram.token_text(int(x[0, -1].argmax())) for name, x in (("open", logits), ("shut", without))
}
print(
    f"{site} after “{example['text']}”: {cache[site][0, -1].tolist()}; top token by state of the gate: {top}"
)

# %% 10 Save every result as one bundle (engram-interp explore opens it), and say the verdict
from engram_interp.results import write_bundle

OUT.mkdir(parents=True, exist_ok=True)
parts = {"depth": d, **lenses, "gates": reading, "gate-statistics": statistics, "ablation": effect}
parts |= {f"lens-table:{example['phrase']}": table, f"slots:{example['phrase']}": lookup}
bundle = write_bundle(OUT / "01_depth_and_gates.engram", parts, meta={"quick": QUICK}, overwrite=True)
d.plot(view="shift").write_html(OUT / "shift.html", config={"showSendToCloud": False})

low, high = (float(d.data[f"headline{end}"]) for end in ("_low", "_high"))
control = max(abs(float(d.data[f"control_shift{end}"])) for end in ("_low", "_high"))
robust = low <= float(d.data["headline_trimmed"]) <= high  # without the tokens of largest norm
verdict = "not resolved at this scale"
if robust and low > control:
    verdict = "supported"
elif robust and high < -control:
    verdict = "contradicted"
print(
    f"“By similarity alone, Engram layers look like later layers of the baseline”, on this pair: {verdict}. "
    "That is one view of three; claim_01_depth.py asks all of them, beside second seeds, and does not "
    f"resolve the claim of effective depth. {d.summary()}"
)
