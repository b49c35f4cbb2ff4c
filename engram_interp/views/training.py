"""Gates and rows along somebody's training: what moved, step by step."""

from typing import Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import Theme, blank, mix, palette
from engram_interp.views.tokens import plain_label

Quantity = Literal["shift", "mean", "sd", "auc", "mean_delta", "rows_touched"]

QUANTITIES: dict[str, tuple[str, ...]] = {
    "shift": ("gate minus the same gate at step 0", "How far training has moved the gates"),
    "mean": ("mean gate", "Where the gates stand"),
    "sd": ("standard deviation of the gate", "How much the gates vary"),
    "auc": ("AUC of the gate for Δloss > 0", "Whether the gate is open where the memory helps"),
    "mean_delta": ("Δloss with one gate shut (nats)", "What one read is worth"),
    "rows_touched": ("share of the table's rows", "How much of the tables training has touched"),
}
_NEUTRAL = {"shift": 0.0, "mean": 0.5, "auc": 0.5, "mean_delta": 0.0}


def by_step(data: xr.Dataset, *, quantity: Quantity = "shift", theme: Theme = "light") -> go.Figure:
    """One quantity by training step, a line for every memory layer and stream.

    Args:
        data: the quantity [step, layer] or [step, layer, stream] and, where there are, its ``_low`` and
            ``_high``.
        quantity: what to draw.
        theme: light or dark.
    """
    axis, title = marks.choose(QUANTITIES, quantity, what="quantity")
    figure = blank(
        title=title,
        subtitle="on the same prompts at every step; 95 % intervals over documents where there are any",
        x="training step",
        y=axis,
        theme=theme,
    )
    colours = palette(theme)
    if quantity in _NEUTRAL:
        figure.add_hline(y=_NEUTRAL[quantity], line={"width": 1, "color": colours.muted})
    drawn = data[quantity]
    streams = data["stream"].values.tolist() if "stream" in drawn.dims else [None]
    shades = (colours.engram, colours.baseline, colours.null, colours.muted)
    for number, layer in enumerate(data["layer"].values.tolist()):
        for order, stream in enumerate(streams):
            chosen = {"layer": layer} if stream is None else {"layer": layer, "stream": stream}
            name = f"layer {layer}" if stream is None else f"layer {layer}, stream {stream}"
            shade, value = shades[number % len(shades)], drawn.sel(chosen).values.astype(float)
            bars = None
            if f"{quantity}_low" in data:
                low, high = (data[f"{quantity}{end}"].sel(chosen).values for end in ("_low", "_high"))
                bars = marks.whiskers(value, low, high, colour=shade)
            figure.add_trace(
                go.Scatter(
                    x=data["step"].values,
                    y=value,
                    name=name,
                    mode="lines+markers",
                    line={"color": shade, "dash": ("solid", "dash", "dot", "dashdot")[order % 4]},
                    error_y=bars,
                    hovertemplate=f"{name}, step %{{x}}<br>%{{y:.4f}}<extra></extra>",
                )
            )
    return figure


def lines_by_step(data: xr.Dataset, *, variable: str, theme: Theme = "light") -> go.Figure:
    """A variable by training step, a line for every place on its other axis.

    Args:
        data: the variable [step] or [step, other].
        variable: which one.
        theme: light or dark.
    """
    drawn = data[variable]
    other = next((str(dim) for dim in drawn.dims if dim != "step"), None)
    figure = blank(
        title=str(drawn.attrs["long_name"]),
        subtitle="the same analysis at every checkpoint; intervals are in the results of single steps",
        x="training step",
        y=f"{drawn.attrs['long_name']} ({drawn.attrs['units']})",
        theme=theme,
    )
    places = [None] if other is None else drawn[other].values.tolist()
    colours = palette(theme)
    for number, place in enumerate(places):
        shade = mix(colours.engram, colours.baseline, number / max(len(places) - 1, 1))
        name = variable if place is None else f"{other} {place}"
        value = drawn.values if place is None else drawn.sel({other: place}).values
        figure.add_trace(
            go.Scatter(
                x=data["step"].values,
                y=np.asarray(value, float),
                name=name,
                mode="lines+markers",
                line={"color": shade},
                hovertemplate=f"{name}, step %{{x}}<br>%{{y:.4f}}<extra></extra>",
            )
        )
    return figure


def curves_of_runs(data: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """Held-out loss of several runs along training; the seeds of an arm share a colour.

    Args:
        data: curve_step, curve_loss [run, evaluation] and arm [run].
        theme: light or dark.
    """
    figure = blank(
        title="How every arm learns",
        subtitle="loss on the first held-out windows; seeds of an arm share a colour",
        x="training step",
        y="held-out loss (nats a token)",
        theme=theme,
    )
    colours = palette(theme)
    arms = list(dict.fromkeys(data["arm"].values.tolist()))
    for index, run in enumerate(data["run"].values.tolist()):
        arm = str(data["arm"].values[index])
        nth = int((data["arm"].values[:index] == arm).sum())
        shade = mix(colours.engram, colours.baseline, arms.index(arm) / max(len(arms) - 1, 1))
        name = plain_label(run)
        figure.add_trace(
            go.Scatter(
                x=data["curve_step"].values[index],
                y=data["curve_loss"].values[index],
                name=name,
                mode="lines+markers",
                line={"color": shade, "dash": ("solid", "dash", "dot", "dashdot")[nth % 4]},
                hovertemplate=f"{name}, step %{{x}}<br>%{{y:.4f}}<extra></extra>",
            )
        )
    return figure
