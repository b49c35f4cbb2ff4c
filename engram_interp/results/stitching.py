"""Stitching: the loss when an Engram layer stands in for a baseline layer."""

import math
from dataclasses import dataclass
from typing import ClassVar

import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, flags, floats, ints, with_interval
from engram_interp.views import stitching
from engram_interp.views.theme import Theme

_LOSS = "held-out loss of the baseline's rest"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StitchingResult(Result):
    """Loss of every stitched layer pair, and where along the baseline each layer fits best."""

    kind: ClassVar[str] = "stitching"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": ints("layer", "layer", "layer of the model with memory, counted from 0"),
            "baseline_layer": ints("baseline_layer", "layer", "layer of the baseline, counted from 0"),
            "reference_layer": ints("reference_layer", "layer", "layer of the reference, counted from 0"),
            "document": ints("document", "document", "document, counted from 0"),
        },
        variables={
            "loss": floats("layer baseline_layer", "nats", f"{_LOSS} after an Engram layer"),
            "loss_self": floats("reference_layer baseline_layer", "nats", f"{_LOSS} after the reference's"),
            "null_loss": floats("baseline_layer", "nats", f"{_LOSS} after shuffled tokens"),
            "recovered": floats("layer baseline_layer", "1", "share of loss from shuffled to intact"),
            "document_loss": floats("document layer baseline_layer", "nats", "loss summed over a document"),
            "document_loss_self": floats(
                "document reference_layer baseline_layer", "nats", "the reference's, summed over a document"
            ),
            "document_tokens": ints("document", "tokens", "predicted tokens of a document"),
            "intact_loss": floats("", "nats", "loss of the baseline as it is"),
            "best": floats("layer", "layers", "baseline layer of lowest loss, by a parabola"),
            "depth": floats("layer", "layers", "monotone path of lowest stitched loss"),
            "depth_self": floats("layer", "layers", "the same of the reference"),
            **with_interval(
                "shift", floats("layer", "layers", "depth read back on the reference's own, minus the layer")
            ),
            "pre_memory": flags("layer", "residual before the first memory read"),
            "interior": flags("layer", "counts towards the headline"),
            **with_interval("headline", floats("", "layers", "mean shift over interior layers")),
            **with_interval("control_shift", floats("", "layers", "mean shift over pre-memory layers")),
        },
    )

    def summary(self) -> str:
        """The mean shift, its control, and what a stitch may not be taken for."""
        data, attrs = self.data, self.data.attrs
        ends = [wording.scalar(data, f"headline{end}") for end in ("", "_low", "_high")]
        if math.isnan(ends[0]):
            found = f"no headline ({wording.why_missing(data['headline'])})"
        else:
            found = f"mean shift {wording.shift(*ends)} {wording.after_read(attrs)}"
        control = [wording.scalar(data, f"control_shift{end}") for end in ("", "_low", "_high")]
        if not math.isnan(control[0]):
            found += f"; internal control {wording.control(*control)}"
        alone = ""
        if attrs.get("reference") == "the baseline itself":
            alone = (
                " The reference is the baseline itself, which fits its own layers exactly; any other run "
                "may shift as much, so nothing is claimed without another seed."
            )
        return (
            f"Stitching {attrs.get('engram', 'the Engram model')} into "
            f"{attrs.get('baseline', 'its baseline')}: {found}. A low loss says that an affine map finds "
            "there what the baseline's rest can use; a layer that holds more may fit anywhere." + alone
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Stitched loss above the intact baseline's, by layer pair."""
        return stitching.heat_map(self.data, theme=theme)
