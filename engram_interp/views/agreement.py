"""Three views of depth on one axis: the shift after the first read, and the control before it."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from engram_interp.views import marks
from engram_interp.views.theme import Theme, blank, number, palette, signed

Bounds = tuple[float, float, float]
"""Value, lower and upper end of its interval, in layers; NaN where undefined."""


def forest(
    names: Sequence[str], shifts: Sequence[Bounds], controls: Sequence[Bounds], *, theme: Theme = "light"
) -> go.Figure:
    """One row a view: its mean shift after the first memory read as a circle, its control as a diamond.

    Args:
        names: of the views, top to bottom.
        shifts: mean shift over interior layers after the first read.
        controls: the same over residuals before it.
        theme: light or dark.
    """
    figure = blank(
        title="Do similarity, prediction and function agree?",
        subtitle="mean shift in baseline layers with 95 % intervals over documents, for these two models",
        x="shift (layers; to the right is deeper)",
        y="",
        theme=theme,
        height=120 + 80 * max(len(names), 2),
    )
    colours = palette(theme)
    figure.add_vline(x=0, line={"width": 1, "color": colours.muted})
    groups = (
        ("after the first read", shifts, colours.engram, "circle", 0.13),
        ("control: before it", controls, colours.null, "diamond", -0.13),
    )
    for label, bounds, colour, symbol, lift in groups:
        value, low, high = ([part[i] for part in bounds] for i in range(3))
        places = [len(names) - 1 - row + lift for row in range(len(names))]
        error = marks.whiskers(*(_array(part) for part in (value, low, high)), colour=colour)
        figure.add_trace(
            go.Scatter(
                x=value,
                y=places,
                mode="markers",
                name=label,
                marker={"size": 11, "color": colour, "symbol": symbol},
                error_x=error,
                text=[_said(part) for part in bounds],
                hovertemplate="%{text}<extra>" + label + "</extra>",
            )
        )
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=list(reversed(names)),
        range=[-0.6, len(names) - 0.4],
        showgrid=False,
        automargin=True,
    )
    return figure


def _array(values: list[float]) -> marks.Values:
    return np.asarray(values, dtype=np.float64)


def _said(bounds: Bounds) -> str:
    value, low, high = bounds
    if math.isnan(value):
        return "n/a"
    interval = (
        "no interval" if math.isnan(low + high) else f"[{number(low, digits=2)}, {number(high, digits=2)}]"
    )
    return f"{signed(value, digits=2)} layers {interval}"
