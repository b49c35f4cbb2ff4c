"""Sections about the gates: where they stand, whether they choose, and whether that helps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from engram_interp.results import (
    GateInformation,
    GateReading,
    GateSelectivity,
    GateStatistics,
    GateUsefulness,
    wording,
)
from engram_interp.views.markup import Html
from engram_interp.views.memory_tables import (
    contrast_table,
    information_table,
    initialisation_table,
    strata_table,
    usefulness_table,
)
from engram_interp.views.page import Part, Section
from engram_interp.views.strips import gate_strip
from engram_interp.views.tables import Cell, estimate, measured, table
from engram_interp.views.theme import number

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
_INITIALISATIONS = (
    "The untrained null above is one fresh copy. Here the gates are ranked among {inits} of them, all run on "
    "the first {documents}: {place}. A small p says that the gates are not as initialised, not that they "
    "help."
)
_SELECTIVITY = (
    "A gate that keeps out what does not belong would open wider on a token's own rows than on another "
    "n-gram's at the same query. The AUC is the chance that a gate on own rows exceeds one on others'; 0.5 "
    "is no preference. “swapped” takes the rows of a random other token; “collider” those of another n-gram "
    "of these texts that shares a row with it, a harder test. The grey range is that of untrained gates: "
    "only what lies beyond it was learnt. An AUC away from 0.5 says that the gate tells the two apart. It "
    "does not say that what it lets in is right, nor that it helps; the next section tests that."
)
_INFORMATION = (
    "How much the height of a gate tells of what its token is, in nats (0: nothing). Keys and queries are "
    "made of the tokens, so an untrained gate tells something too: only what lies beyond the grey range was "
    "learnt. To tell a token's kind apart is not to know whether its memory helps."
)
_STRATA = (
    "By training: tokens sorted by how often it saw their longest n-gram, by the n-gram's own count where "
    "that is kept, else by the smallest count over its rows, an upper bound; the table says which. Frequent "
    "n-grams differ from rare ones in much else, so a trend here is a description, not the effect of "
    "training on a row. There is no untrained null beside it."
)
_USEFULNESS = (
    "Of every document a few tokens are drawn. At each, one layer's gate is shut at that token alone, and "
    "the loss of the next token is read: Δ loss above 0 means that this read helped. The AUC says how well "
    "the gate's height foretells that. One token's Δ loss is noisy, which draws the AUC towards "
    "0.5; an untrained model's reads hold nothing learnt, so its range shows what chance gives. Shutting a "
    "gate is no state that training saw, and what a read does at later tokens is not counted."
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
                *_among_initialisations(statistics.data),
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


def test_sections(
    selectivity: GateSelectivity | None,
    information: GateInformation | None,
    usefulness: GateUsefulness | None,
) -> list[Section]:
    """Whether the gates choose, and whether they are open where the memory helps.

    A test that could not be made is None; the page's notes say why.
    """
    sections = []
    if selectivity is not None:
        data = selectivity.data
        shown = [selectivity.plot(), contrast_table(data), _STRATA, strata_table(data)]
        sections.append(
            Section(title="Do the gates choose?", parts=[selectivity.summary(), _SELECTIVITY, *shown])
        )
    if information is not None:
        shown = [information.plot(), information_table(information.data)]
        sections.append(
            Section(
                title="What do the gates tell of a token?",
                parts=[information.summary(), _INFORMATION, *shown],
                fold="closed",
            )
        )
    if usefulness is not None:
        shown = [usefulness.plot(), usefulness_table(usefulness.data)]
        sections.append(
            Section(
                title="Are the gates open where the memory helps?",
                parts=[usefulness.summary(), _USEFULNESS, *shown],
            )
        )
    return sections


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


def _among_initialisations(data: xr.Dataset) -> list[Part]:
    """The gates' place among fresh initialisations: what it says in words, and the numbers."""
    if "observed" not in data or not int(data.attrs.get("n_inits", 0)):
        return []
    inits, documents = (int(data.attrs[name]) for name in ("n_inits", "n_init_documents"))
    p = float(data["untrained_p_all"])
    place = (
        f"not ranked ({wording.why_missing(data['untrained_p_all'])})"
        if math.isnan(p)
        else (
            f"p = {number(p)} over all layers and streams together, where {number(1 / (inits + 1))} is the "
            "smallest that so few can show"
        )
    )
    said = _INITIALISATIONS.format(inits=inits, documents=wording.counted(documents, "document"), place=place)
    return [said, initialisation_table(data)]


def _spread(data: xr.Dataset, prefix: str) -> list[Cell]:
    others = [measured(data[f"{prefix}{name}"]) for name in ("sd", "fraction_open")]
    return [*estimate(data, f"{prefix}mean"), *others]
