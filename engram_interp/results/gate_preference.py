"""Whether gates follow the training hits of their rows, where reading helps and where it hurts."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, floats, ints, texts, with_interval
from engram_interp.views import forests
from engram_interp.views.theme import Theme, number, signed

READS = ("all", "help", "hurt")
"""All sampled reads; those whose loss rises with the gate shut at that token; those whose loss falls."""
QUARTERS = ("fewest hits", "few", "many", "most hits")
_CELL = "read layer stream"
_ENDS = ("", "_low", "_high")


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GatePreference(Result):
    """Rank correlation of gates with the training hits of their rows, beside untrained gates."""

    kind: ClassVar[str] = "gate_preference"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": ints("layer", "layer", "memory layer, counted from 0"),
            "stream": counted("stream", "stream", "residual stream"),
            "read": texts("read", "which reads: all, those that help, those that hurt"),
            "quarter": texts("quarter", "quarter of the reads by training hits of their rows"),
        },
        variables={
            **with_interval("correlation", floats(_CELL, "1", "Spearman's ρ of gate and training hits")),
            **{
                f"null_correlation{end}": floats(_CELL, "1", f"ρ: {word} over untrained initialisations")
                for end, word in zip(_ENDS, ("mean", "smallest", "largest"), strict=True)
            },
            "reads": ints("read layer", "tokens", "sampled reads of each kind"),
            **with_interval("quarter_gate", floats("quarter layer stream", "1", "mean gate")),
            **with_interval(
                "quarter_delta", floats("quarter layer", "nats", "mean change of loss with the gate shut")
            ),
        },
    )

    def summary(self) -> str:
        """The correlation of all reads and of those that hurt, at every layer and stream, and its null."""
        data = self.data
        said = [_cell(data.isel(layer=i, stream=j)) for i, j in np.ndindex(*_shape(data))]
        return (
            f"Gates of {data.attrs.get('model', 'the model')} against the training hits of their rows "
            f"({wording.basis(data)}), Spearman's ρ: {'; '.join(said)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Every correlation with its interval, over the range of untrained initialisations."""
        parts = [
            (f"{read} · layer {int(data['layer'])} · stream {int(data['stream'])}", data)
            for read in READS
            for i, j in np.ndindex(*_shape(self.data))
            for data in (self.data.sel(read=read).isel(layer=i, stream=j),)
        ]
        arrays = {
            f"{prefix}value{end}": ("row", [float(cell[f"{prefix}correlation{end}"]) for _, cell in parts])
            for prefix in ("", "null_")
            for end in _ENDS
        }
        return forests.forest(
            xr.Dataset(arrays, coords={"row": [label for label, _ in parts]}),
            title="Does the gate follow the hits of its rows?",
            axis="Spearman's ρ of gate and training hits (no unit)",
            at=0.0,
            rows="reads · layer · stream",
            theme=theme,
        )


def _shape(data: xr.Dataset) -> tuple[int, int]:
    return data.sizes["layer"], data.sizes["stream"]


def _cell(data: xr.Dataset) -> str:
    kinds = (("all", "all reads"), ("hurt", "those that hurt"))
    said = [f"{_rho(data.sel(read=read))} over {words}" for read, words in kinds]
    most, least = (float(data["quarter_delta"].sel(quarter=q)) for q in (QUARTERS[-1], QUARTERS[0]))
    worth = f"shutting costs {signed(most)} nats where hits are most, {signed(least)} where fewest"
    return f"layer {int(data['layer'])} · stream {int(data['stream'])} {' and '.join(said)}, {worth}"


def _rho(data: xr.Dataset) -> str:
    value, low, high, null_low, null_high = (
        float(data[f"{name}"])
        for name in (
            "correlation",
            "correlation_low",
            "correlation_high",
            "null_correlation_low",
            "null_correlation_high",
        )
    )
    said = f"{signed(value, digits=2)}{'' if np.isnan(low) else f' {wording.span(low, high)}'}"
    if np.isnan(null_low):
        return f"{said} (no untrained gates beside it)"
    return f"{said} (untrained {number(null_low, digits=2)} to {number(null_high, digits=2)})"
