"""Sections about the memory: gates, strips of tokens, ablations, slots."""

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from engram_interp.report.layers import estimate
from engram_interp.results import AblationEffect, GateReading, GateStatistics, LensTable, SlotLookup
from engram_interp.views.markup import Html
from engram_interp.views.page import Section
from engram_interp.views.strips import gate_strip, lens_window
from engram_interp.views.tables import Cell, measured, slot_table, table
from engram_interp.views.theme import number, signed

_GATES = (
    "A gate scales what the memory writes at a token: 0 shuts it out, 1 lets all of it through. A gate that "
    "learnt nothing varies too: even at initialisation its mean is about 0.5 and it spreads widely. So "
    "each statistic stands beside three nulls: the same model untrained, rows "
    "swapped among the tokens of a prompt, and queries swapped among all tokens. An open gate does not show "
    "that the memory helps; the ablations below test that."
)
_STRIPS = (
    "The prompts shown are evenly spaced through the set, not chosen for what they show. The gate at a token "
    "speaks of the n-grams that end there; the short convolution carries what was read to a few later tokens."
)
_ABLATIONS = (
    "Parts of the memory are switched off and the loss is measured again. The random control moves "
    "what the memory writes just as far, at the same tokens, in a random direction: only what goes beyond "
    "it speaks of the memory's content. A model whose memory is taken away runs outside "
    "of what it was trained for and can do worse than one that never had any, so these numbers overstate "
    "how much the memory gives."
)
_SLOTS = (
    "Each order (length of n-gram) and head hashes the n-gram that ends at the token to one row of the "
    "table. Different n-grams can share a row. The share says how much of the vector that was looked up "
    "comes from the row; it does not say what that vector does to the prediction."
)


def gate_sections(
    statistics: GateStatistics, reading: GateReading, examples: Sequence[Mapping[str, Any]]
) -> list[Section]:
    """The distribution of every gate beside its nulls, and the gates on the example prompts."""
    first, *others = [_strip(reading.data, example) for example in examples]
    return [
        Section(
            title="Where do the gates stand?",
            parts=[
                statistics.summary(),
                _GATES,
                statistics.plot(),
                _gate_table(statistics.data),
            ],
        ),
        Section(
            title="How the gates are distributed", parts=[statistics.plot(view="densities")], fold="closed"
        ),
        Section(title="Which tokens? The gates on a prompt", parts=[_STRIPS, *first]),
        *(
            [Section(title="More prompts", parts=[p for strip in others for p in strip], fold="closed")]
            if others
            else []
        ),
    ]


def _strip(data: xr.Dataset, example: Mapping[str, Any]) -> list[str | Html]:
    prompt = data["prompt"].values[example["index"]].item()
    return [f"Prompt “{example['id']}”:", gate_strip(data, prompt=prompt)]


def _gate_table(data: xr.Dataset) -> Html:
    """Mean, spread and share of open gates, each with what the nulls give."""
    rows: list[list[Cell]] = []
    for layer in range(data.sizes["layer"]):
        for stream in range(data.sizes["stream"]):
            at = data.isel(layer=layer, stream=stream)
            place: list[Cell] = [int(at["layer"]), int(at["stream"])]
            rows.append([*place, "measured", *_spread(at, ""), ""])
            for null in at["null"].values:
                beside = at.sel(null=null)
                rows.append(
                    [*place, f"null: {null}", *_spread(beside, "null_"), measured(beside["distance"])]
                )
    headers = ["layer (from 0)", "stream", "gate", "mean", "95 % interval", "sd", "share > 0.5"]
    caption = "Gates beside their nulls; distance: Kolmogorov–Smirnov, 0 (same) to 1. No unit."
    return table([*headers, "distance to it"], rows, caption=caption)


def _spread(data: xr.Dataset, prefix: str) -> list[Cell]:
    others = [measured(data[f"{prefix}{name}"]) for name in ("sd", "fraction_open")]
    return [*estimate(data, f"{prefix}mean"), *others]


def ablation_section(
    result: AblationEffect, *, loss: float, baseline_loss: float | None, meanings: Mapping[str, str]
) -> Section:
    """What switching the memory off changes, beside controls and the baseline.

    Args:
        result: the effects.
        loss: of the intact model on these prompts, nats per token.
        baseline_loss: of the baseline on the same; None if it has a memory too.
        meanings: what each kind of ablation does.
    """
    data = result.data
    rows: list[list[Cell]] = []
    for kind in map(str, data["kind"].values):
        at = data.sel(kind=kind)
        for prefix, name, meaning in (("", kind, meanings.get(kind, "")), ("control_", "· control", "")):
            changed = estimate(at, f"{prefix}delta_loss", change=True)
            rows.append([name, meaning, *changed, *estimate(at, f"{prefix}kl")])
    headers = ["ablation", "what it does", "Δ loss (nats)", "95 % interval", "KL (nats)", "95 % interval"]
    caption = (
        "Change of the next-token loss, and KL(intact ‖ ablated), means over tokens; below each its control."
    )
    parts = [result.summary(), _ABLATIONS, result.plot()]
    if baseline_loss is not None:
        parts.append(_beside_baseline(data, loss, baseline_loss))
    made = table(headers, rows, caption=caption)
    return Section(
        title="Does the memory matter?", parts=[*parts, *filter(None, [result.coinciding()]), made]
    )


def _beside_baseline(data: xr.Dataset, loss: float, baseline_loss: float) -> str:
    """What switching the memory off costs, against never having had one."""
    costs = data["delta_loss"].values
    never = baseline_loss - loss
    said = (
        f"On these prompts the intact model loses {number(loss)} nats per token and the baseline, which "
        f"never had a memory, {number(baseline_loss)}: never having had it costs {signed(never)}, and "
        f"switching it off {signed(float(costs.min()))} to {signed(float(costs.max()))}."
    )
    if float(data["delta_loss_low"].min(skipna=False)) > never:
        said += (
            " Even the mildest ablation leaves the model worse off than the baseline, so part of its cost is "
            "the shock of losing what the network was trained around, not what the memory knows."
        )
    return said


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
