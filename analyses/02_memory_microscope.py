"""What does the first memory write, and can rows be written? The bundled pair: identity probe and edits.

Each ``# %%`` opens a cell; as a script it runs from top to bottom, writes its results to
``runs/02_memory_microscope`` and prints two verdicts, each beside its null and its interval.

ENGRAM_INTERP_QUICK=1 takes a few prompts, to see that everything runs: its numbers mean nothing and
go to runs/quick.
ENGRAM_INTERP_OUT names another folder to write to.
"""

# %% 1 The pair and the passages
import os
import sys
from pathlib import Path

import numpy as np

from engram_interp import pairs
from engram_interp.data import prompts

if __name__ == "__main__" and {"-h", "--help"} & set(sys.argv[1:]):
    print(__doc__)
    raise SystemExit

QUICK = os.environ.get("ENGRAM_INTERP_QUICK") == "1"
OUT = Path(os.environ.get("ENGRAM_INTERP_OUT", f"runs/{'quick/' * QUICK}02_memory_microscope"))

pair = pairs.load("wiki-nano")
texts = prompts.load("entities")
n_boot = 50 if QUICK else 1000

# %% 2 Identity probe: from which layer on does the state of a mention name its entity, beside shuffled labels
from engram_interp import ablation, patchscope

# Entities must recur in several passages, so the reduced setting draws fewer bootstraps, not passages.
how = {"label": "entity", "n_boot": n_boot, "seed": 0}
probe = patchscope.identity(pair.engram, texts, baseline=pair.baseline, **how)
print(probe.summary())
with ablation.ablate(pair.engram, "output_off"):
    off = patchscope.identity(pair.engram, texts, **how)
first = pair.engram.memory_layers[0]
for name, found in (("with its memory", probe), ("memory off", off)):
    at = found.data.isel(model=0).sel(layer=first)
    interval = [round(float(at[f"accuracy{end}"]), 3) for end in ("_low", "_high")]
    print(f"after layer {first}, {name}: {float(at['accuracy']):.3f} {interval}")

# %% 3 Twenty edits: n-grams of the passages and target tokens, drawn by a seed
from engram_interp import editing

generator = np.random.default_rng(0)
model = pair.engram
tokens = [model.token_text(i) for i in range(model.d_vocab)]
words = [i for i, text in enumerate(tokens) if text[:1] == " " and text[1:].isalpha()]
edits = []
for _ in range(2 if QUICK else 20):
    passage = texts.texts[int(generator.integers(len(texts)))].split(" ")
    context = " ".join(passage[: int(generator.integers(4, 16))])
    edits.append(editing.plan(model, context, int(generator.choice(words)), corrections=8 if QUICK else 40))
reached = np.array([edit.reached for edit in edits])
closed = np.mean([edit.closed_form for edit in edits])
print(f"asked {edits[0].wanted:.1f} logits; closed form {closed:.2f} on average")
print(f"reached {reached.mean():.2f} (least {reached.min():.2f}) after the search")

# %% 4 What they gain, leave alone and cost, beside the same rows moved as far at random
report = editing.evaluate(model, edits, texts.head(3) if QUICK else texts, n_boot=n_boot, seed=0)
print(report.summary())

# %% 5 Save both, and say the verdicts
OUT.mkdir(parents=True, exist_ok=True)
probe.save(OUT / "identity.nc")
report.save(OUT / "edits.nc")

data = report.data
shared = data.sel(group="shared row")
kept = int(data["local_equal"]) == int(data["local_tokens"])
apart = float(shared["delta_loss_low"]) > float(shared["control_delta_loss_high"])
verdict = "not resolved at this scale"
if kept and apart:
    verdict = "supported where no row is shared, contradicted where one is"
elif kept and float(shared["delta_loss_high"]) <= float(shared["control_delta_loss_high"]):
    verdict = "supported"
elif not kept:
    verdict = "contradicted"
print(f"Claim “edits are local” on this pair: {verdict}. {report.summary()}")
