"""How long look-ups take by size of the table."""

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

STATES = ("cold", "warm")
"""The rows were driven out of the caches first; the same rows were read just before."""
PARTS = ("hash", "gather", "look-up")
"""From n-grams to addresses, from addresses to rows, and both."""
_CELL = "megabytes state part"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LookupTime(Result):
    """Time of hashing and gathering by size of the table, in units of the smallest table's."""

    kind: ClassVar[str] = "lookup_time"
    schema: ClassVar[Schema] = Schema(
        coords={
            "megabytes": Variable(
                dims=("megabytes",), dtype="float", units="MB", meaning="size of the table"
            ),
            "state": texts("state", "whether caches hold the rows: cold or warm"),
            "part": texts("part", "hash, gather, or the whole look-up"),
        },
        variables={
            "microseconds": floats(_CELL, "µs", "median time a token"),
            **with_interval("ratio", floats(_CELL, "1", "median ratio to the first size, inside a round")),
            "rows": ints("megabytes", "rows", "rows of the table"),
        },
    )

    def summary(self) -> str:
        """The largest table's look-ups in units of the smallest's, warm and cold, and its parts."""
        data = self.data
        sizes = data["megabytes"].values
        last = data.isel(megabytes=-1)
        said = []
        for state in STATES:
            cell = last.sel(state=state)
            parts = ", ".join(f"{part} {_ratio(cell.sel(part=part))}" for part in PARTS[:2])
            whole = cell.sel(part="look-up")
            spent = number(float(whole["microseconds"]), digits=2)
            said.append(f"{state} {_ratio(whole)} ({parts}), {spent} µs a token")
        return (
            f"A look-up in a table of {sizes[-1]:,g} MB takes, in units of one of {sizes[0]:,g} MB "
            f"({wording.counted(int(data.attrs['n_samples']), 'round')}, "
            f"{wording.counted(int(data.attrs['threads']), 'thread')}): {'; '.join(said)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Every ratio of the whole look-up with its interval."""
        whole = self.data.sel(part="look-up")
        parts = [
            (f"{size:,g} MB · {state}", whole.sel(megabytes=size, state=state))
            for state in STATES
            for size in self.data["megabytes"].values[1:]
        ]
        arrays = {
            f"value{end}": ("row", [float(cell[f"ratio{end}"]) for _, cell in parts])
            for end in ("", "_low", "_high")
        }
        arrays |= {f"null_value{end}": ("row", [1.0] * len(parts)) for end in ("", "_low", "_high")}
        first = float(self.data["megabytes"][0])
        return forests.forest(
            xr.Dataset(arrays, coords={"row": [label for label, _ in parts]}),
            title="Does a look-up take longer in a larger table?",
            subtitle="bars: 95 % intervals over rounds",
            axis=f"time in units of a table of {first:,g} MB (no unit)",
            at=1.0,
            rows="size · caches",
            null="no growth",
            theme=theme,
        )


def _ratio(cell: xr.Dataset) -> str:
    value, low, high = (float(cell[f"ratio{end}"]) for end in ("", "_low", "_high"))
    span = " without an interval" if np.isnan(low) else f" {wording.span(low, high)}"
    return f"{number(value, digits=2)}{span}"
