"""What gates tell of their tokens, beside untrained and permuted gates."""

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
from engram_interp.views.theme import Theme, number

FEATURES = ("entity end", "token class", "times in training", "n-gram PMI")
"""What a token is: ends a marked entity; kind of token by its letters; stratum of its longest n-gram's count;
quarter of that n-gram's pointwise mutual information."""
_CELL = "feature layer stream"
_WORDS = {"": "mean", "_low": "smallest", "_high": "largest"}


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateInformation(Result):
    """Mutual information of gates with what their tokens are, beside its nulls."""

    kind: ClassVar[str] = "gate_information"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": ints("layer", "layer", "memory layer, counted from 0"),
            "stream": counted("stream", "stream", "residual stream"),
            "feature": texts("feature", "what the token is"),
        },
        variables={
            **with_interval("information", floats(_CELL, "nats", "mutual information of gate and feature")),
            **{
                f"null_information{end}": floats(
                    _CELL, "nats", f"mutual information: {word} over untrained initialisations"
                )
                for end, word in _WORDS.items()
            },
            "permuted_p": floats(_CELL, "1", "rank p among gates permuted inside documents"),
            **with_interval(
                "correlation", floats(_CELL, "1", "Spearman's ρ of gate and feature, ordered ones only")
            ),
            "n_tokens": ints("feature", "tokens", "tokens whose feature is known"),
        },
    )

    def summary(self) -> str:
        """Per feature the layer and stream that tell most, and whether an untrained gate tells as much."""
        data = self.data
        said = [_feature(data.sel(feature=name), str(name)) for name in data["feature"].values]
        return (
            f"What gates of {data.attrs.get('model', 'the model')} tell of their tokens "
            f"({wording.basis(data)}), mutual information in nats: {'; '.join(said)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Every information with its interval, over the range of untrained initialisations."""
        parts = [
            (f"{name} · layer {int(cell['layer'])} · stream {int(cell['stream'])}", cell)
            for name in self.data["feature"].values
            for cell in _cells(self.data.sel(feature=name))
            if not np.isnan(float(cell["information"]))
        ]
        arrays = {
            f"{prefix}value{end}": ("row", [float(cell[f"{prefix}information{end}"]) for _, cell in parts])
            for prefix in ("", "null_")
            for end in _WORDS
        }
        return forests.forest(
            xr.Dataset(arrays, coords={"row": [label for label, _ in parts]}),
            title="What does the gate tell of its token?",
            axis="mutual information (nats)",
            at=0.0,
            theme=theme,
        )


def _cells(data: xr.Dataset) -> list[xr.Dataset]:
    return [
        data.isel(layer=i, stream=j) for i in range(data.sizes["layer"]) for j in range(data.sizes["stream"])
    ]


def _feature(data: xr.Dataset, name: str) -> str:
    values = data["information"].values
    if np.isnan(values).all():
        return f"{name} not measured ({wording.why_missing(data['information'])})"
    cell = max(_cells(data), key=lambda c: np.nan_to_num(float(c["information"]), nan=-np.inf))
    value, low, high, null_low, null_high, p, rho, rho_low, rho_high = (
        float(cell[key])
        for key in (
            "information", "information_low", "information_high", "null_information_low",
            "null_information_high", "permuted_p", "correlation", "correlation_low", "correlation_high",
        )
    )  # fmt: skip
    said = f"{name} {number(value)}"
    said += " without an interval" if np.isnan(low) else f" {wording.span(low, high, digits=3)}"
    said += f" at layer {int(cell['layer'])} · stream {int(cell['stream'])}"
    if not np.isnan(rho):
        ends = "" if np.isnan(rho_low) else f" {wording.span(rho_low, rho_high)}"
        said += f", ρ {number(rho, digits=2)}{ends}"
    if not np.isnan(p):
        said += f", permuted p {number(p, digits=2)}"
    if np.isnan(null_low):
        return f"{said}, with no untrained null beside it, so nothing is claimed"
    said += f" (untrained {number(null_low)} to {number(null_high)}"
    count = data.attrs.get("n_inits")
    said += ")" if count is None else f" over {wording.counted(int(count), 'initialisation')})"
    if np.isnan(low):
        return f"{said}, so nothing is claimed"
    return said if low > null_high else f"{said}: this one no more than untrained gates may tell"
