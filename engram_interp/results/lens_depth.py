"""Lens depth: at which baseline layer the prediction is as near the final one as at an Engram layer."""

import math
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, flags, floats, ints, with_interval
from engram_interp.views import curves
from engram_interp.views.theme import Theme

_SHIFT = "baseline depth at which the divergence is that of this layer, minus the layer"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LensDepthResult(Result):
    """How far ahead of the baseline each layer's prediction is, in baseline layers."""

    kind: ClassVar[str] = "lens_depth"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": ints("layer", "layer", "layer of the model with memory, counted from 0"),
            "baseline_layer": ints("baseline_layer", "layer", "layer of the baseline, counted from 0"),
        },
        variables={
            "kl": floats("layer", "nats", "KL(final ‖ layer)"),
            "baseline_kl": floats("baseline_layer", "nats", "KL(final ‖ layer) of the baseline"),
            "baseline_curve": floats("baseline_layer", "nats", "its nearest falling curve"),
            "depth": floats(
                "layer", "layers", "baseline depth at which the divergence is that of this layer"
            ),
            **with_interval("shift", floats("layer", "layers", _SHIFT)),
            **with_interval("reference_shift", floats("layer", "layers", f"{_SHIFT}, of the reference")),
            "beyond": flags("layer", "beyond the ends of the baseline's curve: the depth is the end's"),
            "pre_memory": flags("layer", "residual before the first memory read"),
            "interior": flags("layer", "counts towards the headline"),
            **with_interval("headline", floats("", "layers", "mean shift over interior layers")),
            **with_interval("control_shift", floats("", "layers", "mean shift over pre-memory layers")),
            **with_interval(
                "reference_headline", floats("", "layers", "mean shift of the reference, same layers")
            ),
        },
    )

    def summary(self) -> str:
        """The mean shift, its control, and that it is about readiness and not proof of depth."""
        data, attrs = self.data, self.data.attrs
        value, low, high = (wording.scalar(data, f"headline{end}") for end in ("", "_low", "_high"))
        if math.isnan(value):
            found = f"no headline ({wording.why_missing(data['headline'])})"
        else:
            found = f"mean shift {wording.shift(value, low, high)} over {self._layers()}"
        parts = [found]
        for name, label in (("control_shift", "internal control"), ("reference_headline", "another seed")):
            ends = [wording.scalar(data, f"{name}{end}") for end in ("", "_low", "_high")]
            if not math.isnan(ends[0]):
                said = wording.control if name == "control_shift" else wording.shift
                parts.append(f"{label} {said(*ends)}")
            elif name == "control_shift":
                parts.append(f"no internal control ({wording.why_missing(data[name])})")
        outside = data["interior"].values & data["beyond"].values
        if outside.any():
            parts.append(f"{wording.layers(data['layer'].values[outside])} beyond the curve, so at its end")
        return (
            f"Lens depth of {attrs.get('engram', 'the Engram model')} against "
            f"{attrs.get('baseline', 'its baseline')} by the {attrs.get('lens', 'raw logit lens')} "
            f"({wording.basis(data)}): {'; '.join(parts)}; {_verdict(value, low, high)}. It says how "
            f"ready the prediction is at a layer{self._language()} and is no proof of depth."
        )

    def _language(self) -> str:
        """The raw lens reads every layer as if it were the last."""
        raw = str(self.data.attrs.get("lens", "raw logit lens")).startswith("raw")
        return ", and by the raw lens how far its language is the final one," if raw else ""

    def _layers(self) -> str:
        return wording.layers(self.data["layer"].values[self.data["interior"].values])

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Both curves, and from each Engram layer the reading across to the baseline's curve."""
        return curves.lens_depth(self.data, theme=theme)


def _verdict(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "nothing is claimed"
    if math.isnan(low + high):
        return "without an interval nothing is claimed"
    if low <= 0 <= high:
        return "the interval includes 0, so neither model's prediction is ready earlier"
    return f"the prediction is ready {'earlier' if low > 0 else 'later'} than in the baseline"
