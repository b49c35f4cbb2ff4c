"""Gate distributions beside their nulls, on the fixed scale 0…1 with 0.5 as neutral.

An untrained gate already varies (mean .50, sd about .20, with a hole around .5), so a distribution
without its null says nothing. All layers and streams are drawn.
"""

from itertools import cycle

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from engram_interp.views import marks
from engram_interp.views.theme import HEAD, Theme, blank, headed, palette
from engram_interp.views.tokens import plain_label

ROOM_FOR_TITLE = 130
DENSITY_NOTE = "filled: measured; grey: the nulls; layers are counted from 0, the paper counts from 1"

GATE_AXIS = "gate (0 shut … 0.5 neutral … 1 open; no unit)"


def gate_quantiles(data: xr.Dataset, *, null: str = "untrained", theme: Theme = "light") -> go.Figure:
    """For every layer and stream the 5–95 % and 25–75 % ranges and the mean, over the null's band.

    Args:
        data: mean, mean_low, mean_high, q05, q25, q75, q95 [layer, stream] in [0, 1], and the same
            prefixed ``null_`` [null, layer, stream].
        null: which null to draw as the band.
        theme: light or dark.
    """
    rows = data.stack(row=("layer", "stream"), create_index=False)
    labels = [
        f"layer {layer} · stream {stream}"
        for layer, stream in zip(rows["layer"].values, rows["stream"].values, strict=True)
    ]
    heights = np.arange(len(labels), dtype=np.float64)[::-1]
    figure = blank(
        title="Where the gates stand",
        subtitle="thin: 5–95 % of tokens, thick: 25–75 %, dot: mean with its 95 % interval",
        x=GATE_AXIS,
        y=marks.ROW_AXIS,
        theme=theme,
        height=HEAD + 60 + max(44 * len(labels), ROOM_FOR_TITLE),
    )
    if null in data["null"].values:
        _draw_null_bands(figure, rows.sel(null=null), heights=heights, theme=theme)
    _draw_ranges(figure, rows, heights=heights, labels=labels, theme=theme)
    figure.add_vline(x=0.5, line={"width": 1, "dash": "dot", "color": palette(theme).muted})
    figure.update_xaxes(range=[0, 1], dtick=0.1)
    figure.update_yaxes(
        tickvals=heights, ticktext=labels, range=[-0.6, len(labels) - 0.4], showgrid=False, ticklen=0
    )
    return figure


def quantiles_with_token(
    data: xr.Dataset, gate: xr.DataArray | None, *, token: int, theme: Theme = "light"
) -> go.Figure:
    """`gate_quantiles`, with one token's gate marked in each row.

    Args:
        data: as in `gate_quantiles`.
        gate: gate[layer, stream] of the token in [0, 1]; None, or layers that `data` lacks, marks nothing.
        token: its position, for the legend.
        theme: light or dark.
    """
    figure = gate_quantiles(data, theme=theme)
    if gate is None or not all(
        np.array_equal(gate[dim].values, data[dim].values) for dim in ("layer", "stream")
    ):
        return figure
    values = gate.transpose("layer", "stream").values.ravel()
    colours = palette(theme)
    figure.add_trace(
        go.Scatter(
            x=values,
            y=list(range(len(values)))[::-1],
            mode="markers",
            marker={"symbol": "diamond", "size": 12, "color": colours.engram,
                    "line": {"width": 1.5, "color": colours.paper}},
            hovertemplate=f"token {token}<br>gate %{{x:.3f}}<extra></extra>",
            name=f"token {token}",
        )
    )  # fmt: skip
    return figure


def _draw_null_bands(figure: go.Figure, null: xr.Dataset, *, heights: marks.Values, theme: Theme) -> None:
    """The null's 5–95 % range behind each row and a tick at its mean; its absence is said."""
    colours, name = palette(theme), plain_label(str(null["null"].item()))
    ranges = zip(null["null_q05"].values, null["null_q95"].values, heights, strict=True)
    bands = [(low, high, y - 0.34, y + 0.34) for low, high, y in ranges if not np.isnan(low + high)]
    if not bands:
        marks.say(figure, f"no {name} null: {plain_label(marks.reason(null['null_q05']))}", theme=theme)
        return
    x, y = marks.outlines(bands)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            fill="toself",
            fillcolor=colours.null_band,
            line={"width": 0},
            hoverinfo="skip",
            name=f"null: {name}, 5–95 %",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=null["null_mean"].values,
            y=heights,
            mode="markers",
            marker={"symbol": "line-ns", "size": 20, "line": {"width": 2, "color": colours.null}},
            hovertemplate=f"{name} null: mean %{{x:.3f}}<extra></extra>",
            name=f"null: {name}, mean",
        )
    )


