"""Numbers one below the other, each with its interval and what its null gives."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import HEAD, Theme, blank, palette
from engram_interp.views.tokens import plain_label

SUBTITLE = "bars: 95 % intervals over documents; grey: range over untrained initialisations"


def forest(
    data: xr.Dataset,
    *,
    title: str,
    axis: str,
    at: float,
    subtitle: str = SUBTITLE,
    rows: str = "layer · stream",
    null: str = "untrained",
    theme: Theme = "light",
) -> go.Figure:
    """One row per label: the value with its 95 % interval, over the range of its null.

    Args:
        data: value, value_low, value_high [row] and the same prefixed ``null_``; NaN is not drawn.
        title: of the figure.
        axis: name and unit of the values.
        at: where "no difference" lies; a line is drawn there.
        subtitle: what the bars are.
        rows: what a row is.
        null: what the grey ranges are of.
        theme: light or dark.
    """
    labels = [plain_label(str(row)) for row in data["row"].values]
    heights = np.arange(len(labels))[::-1].astype(float)
    colours = palette(theme)
    figure = blank(
        title=title,
        subtitle=subtitle,
        x=axis,
        y=rows,
        theme=theme,
        height=HEAD + 90 + 40 * len(labels),
    )
    low, high = data["null_value_low"].values, data["null_value_high"].values
    known = ~np.isnan(low + high)
    if known.any():
        bands = [
            (float(a), float(b), y - 0.3, y + 0.3)
            for a, b, y in zip(low[known], high[known], heights[known], strict=True)
        ]
        x, y = marks.outlines(bands)
        band = go.Scatter(x=x, y=y, mode="lines", fill="toself", fillcolor=colours.null_band, name=null)
        figure.add_trace(band.update(line={"width": 1, "color": colours.null}, hoverinfo="skip"))
    else:
        marks.say(figure, f"no {null} null: {plain_label(marks.reason(data['null_value']))}", theme=theme)
    figure.add_vline(x=at, line={"width": 1, "dash": "dot", "color": colours.muted})
    value, lower, upper = (data[f"value{end}"].values for end in ("", "_low", "_high"))
    figure.add_trace(
        go.Scatter(
            x=value,
            y=heights,
            mode="markers",
            name="measured",
            text=labels,
            marker={"size": 10, "color": colours.gate},
            error_x=marks.whiskers(value, lower, upper, colour=colours.ink),
            hovertemplate="%{text}<br>%{x:.3f}<extra></extra>",
        )
    )
    figure.update_yaxes(tickvals=heights, ticktext=labels, range=[-0.6, len(labels) - 0.4], showgrid=False)
    return figure
