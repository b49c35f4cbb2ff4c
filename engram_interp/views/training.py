"""Gates and rows along somebody's training: what moved, step by step."""

from itertools import pairwise
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
    """Held-out loss of several runs along training, each named where it ends.

    What was measured in the first fiftieth of the steps is left out: nearly the same for all, it would
    flatten what differs.

    Args:
        data: curve_step, curve_loss [run, evaluation] and arm [run].
        theme: light or dark.
    """
    figure = blank(
        title="How every arm learns",
        subtitle="loss on the first held-out windows, after the first steps; colours in the order of the end",
        x="training step",
        y="held-out loss (nats a token)",
        theme=theme,
        height=460,
    )
    colours = palette(theme)
    names, arms = data["run"].values.tolist(), data["arm"].values.tolist()
    ends = [float(loss[np.isfinite(loss)][-1]) for loss in data["curve_loss"].values]
    order = list(dict.fromkeys(arms[run] for run in np.argsort(ends)))
    curves = _curves(data)
    low, high = min(ends), max(float(loss[0]) for _, loss in curves)
    places = _apart(ends, least=0.045 * (high - low))
    for index, (step, loss) in enumerate(curves):
        nth = arms[:index].count(arms[index])
        shade = mix(colours.engram, colours.baseline, order.index(arms[index]) / max(len(order) - 1, 1))
        name = plain_label(names[index])
        figure.add_trace(
            go.Scatter(
                x=step,
                y=loss,
                name=name,
                mode="lines+markers",
                marker={"size": 5},
                line={"width": 1.5, "color": shade, "dash": ("solid", "dash", "dot", "dashdot")[nth % 4]},
                hovertemplate=f"{name}, step %{{x}}<br>%{{y:.4f}}<extra></extra>",
                showlegend=False,
            )
        )
        figure.add_annotation(
            x=1.0,
            xref="paper",
            xanchor="left",
            y=places[index],
            text=f"{name} {ends[index]:.3f}",
            showarrow=False,
            font={"size": 12, "color": shade},
            xshift=8,
        )
    last = max(float(step[-1]) for step, _ in curves)
    room = 0.03 * (high - low)
    figure.update_xaxes(range=[0, last * 1.02])
    figure.update_yaxes(range=[min(low, *places) - room, high + room])
    figure.update_layout(margin={"r": 190})
    return figure


def _curves(data: xr.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """Step and loss of every run's evaluations after the first fiftieth of its steps; at least the last."""
    found = []
    for step, loss in zip(data["curve_step"].values, data["curve_loss"].values, strict=True):
        known = np.isfinite(loss)
        known &= step >= step[known][-1] / 50
        found.append((step[known], loss[known]))
    return found


def _apart(values: list[float], *, least: float) -> list[float]:
    """Heights near `values`, each at least `least` below the next higher, so that labels do not overlap."""
    order = np.argsort(values)[::-1]
    placed = np.asarray(values, dtype=float)
    for above, below in pairwise(order):
        placed[below] = min(placed[below], placed[above] - least)
    return [float(place) for place in placed]
