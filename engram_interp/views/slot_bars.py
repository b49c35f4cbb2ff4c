"""Bars about rows of the memory: the n-grams of a row, and how many n-grams have company."""

import plotly.graph_objects as go
import xarray as xr

from engram_interp.views.theme import Theme, blank, palette
from engram_interp.views.tokens import plain_label, plotly_text

BARS_AT_MOST = 25


def counts(data: xr.Dataset, *, title: str, mark: str = "", theme: Theme = "light") -> go.Figure:
    """How often n-grams occur in the reference text, in the order given.

    Args:
        data: count[rank] and ngram[rank]; the first 25 are drawn.
        title: what they have in common.
        mark: the n-gram that was read; the others are then grey.
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
            marker={"color": _coloured(shown, mark, theme=theme)},
            customdata=labels,
            hovertemplate="%{customdata}<br>%{x:,} occurrences<extra></extra>",
            showlegend=False,
        )
    )
    return _named(figure, labels)


def companions(data: xr.Dataset, *, ngram: str, theme: Theme = "light") -> go.Figure:
    """In how many heads each collider has the same row as an n-gram; the occurrences stand at its bar.

    Args:
        data: ngram[rank], count[rank] and shared[rank, head]; the first 25 are drawn.
        ngram: the n-gram whose rows are shared.
        theme: light or dark.
    """
    shown = data.isel(rank=slice(0, BARS_AT_MOST))
    heads = data.sizes["head"]
    labels = [plotly_text(str(text)) for text in shown["ngram"].values]
    figure = blank(
        title=f"Who shares any of its rows with “{plain_label(ngram)}”",
        subtitle=f"{len(labels)} of {data.sizes['rank']} colliding n-grams; at the bar: their occurrences",
        x=f"heads in which both have one row (of {heads})",
        y="canonical n-gram",
        theme=theme,
        height=max(260, 150 + 20 * len(labels)),
    )
    colour = palette(theme).null
    figure.add_trace(
        go.Bar(
            x=shown["shared"].sum("head").values,
            y=list(range(len(labels))),
            orientation="h",
            marker={"color": colour},
            text=[f"{count:,}×" for count in shown["count"].values.tolist()],
            textposition="outside",
            cliponaxis=False,
            customdata=labels,
            hovertemplate="%{customdata}<br>%{x} heads, %{text}<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_xaxes(range=[0, heads], dtick=1)
    return _named(figure, labels)


def _coloured(data: xr.Dataset, mark: str, *, theme: Theme) -> list[str]:
    colours = palette(theme)
    own = [not mark or str(text) == mark for text in data["ngram"].values]
    return [colours.engram if one else colours.null for one in own]


def _named(figure: go.Figure, labels: list[str]) -> go.Figure:
    """Name the bars, the first one at the top."""
    places = list(range(len(labels)))
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
        ("sharing_mass", "occurrences", colours.engram_band),
    )
    for name, said, colour in bars:
        marker = {"color": colour, "line": {"width": 1, "color": colours.engram}}
        figure.add_trace(go.Bar(x=labels, y=one[name].values, name=said, marker=marker))
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
