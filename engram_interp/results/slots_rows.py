"""Rows by training hits: how far they have moved, and how many directions they span."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, Variable, floats, ints, texts, with_interval
from engram_interp.views import forests
from engram_interp.views.theme import Theme, number

GROUPS = ("0", "1–4", "5–49", "≥ 50", "tenth hit least", "tenth hit most")
"""Strata of training hits, and both ends of the rows sorted by them."""
_CELL = "layer group"


def _measures() -> dict[str, Variable]:
    units = {
        "norm": ("1", "norm"),
        "initial_norm": ("1", "norm at initialisation"),
        "moved": ("initial norms", "distance from its initial state, in units of its initial norm"),
        "cosine": ("1", "cosine with its own initial state"),
        "other_cosine": ("1", "cosine with the same row of another initialisation"),
        "rank": ("dimensions", "effective rank of a part of the rows"),
        "initial_rank": ("dimensions", "effective rank of the same rows at initialisation"),
    }
    found: dict[str, Variable] = {}
    for name, (unit, meaning) in units.items():
        found |= with_interval(name, floats(_CELL, unit, meaning))
    return found


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SlotRows(Result):
    """Norm, movement and effective rank of rows by training hits, beside their initial state."""

    kind: ClassVar[str] = "slot_rows"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": ints("layer", "layer", "memory layer, counted from 0"),
            "group": texts("group", "rows by training hits"),
        },
        variables={
            **_measures(),
            "rows": ints(_CELL, "rows", "rows of the group"),
            "hits": floats(_CELL, "hits", "median training hits"),
        },
    )

    def summary(self) -> str:
        """Rows never hit, and both ends of the table: hits, movement, effective rank."""
        data = self.data
        said = [_layer(data.isel(layer=i)) for i in range(data.sizes["layer"])]
        return (
            f"Rows of {data.attrs.get('model', 'the model')} ({wording.basis(data)}) beside their initial "
            f"state: {'; '.join(said)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """How far rows have moved, by layer and group."""
        parts = [
            (f"layer {int(cell['layer'])} · {cell['group'].item()}", cell)
            for at in np.ndindex(self.data.sizes["layer"], self.data.sizes["group"])
            for cell in (self.data.isel(layer=at[0], group=at[1]),)
            if int(cell["rows"])
        ]
        arrays = {
            f"value{end}": ("row", [float(cell[f"moved{end}"]) for _, cell in parts])
            for end in ("", "_low", "_high")
        }
        arrays |= {f"null_value{end}": ("row", [0.0] * len(parts)) for end in ("", "_low", "_high")}
        return forests.forest(
            xr.Dataset(arrays, coords={"row": [label for label, _ in parts]}),
            title="Did training reach these rows?",
            subtitle="bars: 95 % intervals over rows; a row that was never hit has not moved",
            axis="distance from the initial state (initial norms)",
            at=0.0,
            rows="layer · training hits",
            null="never hit",
            theme=theme,
        )


def _layer(data: xr.Dataset) -> str:
    never, total = int(data["rows"].sel(group="0")), int(data["rows"].sel(group=list(GROUPS[:4])).sum())
    ends = []
    for group in GROUPS[4:]:
        cell = data.sel(group=group)
        moved = [float(cell[f"moved{end}"]) for end in ("", "_low", "_high")]
        ends.append(
            f"the {group} (median {float(cell['hits']):,.0f} hits) has moved {number(moved[0], digits=2)} "
            f"initial norms {wording.span(*moved[1:])} and spans {number(float(cell['rank']), digits=1)} "
            f"directions ({number(float(cell['initial_rank']), digits=1)} at first)"
        )
    return f"layer {int(data['layer'])}, {never:,} of {total:,} never hit: {', '.join(ends)}"
