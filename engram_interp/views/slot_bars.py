"""Bars about rows of the memory: the n-grams of a row, and how many n-grams have company."""

import plotly.graph_objects as go
import xarray as xr

from engram_interp.views.theme import Theme, blank, palette
from engram_interp.views.tokens import plotly_text

BARS_AT_MOST = 25


def counts(data: xr.Dataset, *, title: str, theme: Theme = "light") -> go.Figure:
    """How often n-grams occur in the reference text, in the order given.

    Args:
        data: count[rank] and ngram[rank]; the first 25 are drawn.
        title: what they have in common.
        theme: light or dark.
    """
    shown = data.isel(rank=slice(0, BARS_AT_MOST))
    labels = [plotly_text(str(text)) for text in shown["ngram"].values]
    figure = blank(
        title=title,
        subtitle=f"{len(labels)} of {data.sizes['rank']} n-grams; counts in the reference text",
        x="occurrences (in the reference text)",
        y="canonical n-gram",
        theme=theme,
        height=max(260, 150 + 20 * len(labels)),
    )
    places = list(range(len(labels)))
    figure.add_trace(
        go.Bar(
            x=shown["count"].values,
            y=places,
            orientation="h",
            marker={"color": palette(theme).engram},
            customdata=labels,
            hovertemplate="%{customdata}<br>%{x:,} occurrences<extra></extra>",
            showlegend=False,
        )
    )
    return figure.update_yaxes(
        autorange="reversed", tickmode="array", tickvals=places, ticktext=labels, showgrid=False
    )


def sharing(data: xr.Dataset, *, layer: int, theme: Theme = "light") -> go.Figure:
    """Share of n-grams, and of occurrences, with company in their row, beside the even null.

    Args:
        data: sharing, sharing_mass and sharing_null [layer, column], order[column], head[column].
        layer: a memory layer, counted from 0.
        theme: light or dark.
    """
    one, colours = data.sel(layer=layer), palette(theme)
    heads = zip(data["order"].values, data["head"].values, strict=True)
    labels = [f"{order}-gram · head {head}" for order, head in heads]
    figure = blank(
        title=f"N-grams with company in their row, layer {layer}",
        subtitle="of a reference text; line: expected if every n-gram fell on any row alike",
        x="order n · head",
        y="share (of n-grams, of occurrences)",
        theme=theme,
    )
    bars = (
        ("sharing", "distinct n-grams", colours.engram),
        ("sharing_mass", "occurrences", colours.baseline),
    )
    for name, said, colour in bars:
        figure.add_trace(go.Bar(x=labels, y=one[name].values, name=said, marker={"color": colour}))
    figure.add_trace(
        go.Scatter(
            x=labels,
            y=one["sharing_null"].values,
            mode="markers",
            name="spread evenly",
            marker={"symbol": "line-ew-open", "size": 26, "color": colours.ink, "line": {"width": 2}},
        )
    )
    return figure.update_yaxes(range=[0, 1.02]).update_layout(barmode="group")
