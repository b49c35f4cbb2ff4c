"""A training run seen from its memory: gates, rows and usefulness at chosen steps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, floats, ints, with_interval
from engram_interp.views import training
from engram_interp.views.theme import Theme, number, signed

_CELL = "step layer stream"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainingWatch(Result):
    """Gates beside themselves at step 0, rows touched and what one read is worth, along training."""

    kind: ClassVar[str] = "training_watch"
    schema: ClassVar[Schema] = Schema(
        coords={
            "step": ints("step", "step", "training steps done"),
            "layer": ints("layer", "layer", "memory layer, counted from 0"),
            "stream": counted("stream", "stream", "residual stream"),
        },
        variables={
            "mean": floats(_CELL, "1", "mean gate"),
            "sd": floats(_CELL, "1", "standard deviation of the gate"),
            "fraction_open": floats(_CELL, "1", "share of tokens with a gate above 0.5"),
            **with_interval("shift", floats(_CELL, "1", "mean of the gate minus the same token's at step 0")),
            "rows_touched": floats(
                "step layer", "1", "share of the table's rows that training has looked up"
            ),
            **with_interval(
                "mean_delta", floats("step layer", "nats", "Δloss of a token with its gate shut")
            ),
            "auc": floats(_CELL, "1", "AUC of the gate as a predictor of Δloss > 0"),
        },
    )

    def summary(self) -> str:
        """Which gates moved between the first and the last step, and what a read is worth by then."""
        data = self.data
        first, last = (int(data["step"][place]) for place in (0, -1))
        end = data.isel(step=-1)
        where = f"{data.attrs.get('model', 'the model')}, steps {first:,} to {last:,} ({wording.basis(data)})"
        shift = end["shift"].values
        low, high = end["shift_low"].values, end["shift_high"].values
        total = wording.counted(shift.size, "layer–stream pair")
        if np.isnan(low).all():
            moved = f"no interval of a shift is possible ({wording.why_missing(data['shift_low'])})"
        else:
            apart = int(((low > 0) | (high < 0)).sum())
            moved = (
                f"{apart} of {total} moved off their value at step {first:,} (95 % intervals over documents, "
                "the same tokens), which training alone does, whether or not it helps"
            )
        spread = " to ".join(signed(float(v), digits=3) for v in (np.nanmin(shift), np.nanmax(shift)))
        worth = ", ".join(
            f"{signed(float(value))} nats in layer {int(layer)}"
            for layer, value in zip(data["layer"].values, end["mean_delta"].values, strict=True)
        )
        return (
            f"Gates of {where}: shift {spread}; {moved}. {self._touched()}; shutting one gate costs {worth}."
        )

    def _touched(self) -> str:
        share = self.data["rows_touched"].isel(step=-1).values
        if np.isnan(share).all():
            return f"Rows touched are not known ({wording.why_missing(self.data['rows_touched'])})"
        shares = wording.listed(f"{number(100 * float(value), digits=1)} %" for value in share)
        return f"Training has touched {shares} of the rows ({wording.layers(self.data['layer'].values)})"

    def plot(self, *, theme: Theme = "light", quantity: training.Quantity = "shift") -> go.Figure:
        """One quantity by step."""
        return training.by_step(self.data, quantity=quantity, theme=theme)
