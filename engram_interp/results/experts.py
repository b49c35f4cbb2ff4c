"""Load, information about the n-gram, and redundancy of experts, by model and layer."""

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
from engram_interp.views.theme import Theme, number

_LAYER = "model layer"
_ORDER = "model layer order"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExpertUse(Result):
    """What the experts of each model are chosen by, how evenly, and how alike they are."""

    kind: ClassVar[str] = "expert_use"
    schema: ClassVar[Schema] = Schema(
        coords={
            "model": texts("model", "which model"),
            "layer": ints("layer", "layer", "layer, counted from 0"),
            "order": ints("order", "tokens", "length of the n-gram"),
        },
        variables={
            "experts": ints("model layer", "1", "routed experts of the layer"),
            **with_interval("load", floats(_LAYER, "1", "effective number of experts over their number")),
            **with_interval(
                "information",
                floats(_ORDER, "1", "information of the first choice about the n-gram, over ln(experts)"),
            ),
            "permuted": floats(_ORDER, "1", "the same with choices permuted inside documents"),
            **with_interval("redundancy", floats(_LAYER, "1", "mean cosine of two experts' outputs")),
        },
    )

    def summary(self) -> str:
        """Means over layers of every model: load, information by order, redundancy."""
        data = self.data
        said = [_model(data.sel(model=name)) for name in data["model"].values]
        return f"Experts ({wording.basis(data)}), means over layers: {'; '.join(said)}."

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Information of the choice about the token, by model and layer, beside permuted choices."""
        data = self.data.isel(order=0)
        parts = [
            (f"{name} · layer {int(layer)}", data.sel(model=name, layer=layer))
            for name in data["model"].values
            for layer in data["layer"].values
        ]
        arrays = {
            f"value{end}": ("row", [float(cell[f"information{end}"]) for _, cell in parts])
            for end in ("", "_low", "_high")
        }
        null = [float(cell["permuted"]) for _, cell in parts]
        arrays |= {f"null_value{end}": ("row", null) for end in ("", "_low", "_high")}
        return forests.forest(
            xr.Dataset(arrays, coords={"row": [label for label, _ in parts]}),
            title="Is the expert chosen by the token?",
            subtitle="bars: 95 % intervals over documents; grey: choices permuted inside documents",
            axis="information about the token over ln(experts) (no unit)",
            at=0.0,
            rows="model · layer",
            null="permuted",
            theme=theme,
        )


def _model(data: xr.Dataset) -> str:
    load, redundancy = (float(np.nanmean(data[name].values)) for name in ("load", "redundancy"))
    told = []
    for i, order in enumerate(data["order"].values):
        tells, permuted = (float(data[name].isel(order=i).mean()) for name in ("information", "permuted"))
        of = wording.counted(int(order), "token")
        told.append(f"{number(tells)} of its most about {of} (permuted {number(permuted)})")
    return (
        f"{data['model'].item()} load {number(100 * load, digits=1)} % of even, the choice tells "
        f"{' and '.join(told)}, two experts' outputs have cosine {number(redundancy)}"
    )
