"""The map of stitched loss above the intact baseline's, with the best layer marked."""

import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import CIVIDIS, COLOUR_BAR, Theme, blank, layer_title, palette


def heat_map(data: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """Loss above the intact baseline's, Engram layers across and baseline layers up."""
    figure = blank(
        title="Which layer can stand in for which",
        subtitle="held-out loss of the stitched model minus the intact baseline's; dots mark the lowest",
        x=layer_title("Engram"),
        y=layer_title("baseline"),
        theme=theme,
        height=540,
    )
    loss = data["loss"].transpose("baseline_layer", "layer")
    rows, columns = marks.layers_of(loss, "baseline_layer"), marks.layers_of(loss)
    figure.add_trace(
        go.Heatmap(
            x=columns,
            y=rows,
            z=loss.values - float(data["intact_loss"]),
            colorscale=CIVIDIS,
            reversescale=True,
            colorbar={"title": {"text": "nats per<br>token"}} | COLOUR_BAR,
            hovertemplate="Engram layer %{x}<br>baseline layer %{y}<br>%{z:+.3f} nats<extra></extra>",
            name="loss",
        )
    )
    colours = palette(theme)
    figure.add_trace(
        go.Scatter(
            x=columns,
            y=[rows[i] for i in loss.values.argmin(0)],
            mode="markers",
            marker={"color": colours.dash, "size": 10, "line": {"color": colours.casing, "width": 2}},
            hovertemplate="Engram layer %{x} fits best at baseline layer %{y}<extra></extra>",
            name="lowest loss",
        )
    )
    figure.update_xaxes(marks.whole_layers(columns))
    figure.update_yaxes(marks.whole_layers(rows))
    return figure
