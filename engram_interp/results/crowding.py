"""What a memory is worth by how busy the hash made an n-gram's rows, beside company dealt at random."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, floats, ints, texts, with_interval
from engram_interp.views import forests
from engram_interp.views.theme import Theme, number, signed

_CELL = "measure order stratum"
_ENDS = ("", "_low", "_high")


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CrowdingEffect(Result):
    """Worth of the memory at n-grams with much company in their rows less at those with little."""

    kind: ClassVar[str] = "crowding_effect"
    schema: ClassVar[Schema] = Schema(
        coords={
            "measure": texts("measure", "how the memory's worth is measured"),
            "order": ints("order", "tokens", "length of the n-gram"),
            "stratum": texts("stratum", "how often training saw the n-gram; all: pooled within strata"),
        },
        variables={
            **with_interval("difference", floats(_CELL, "nats", "worth with more company less with less")),
            **{
                f"null_difference{end}": floats(_CELL, "nats", f"difference, company dealt at random: {word}")
                for end, word in zip(_ENDS, ("mean", "2.5 %", "97.5 %"), strict=True)
            },
            **with_interval("worth", floats(_CELL, "nats", "mean worth of the memory")),
            "company_more": floats(_CELL, "reads", "geometric mean of reads by others, half with more"),
            "company_less": floats(_CELL, "reads", "geometric mean of reads by others, half with less"),
            "tokens": ints(_CELL, "tokens", "tokens whose n-gram is in the stratum"),
        },
    )

    def summary(self) -> str:
        """The pooled difference of every measure and order beside its null, and how company differs."""
        data = self.data.sel(stratum="all")
        said = [
            _cell(data.isel(measure=i, order=j))
            for i, j in np.ndindex(data.sizes["measure"], data.sizes["order"])
        ]
        return (
            f"In {data.attrs.get('model', 'the model')} ({wording.basis(data)}) the memory's worth at "
            f"n-grams with much company in their rows, less at those with little: {'; '.join(said)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Every difference with its interval, over what random company gives."""
        parts = [
            (f"{cell['measure'].item()} · {int(cell['order'])} tokens · {cell['stratum'].item()}", cell)
            for at in np.ndindex(*(self.data.sizes[name] for name in _CELL.split()))
            for cell in (self.data.isel(dict(zip(_CELL.split(), at, strict=True))),)
            if not np.isnan(float(cell["difference"]))
        ]
        arrays = {
            f"{prefix}value{end}": ("row", [float(cell[f"{prefix}difference{end}"]) for _, cell in parts])
            for prefix in ("", "null_")
            for end in _ENDS
        }
        return forests.forest(
            xr.Dataset(arrays, coords={"row": [label for label, _ in parts]}),
            title="Do collisions harm?",
            subtitle="bars: 95 % intervals over n-grams; grey: 95 % range with company dealt at random",
            axis="worth with more company less with less (nats)",
            at=0.0,
            rows="measure · order · times in training",
            null="random company",
            theme=theme,
        )


def _cell(data: xr.Dataset) -> str:
    value, low, high, null_low, null_high, more, less = (
        float(data[name])
        for name in (
            "difference", "difference_low", "difference_high", "null_difference_low",
            "null_difference_high", "company_more", "company_less",
        )
    )  # fmt: skip
    return (
        f"{data['measure'].item()}, {int(data['order'])} tokens {signed(value)} nats "
        f"{wording.span(low, high, digits=3)} (random company "
        f"{number(null_low)} to {number(null_high)}; {more:,.0f} reads by others against {less:,.0f})"
    )
