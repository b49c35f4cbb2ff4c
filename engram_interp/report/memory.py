"""Sections about the memory: what ablating it costs, what is retained without it, what one token read."""

import math
from collections.abc import Mapping
from typing import Any

import xarray as xr

from engram_interp.results import AblationEffect, LensTable, RetainedPerformance, SlotLookup
from engram_interp.views.memory_tables import effect_strata_table, retained_strata_table, retained_table
from engram_interp.views.page import Section
from engram_interp.views.strips import lens_window
from engram_interp.views.tables import Cell, estimate, slot_table, table
from engram_interp.views.theme import number, signed

_ABLATIONS = (
    "Parts of the memory are switched off and the loss is measured again. The random control moves "
    "what the memory writes just as far, at the same tokens, in a random direction: only what goes beyond "
    "it speaks of the memory's content. A model whose memory is taken away runs outside "
    "of what it was trained for and can do worse than one that never had any, so these numbers overstate "
    "how much the memory gives."
)
_RETAINED = (
    "The probes are short questions with one right answer among a few, scored by likelihood: facts, reading "
    "(the passage's own effect on the answers) and plain continuation. What a guess scores is counted from "
    "the number of choices, and measured beside it by asking after other probes' prompts. Retained is "
    "(ablated − chance) / (intact − chance); where the intact model is not clearly above chance there is "
    "nothing to retain and no share is given. The control moves what the memory writes just as far in a "
    "random direction, and the baseline never had a memory. Intervals resample the probes: they say how "
    "scores would vary over more questions like these, not over training runs. A drop shows what this model "
    "leans on with the memory in place; it does not show that the answers are stored there."
)
_STRATA = (
    "The same scores by how often training saw the n-gram that ends the prompt, counted as the tables say. "
    "The strata are small, so their intervals are wide, and their probes differ in more than that count."
)
_EFFECT_STRATA = (
    "The same by how often training saw the n-gram that was read before the token. Frequent n-grams are "
    "followed by other tokens than rare ones: a difference between strata is a description, not what "
    "training on an n-gram does."
)
_SLOTS = (
    "Each order (length of n-gram) and head hashes the n-gram that ends at the token to one row of the "
    "table. Different n-grams can share a row. The share says how much of the vector that was looked up "
    "comes from the row; it does not say what that vector does to the prediction."
)


def ablation_section(result: AblationEffect, *, meanings: Mapping[str, str]) -> Section:
    """What switching the memory off changes, beside controls and the baseline.

    Args:
        result: the effects.
        meanings: what each kind of ablation does.
    """
    data = result.data
    rows: list[list[Cell]] = []
    for kind in map(str, data["kind"].values):
        at = data.sel(kind=kind)
        for prefix, name, meaning in (("", kind, meanings.get(kind, "")), ("control_", "· control", "")):
            changed = estimate(at, f"{prefix}delta_loss", change=True)
            row = [name, meaning, *changed, *estimate(at, f"{prefix}kl")]
            rows.append([*row, *(estimate(at, f"{prefix}rank") if "rank" in at else [])])
    headers = ["ablation", "what it does", "Δ loss (nats)", "95 % interval", "KL (nats)", "95 % interval"]
    caption = (
        "Change of the next-token loss, and KL(intact ‖ ablated), means over tokens; below each its control."
    )
    if "rank" in data:
        headers += ["rank of the token that comes", "95 % interval"]
        caption += " Ranks: geometric means, 0 is first."
    parts = [result.summary(), _ABLATIONS, result.plot()]
    if "baseline_delta_loss" in data and not math.isnan(float(data["baseline_delta_loss"])):
        parts.append(_beside_baseline(data))
    made = table(headers, rows, caption=caption)
    parts += [*filter(None, [result.coinciding()]), made]
    if "stratum_tokens" in data and bool(data["stratum_tokens"].any()):
        parts += [_EFFECT_STRATA, effect_strata_table(data)]
    return Section(title="Does the memory matter?", parts=parts)


def _beside_baseline(data: xr.Dataset) -> str:
    """What switching the memory off costs, against never having had one."""
    costs = data["delta_loss"].values
    loss, never = float(data["intact_loss"]), float(data["baseline_delta_loss"])
    said = (
        f"On these prompts the intact model loses {number(loss)} nats per token and the baseline, which "
        f"never had a memory, {number(loss + never)}: never having had it costs {signed(never)}, and "
        f"switching it off {signed(float(costs.min()))} to {signed(float(costs.max()))}."
    )
    if float(data["delta_loss_low"].min(skipna=False)) > never:
        said += (
            " Even the mildest ablation leaves the model worse off than the baseline, so part of its cost is "
            "the shock of losing what the network was trained around, not what the memory knows."
        )
    return said


def retained_sections(result: RetainedPerformance) -> list[Section]:
    """Scores without the memory beside controls, chance and baseline; folded, the same by training hits."""
    data = result.data
    names = [str(name) for name in data["probe_set"].values]
    shown = [(result.plot(probe_set=name), retained_table(data, probe_set=name)) for name in names]
    parts = [result.summary(), _RETAINED, *(part for pair in shown for part in pair)]
    if not bool(data["n_items"].drop_sel(stratum="all").any()):
        parts.append("How often training saw the n-grams is not known, so the probes are not sorted by it.")
        return [Section(title="What is left without the memory?", parts=parts)]
    tables = [retained_strata_table(data, probe_set=name) for name in names]
    return [
        Section(title="What is left without the memory?", parts=parts),
        Section(
            title="What is left, by how often training saw the n-gram",
            parts=[_STRATA, *tables],
            fold="closed",
        ),
    ]


def slot_sections(lookup: SlotLookup, lens: LensTable, example: Mapping[str, Any]) -> list[Section]:
    """What one token of an example prompt read, and what each layer would predict there."""
    data, token = lookup.data, int(example["token"])
    text = f"Prompt “{example['id']}”, token {token}: {example.get('chosen', 'an example')}."
    tables = [slot_table(data, token=token, layer=int(layer)) for layer in data["layer"].values]
    start = max(0, token - 11)
    return [
        Section(title="Which slots? What one token read", parts=[_SLOTS, text, *tables]),
        Section(
            title="What each layer would predict there",
            parts=[lens.summary(), lens_window(lens.data, start=start, stop=start + 24)],
            fold="closed",
        ),
    ]
