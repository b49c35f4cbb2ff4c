"""The layer × layer similarity map with the alignment running over it.

Linear CKA on a fixed 0…1 Cividis scale, Engram layers across and baseline layers up. The alignment
curve follows the brightest ridge and is therefore cased: white dashes on a dark line. The reference
for reading it is the self-reference (the baseline aligned with itself), never the diagonal, since
the soft index is biased at both ends even for two identical models.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import CIVIDIS, COLOUR_BAR, Theme, blank, layer_title, palette

Alignment = Literal["path", "peak", "soft", "none"]

BRIGHT_FROM = 0.45  # Cividis is as far from black as from white here
HOW_TO_READ = "linear CKA; read the alignment against the self-reference, not against the diagonal"

CURVES: dict[str, tuple[str, ...]] = {
    "path": ("path", "path_self", "monotone path"),
    "peak": ("peak", "peak_self", "parabolic peak"),
    "soft": ("depth", "depth_self", "soft index (paper, eq. 9)"),
    "none": (),
}


def heat_map(
    data: xr.Dataset,
    *,
    alignment: Alignment = "path",
    self_reference: Literal["shown", "hidden"] = "shown",
    theme: Theme = "light",
) -> go.Figure:
    """CKA of every Engram layer with every baseline layer.

    Args:
        data: with cka[layer, baseline_layer]; where there are, the alignment curves in units of
            baseline layers [layer], and the boolean marks edge[layer] and pre_memory[layer].
        alignment: which estimate of the depth to draw over the map, if any.
        self_reference: whether to draw the same estimate for the baseline against itself.
        theme: light or dark.

    Returns:
        A figure whose first trace is the map; its rows are baseline layers.
    """
    names = marks.choose(CURVES, alignment, what="alignment")
    figure = blank(
        title="Which layers resemble each other",
        subtitle=HOW_TO_READ,
        x=layer_title("Engram"),
        y=layer_title("baseline"),
        theme=theme,
        height=540,
    )
    figure.add_trace(_map(data["cka"]))
    _mark_undefined(figure, data["cka"].transpose("layer", "baseline_layer"), theme=theme)
    _mark_edges(figure, data, theme=theme)
    if names:
        curve, reference, label = names
        label += f", k = {data.attrs['top_k']}" if alignment == "soft" and "top_k" in data.attrs else ""
        if self_reference == "shown" and reference in data:
            _draw_reference(figure, data[reference], theme=theme)
        if curve in data:
            _draw_alignment(figure, data[curve], label=label, theme=theme)
    if "pre_memory" in data and data["pre_memory"].values.any():
        marks.mark_control(figure, marks.where(data["pre_memory"]), theme=theme)
        figure.add_trace(marks.control_entry(theme=theme))
    figure.update_xaxes(marks.whole_layers(marks.layers_of(data)))
    figure.update_yaxes(marks.whole_layers(marks.layers_of(data, "baseline_layer")))
    return figure


def _map(cka: xr.DataArray) -> go.Heatmap:
    upright = cka.transpose("baseline_layer", "layer")
    return go.Heatmap(
        x=marks.layers_of(upright),
        y=marks.layers_of(upright, "baseline_layer"),
        z=upright.values,
        zmin=0,
        zmax=1,
        colorscale=CIVIDIS,
        colorbar={"title": {"text": "CKA<br>(no unit)<br> "}, "tickvals": [0, 0.25, 0.5, 0.75, 1]}
        | COLOUR_BAR,
        hoverongaps=False,
        hovertemplate="Engram layer %{x}<br>baseline layer %{y}<br>CKA %{z:.3f}<extra></extra>",
        name="CKA",
    )


def _mark_undefined(figure: go.Figure, cka: xr.DataArray, *, theme: Theme) -> None:
    """Undefined cells are hatched and say why; they are never white and never 0."""
    cells = _cells(cka, np.isnan(cka.values))
    if cells:
        note, colour = f"n/a: {marks.reason(cka)}", palette(theme).hatch
        figure.add_trace(marks.hatched(cells, name="n/a", note=note, colour=colour, pattern="x"))


def _mark_edges(figure: go.Figure, data: xr.Dataset, *, theme: Theme) -> None:
    """Hatch the edge layers' columns, light on dark cells and dark on bright ones."""
    if "edge" not in data or not data["edge"].values.any():
        return
    cka = data["cka"].transpose("layer", "baseline_layer")
    edge = data["edge"].values[:, None] & ~np.isnan(cka.values)
    bright = cka.values > BRIGHT_FROM
    colours = palette(theme)
    for chosen, colour in ((edge & bright, colours.hatch_on_bright), (edge & ~bright, colours.hatch_on_dark)):
        figure.add_trace(
            marks.hatched(
                _cells(cka, chosen), name="edge layers", note=marks.EDGE_NOTE, colour=colour, showlegend=False
            )
        )
    figure.add_trace(marks.hatched([], name="edge layers", note=marks.EDGE_NOTE, colour=colours.hatch))


def _cells(cka: xr.DataArray, chosen: npt.NDArray[np.bool_]) -> list[marks.Rectangle]:
    """The cells [layer, baseline_layer] that are `chosen`, as rectangles."""
    columns, rows = marks.layers_of(cka), marks.layers_of(cka, "baseline_layer")
    found = np.argwhere(chosen)
    return [(columns[c] - 0.5, columns[c] + 0.5, rows[r] - 0.5, rows[r] + 0.5) for c, r in found]


def _draw_reference(figure: go.Figure, curve: xr.DataArray, *, theme: Theme) -> None:
    colours = palette(theme)
    points = {"x": marks.layers_of(curve), "y": curve.values, "mode": "lines", "hoverinfo": "skip"}
    figure.add_trace(
        go.Scatter(**points, line={"color": colours.casing, "width": 5}, showlegend=False, name="casing")
    )
    figure.add_trace(
        go.Scatter(
            **(points | {"hoverinfo": None}),
            line={"color": colours.baseline, "width": 2.5},
            hovertemplate="self-reference at layer %{x}<br>baseline layer %{y:.2f}<extra></extra>",
            name="self-reference",
        )
    )


def _draw_alignment(figure: go.Figure, curve: xr.DataArray, *, label: str, theme: Theme) -> None:
    """White dashes on a dark line; in the legend, where that would vanish, the ink of the page."""
    colours = palette(theme)
    points = {"x": marks.layers_of(curve), "y": curve.values, "legendgroup": "alignment", "showlegend": False}
    casing = {"color": colours.casing, "width": 5}
    figure.add_trace(go.Scatter(**points, mode="lines", line=casing, hoverinfo="skip", name="casing"))
    figure.add_trace(
        go.Scatter(
            **points,
            mode="lines+markers",
            line={"color": colours.dash, "width": 2.5, "dash": "dash"},
            marker={"color": colours.dash, "size": 6, "line": {"color": colours.casing, "width": 1.5}},
            hovertemplate="Engram layer %{x}<br>looks like baseline layer %{y:.2f}<extra></extra>",
            name="alignment",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[None],
            y=[None],
            mode="lines",
            line={"color": colours.ink, "width": 2.5, "dash": "dash"},
            legendgroup="alignment",
            name=f"alignment: {label}",
        )
    )
