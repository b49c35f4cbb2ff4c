"""The cost of skipping each layer: Engram beside baseline, each with its control."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import Theme, blank, layer_title, palette

_APART = 0.11
"""Share of a layer's column between neighbouring marks."""


def cost_by_layer(
    data: xr.Dataset, *, memory_layers: Sequence[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Change of loss by skipped layer with 95 % intervals; open diamonds are the random control.

    Args:
        data: delta_loss and control_delta_loss with ``_low`` and ``_high`` [model, memory, layer], nats.
        memory_layers: layers that read memory, marked.
        theme: light or dark.
    """
    figure = blank(
        title="What each layer is worth",
        subtitle="block handed through unchanged; 95 % intervals over documents; open: random control",
        x=layer_title(),
        y="change of the loss on the next token (nats)",
        theme=theme,
    )
    colours = palette(theme)
    figure.add_hline(y=0, line={"width": 1, "color": colours.muted})
    places = [("engram", "skipped", "Engram", colours.engram, "circle")]
    places.append(("engram", "kept", "Engram, memory kept", colours.engram, "square"))
    if "baseline" in data["model"].values:
        places.append(("baseline", "skipped", "baseline", colours.baseline, "circle"))
    layers = marks.layers_of(data)
    for number, (model, memory, name, colour, symbol) in enumerate(places):
        chosen = data.sel(model=model, memory=memory)
        for prefix, what, shape, lift in (("", "", symbol, 0), ("control_", ", control", "diamond-open", 1)):
            value, low, high = (chosen[f"{prefix}delta_loss{end}"].values for end in ("", "_low", "_high"))
            shade = colours.null if prefix else colour
            figure.add_trace(
                go.Scatter(
                    x=layers + _APART * (2 * number + lift - len(places) + 0.5),
                    y=value,
                    mode="markers",
                    name="random control" if prefix else name,
                    legendgroup="control" if prefix else name,
                    showlegend=not prefix or number == 0,
                    marker={"size": 9, "color": shade, "symbol": shape},
                    error_y=marks.whiskers(value, low, high, colour=shade),
                    customdata=np.stack([layers, low, high], axis=-1),
                    hovertemplate=f"{name}{what}, layer %{{customdata[0]:.0f}}<br>%{{y:+.3f}} nats<br>"
                    "95 % %{customdata[1]:.3f} to %{customdata[2]:.3f}<extra></extra>",
                )
            )
    marks.mark_memory(figure, memory_layers, theme=theme)
    return figure.update_xaxes(marks.whole_layers(layers))
