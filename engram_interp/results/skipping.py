"""The cost of skipping each layer, beside a random control and the baseline."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.provenance import layer_list
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, Variable, floats, ints, texts, with_interval
from engram_interp.views import skipping
from engram_interp.views.theme import Theme, signed

Memory = Literal["skipped", "kept"]
_LAYERS = "model memory layer"


def _effects() -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    meanings = {"delta_loss": "change of the loss on the next token", "kl": "KL(intact ‖ skipped)"}
    for name, meaning in meanings.items():
        found |= with_interval(name, floats(_LAYERS, "nats", meaning))
        found |= with_interval(f"control_{name}", floats(_LAYERS, "nats", f"{meaning}, random control"))
    return found


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SkipEffect(Result):
    """Change of loss when a block is skipped, by layer, model and what becomes of the memory's write."""

    kind: ClassVar[str] = "skip_effect"
    schema: ClassVar[Schema] = Schema(
        coords={
            "model": texts("model", "engram or baseline"),
            "memory": texts("memory", "whether the memory's write is skipped with the block or kept"),
            "layer": ints("layer", "layer", "layer skipped, counted from 0"),
        },
        variables={
            **_effects(),
            **with_interval(
                "difference", floats("memory layer", "nats", "change of loss, Engram minus baseline")
            ),
            "intact_loss": floats("model", "nats", "loss of the intact model"),
        },
    )

    def summary(self) -> str:
        """Which layers cost most, and where Engram and baseline differ."""
        data = self.data
        cost = data["delta_loss"].sel(model="engram", memory="skipped")
        most, least = int(np.nanargmax(cost.values)), int(np.nanargmin(cost.values))
        said = (
            f"Skipping a layer of {data.attrs.get('model', 'the model')} ({wording.basis(data)}) costs from "
            f"{signed(float(cost[least]))} (layer {least}) to {signed(float(cost[most]))} nats (layer {most})"
        )
        return f"{said}; {self._compared()}; a skipped model is off its training distribution."

    def _compared(self) -> str:
        data = self.data
        if "baseline" not in data["model"].values:
            return "no baseline stands beside it, so nothing is said about the memory"
        value, low, high = (
            data[f"difference{end}"].sel(memory="skipped").values for end in ("", "_low", "_high")
        )
        if bool(np.isnan(low).all()):
            why = wording.why_missing(data["difference_low"])
            return f"no interval is possible ({why}), so no difference to the baseline is claimed"
        apart = [
            f"{signed(value[i])} {wording.span(low[i], high[i], digits=3)} in layer {i}"
            for i in np.flatnonzero((low > 0) | (high < 0))
        ]
        against = data.attrs.get("baseline", "the baseline")
        if not apart:
            return f"no layer's cost differs from that of {against}"
        return f"against {against} it costs {wording.listed(apart)}, one training run of each"

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Change of loss by skipped layer, with controls."""
        layers = layer_list(self.data.attrs.get("memory_layers", ""))
        return skipping.cost_by_layer(self.data, memory_layers=layers, theme=theme)
