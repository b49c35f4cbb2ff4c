"""The depth shift of every layer by several measures, side by side."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import Theme, blank, layer_title, palette

_SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up")


def shifts(data: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """Shift by layer for each measure, with intervals where there are any.

    Args:
        data: shift, shift_low, shift_high [measure, layer] in layers, and pre_memory [layer].
        theme: light or dark.
    """
    figure = blank(
        title="Do other measures see the same shift?",
        subtitle="monotone path against the self-reference; 95 % intervals over documents, where any",
        x=layer_title("Engram"),
        y="shift (layers, relative to self-reference)",
        theme=theme,
    )
    colours = palette(theme)
    figure.add_hline(y=0, line={"width": 1, "color": colours.muted})
    layers = marks.layers_of(data)
    names = [str(name) for name in data["measure"].values]
    inks = (colours.engram, colours.baseline, colours.null, colours.ink, colours.gate)
    for i, name in enumerate(names):
        value, low, high = (data[f"shift{end}"].values[i] for end in ("", "_low", "_high"))
        colour = inks[i % len(inks)]
        figure.add_trace(
            go.Scatter(
                x=layers + 0.09 * (i - (len(names) - 1) / 2),
                y=value,
                mode="lines+markers",
                name=name,
                line={"width": 1, "color": colour},
                marker={"size": 9, "color": colour, "symbol": _SYMBOLS[i % len(_SYMBOLS)]},
                error_y=marks.whiskers(value, low, high, colour=colour),
                customdata=np.stack([layers, low, high], axis=-1),
                hovertemplate="layer %{customdata[0]}<br>shift %{y:+.3f}<br>95 % %{customdata[1]:.3f} to "
                "%{customdata[2]:.3f}<extra>" + name + "</extra>",
            )
        )
    if data["pre_memory"].values.any():
        marks.mark_control(figure, marks.where(data["pre_memory"]), theme=theme)
        figure.add_trace(marks.control_entry(theme=theme))
    return figure.update_xaxes(marks.whole_layers(layers))