def _draw_ranges(
    figure: go.Figure, rows: xr.Dataset, *, heights: marks.Values, labels: list[str], theme: Theme
) -> None:
    colours = palette(theme)
    for low, high, width in (("q05", "q95", 2), ("q25", "q75", 8)):
        ends = np.stack([rows[low].values, rows[high].values, np.full(len(labels), np.nan)], axis=1)
        figure.add_trace(
            go.Scatter(
                x=ends.ravel(),
                y=np.repeat(heights, 3),
                mode="lines",
                line={"width": width, "color": colours.gate},
                hoverinfo="skip",
                showlegend=False,
                name=f"{low}–{high}",
            )
        )
    mean, lowest, highest = (rows[name].values for name in ("mean", "mean_low", "mean_high"))
    figure.add_trace(
        go.Scatter(
            x=mean,
            y=heights,
            mode="markers",
            marker={"size": 10, "color": colours.paper, "line": {"width": 2.5, "color": colours.gate}},
            error_x=marks.whiskers(mean, lowest, highest, colour=colours.ink),
            text=labels,
            hovertemplate="%{text}<br>mean %{x:.3f}<extra></extra>",
            name="measured",
        )
    )


def gate_densities(data: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """The density of the gate for every layer (row) and stream (column), each null beside it.

    Args:
        data: density[layer, stream, bin] and null_density[null, layer, stream, bin], both integrating
            to 1 over the bin centres in [0, 1].
        theme: light or dark.
    """
    layers, streams = marks.layers_of(data), marks.layers_of(data, "stream")
    figure = make_subplots(
        rows=len(layers),
        cols=len(streams),
        shared_xaxes=True,
        shared_yaxes=True,
        vertical_spacing=0.1,
        horizontal_spacing=0.03,
        subplot_titles=[f"layer {layer} · stream {stream}" for layer in layers for stream in streams],
    )
    figure.update_annotations(font={"size": 12})
    for row in range(len(layers)):
        for column in range(len(streams)):
            _draw_density(
                figure, data.isel(layer=row, stream=column), row=row + 1, column=column + 1, theme=theme
            )
    headed(
        figure,
        title="How the gates are distributed",
        subtitle=DENSITY_NOTE,
        theme=theme,
        height=HEAD + 60 + 190 * len(layers),
    )
    figure.update_xaxes(range=[0, 1], dtick=0.25)
    figure.update_xaxes(title={"text": "gate (no unit)"}, row=len(layers))
    figure.update_yaxes(title={"text": "density (per unit of gate)"}, col=1)
    figure.update_yaxes(rangemode="tozero")
    return figure


def _draw_density(figure: go.Figure, data: xr.Dataset, *, row: int, column: int, theme: Theme) -> None:
    colours = palette(theme)
    first = row == column == 1
    x = data["bin"].values
    panel = {"row": row, "col": column}
    figure.add_trace(
        go.Scatter(
            x=x,
            y=data["density"].values,
            mode="lines",
            fill="tozeroy",
            fillcolor=colours.gate_band,
            line={"color": colours.gate, "width": 2},
            legendgroup="measured",
            showlegend=first,
            hovertemplate="gate %{x:.2f}<br>density %{y:.3f}<extra>measured</extra>",
            name="measured",
        ),
        **panel,
    )
    for null, dash in zip(data["null"].values, cycle(("solid", "dash", "dot")), strict=False):
        density = data["null_density"].sel(null=null).values
        if not np.isnan(density).all():
            line = {"color": colours.null, "width": 1.6, "dash": dash}
            name = plain_label(str(null))
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=density,
                    mode="lines",
                    line=line,
                    legendgroup=name,
                    showlegend=first,
                    hovertemplate=f"gate %{{x:.2f}}<br>density %{{y:.3f}}<extra>{name}</extra>",
                    name=f"null: {name}",
                ),
                **panel,
            )
    figure.add_vline(x=0.5, line={"width": 1, "dash": "dot", "color": colours.muted}, **panel)
