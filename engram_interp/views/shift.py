"""The depth shift of every layer with its interval, the control layers apart, the headline as a band."""

from typing import Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import Theme, blank, layer_title, number, palette, signed
from engram_interp.views.tokens import plain_label

Estimate = Literal["path", "peak", "soft"]

SHIFTS: dict[str, tuple[str, ...]] = {
    "path": ("path_shift", "monotone path"),
    "peak": ("peak_shift", "parabolic peak"),
    "soft": ("shift", "soft index (paper, eq. 9)"),
}


def forest(data: xr.Dataset, *, estimate: Estimate = "path", theme: Theme = "light") -> go.Figure:
    """Shift against the self-reference by layer, 95 % intervals over documents.

    Args:
        data: the shift named by `estimate` with its ``_low`` and ``_high`` [layer] in layers, edge and
            pre_memory [layer], and the scalars headline, headline_low, headline_high.
        estimate: which estimate of the depth. The headline belongs to the path alone.
        theme: light or dark.
    """
    name, label = marks.choose(SHIFTS, estimate, what="estimate")
    label += f", k = {data.attrs['top_k']}" if estimate == "soft" and "top_k" in data.attrs else ""
    figure = blank(
        title="How much deeper each layer looks",
        subtitle=f"{label} against the self-reference's own; 95 % intervals; open: edge-biased",
        x=layer_title("Engram"),
        y="shift (layers, relative to self-reference)",
        theme=theme,
    )
    layers = marks.layers_of(data)
    figure.add_hline(y=0, line={"width": 1, "color": palette(theme).muted})
    control = marks.where(data["pre_memory"])
    edges = marks.where(data["edge"])
    if estimate == "path":
        _draw_headline(figure, data, [int(v) for v in layers if v not in (*control, *edges)], theme=theme)
    for group, wanted in (("after the first read", False), (f"control: {marks.CONTROL_NOTE}", True)):
        _draw_points(figure, data, name=name, group=group, control=wanted, theme=theme)
    _draw_missing(figure, data[name], theme=theme)
    marks.mark_control(figure, control, theme=theme)
    return figure.update_xaxes(marks.whole_layers(layers))


def _draw_headline(figure: go.Figure, data: xr.Dataset, layers: list[int], *, theme: Theme) -> None:
    value, low, high = (float(data[f"headline{end}"]) for end in ("", "_low", "_high"))
    if not layers or np.isnan(value):
        return
    colours = palette(theme)
    ends = (layers[0] - 0.4, layers[-1] + 0.4)
    interval = "no interval"
    if not np.isnan(low + high):
        interval = f"[{number(low, digits=2)}, {number(high, digits=2)}]"
        x, y = marks.outlines([(*ends, low, high)])
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                mode="lines",
                fill="toself",
                line={"width": 0},
                fillcolor=colours.engram_band,
                hoverinfo="skip",
                showlegend=False,
                name="headline interval",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=ends,
            y=[value, value],
            mode="lines",
            line={"width": 2, "color": colours.engram},
            name=f"headline {signed(value, digits=2)} {interval}",
            hoverinfo="name",
        )
    )


def _draw_points(
    figure: go.Figure, data: xr.Dataset, *, name: str, group: str, control: bool, theme: Theme
) -> None:
    """One trace a group; edge layers are drawn open, control layers as grey diamonds."""
    chosen = data.isel(layer=np.flatnonzero(data["pre_memory"].values == control))
    if not chosen.sizes["layer"]:
        return
    colours = palette(theme)
    colour = colours.null if control else colours.engram
    shape = "diamond" if control else "circle"
    value, low, high = (chosen[f"{name}{end}"].values for end in ("", "_low", "_high"))
    figure.add_trace(
        go.Scatter(
            x=marks.layers_of(chosen),
            y=value,
            mode="markers",
            marker={
                "size": 10,
                "color": colour,
                "line": {"width": 2, "color": colour},
                "symbol": [f"{shape}-open" if edge else shape for edge in chosen["edge"].values],
            },
            error_y=marks.whiskers(value, low, high, colour=colour),
            customdata=np.stack([low, high], axis=-1),
            text=["edge-biased" if edge else "" for edge in chosen["edge"].values],
            hovertemplate="layer %{x}<br>shift %{y:+.3f}<br>95 % %{customdata[0]:.3f} to "
            "%{customdata[1]:.3f}<br>%{text}<extra></extra>",
            name=group,
            legendgroup=group,
            showlegend=False,
        )
    )
    # An entry of its own: the legend would take the symbol of the first layer, which is often an open one.
    entry = {"size": 10, "color": colour, "symbol": shape, "line": {"width": 2, "color": colour}}
    figure.add_trace(
        go.Scatter(x=[None], y=[None], mode="markers", marker=entry, name=group, legendgroup=group)
    )


def _draw_missing(figure: go.Figure, shift: xr.DataArray, *, theme: Theme) -> None:
    """Undefined shifts as crosses on the zero line, with the reason on hover."""
    missing = marks.layers_of(shift)[np.isnan(shift.values)]
    if len(missing):
        figure.add_trace(
            go.Scatter(
                x=missing,
                y=np.zeros(len(missing)),
                mode="markers",
                name="undefined",
                marker={"symbol": "x-thin", "size": 11, "line": {"width": 2, "color": palette(theme).muted}},
                hovertemplate=f"layer %{{x}}<br>n/a: {plain_label(marks.reason(shift))}<extra></extra>",
            )
        )
