"""How far back attention looks, by layer, with a memory, with its gates shut, and in the baseline."""

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

STATISTICS = ("distance", "entropy", "near", "sink")
"""Mean distance in tokens, entropy in nats, share of the token itself and the three before it (all without
the first position), and the share of the first position."""
_CELL = "condition layer statistic"
_ENDS = ("", "_low", "_high")


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AttentionReach(Result):
    """Distance, entropy, near share and sink share of attention by layer, and less the baseline's."""

    kind: ClassVar[str] = "attention_reach"
    schema: ClassVar[Schema] = Schema(
        coords={
            "condition": texts("condition", "engram, gates shut, or baseline"),
            "layer": ints("layer", "layer", "layer, counted from 0"),
            "statistic": texts("statistic", "distance (tokens), entropy (nats), near and sink (shares)"),
        },
        variables={
            **with_interval("mean", floats(_CELL, "see statistic", "mean over queries and heads")),
            **with_interval("difference", floats(_CELL, "see statistic", "mean less the baseline's")),
        },
    )

    def summary(self) -> str:
        """Mean distance by layer, and where it differs from the baseline's."""
        data = self.data.sel(statistic="distance")
        said = []
        for condition in data["condition"].values:
            each = ", ".join(number(float(v), digits=1) for v in data["mean"].sel(condition=condition))
            said.append(f"{condition} {each}")
        return (
            f"Attention of {data.attrs.get('model', 'the model')} ({wording.basis(data)}) looks back so many "
            f"tokens on average, by layer: {'; '.join(said)}; {_compared(data)}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Difference of the mean distance to the baseline by layer; grey: with the gates shut."""
        data = self.data.sel(statistic="distance")
        compared = "baseline" in data["condition"].values
        name = "difference" if compared else "mean"
        engram = data.sel(condition="engram")
        arrays = {f"value{end}": ("row", engram[f"{name}{end}"].values) for end in _ENDS}
        shut = data.sel(condition="gates shut") if "gates shut" in data["condition"].values else None
        none = np.full(data.sizes["layer"], np.nan)
        arrays |= {
            f"null_value{end}": ("row", none if shut is None else shut[f"{name}{end}"].values)
            for end in _ENDS
        }
        rows = xr.Dataset(arrays, coords={"row": [f"layer {int(i)}" for i in data["layer"].values]})
        rows["null_value"].attrs["missing"] = "the model has no memory"
        return forests.forest(
            rows,
            title="How far back does attention look?",
            subtitle="bars: 95 % intervals over documents; grey: 95 % interval with the gates shut",
            axis="mean distance less the baseline's (tokens)" if compared else "mean distance (tokens)",
            at=0.0,
            rows="layer (counted from 0)",
            null="gates shut",
            theme=theme,
        )


def _compared(data: xr.Dataset) -> str:
    if "baseline" not in data["condition"].values:
        return "no baseline stands beside it"
    each = data.sel(condition="engram")
    value, low, high = (each[f"difference{end}"].values for end in _ENDS)
    apart = [
        f"{signed(value[i], digits=1)} {wording.span(low[i], high[i], digits=1)} in layer {i}"
        for i in np.flatnonzero((low > 0) | (high < 0))
    ]
    if not apart:
        return "no layer is told from the baseline's"
    return f"against the baseline {wording.listed(apart)}, one training run of each"
