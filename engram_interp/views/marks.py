"""Marks that several figures share: layers, hatched regions, the control and the first memory read."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.theme import MONO, Theme, palette
from engram_interp.views.tokens import plain_label, visible

CONTROL_NOTE = "before the first read"
EDGE_NOTE = "edge-biased: first and last ⌊k/2⌋ layers"
TICKS_AT_MOST = 40
TOKENS_AT_MOST = 48
TOKEN_LENGTH = 14
BELOW_TOKENS = 120  # pixels for slanted labels and the axis title

ROW_AXIS = "layer (counted from 0;<br>the paper counts from 1)<br>· stream"

Values = npt.NDArray[np.float64]
Rectangle = tuple[float, float, float, float]


def layers_of(data: xr.Dataset | xr.DataArray, dim: str = "layer") -> npt.NDArray[np.int64]:
    """The layer numbers along `dim`, counted from 0."""
    return np.asarray(data[dim].values, dtype=np.int64)


def where(data: xr.DataArray, dim: str = "layer") -> list[int]:
    """The layers at which a boolean variable is true."""
    return [int(layer) for layer in layers_of(data, dim)[np.asarray(data.values, dtype=bool)]]


def runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring layers as (first, last) pairs.

    >>> runs([0, 1, 5])
    [(0, 1), (5, 5)]
    """
    found: list[tuple[int, int]] = []
    for layer in sorted(layers):
        if found and layer == found[-1][1] + 1:
            found[-1] = (found[-1][0], layer)
        else:
            found.append((layer, layer))
    return found


def layer_ticks(layers: npt.NDArray[np.int64]) -> dict[str, object]:
    """Axis settings: one tick a layer while there is room, and no fractional layers."""
    if len(layers) <= TICKS_AT_MOST:
        return {"tickmode": "array", "tickvals": layers.tolist(), "ticktext": [str(v) for v in layers]}
    return {"tick0": 0, "dtick": 5}


def outlines(rectangles: Iterable[Rectangle]) -> tuple[list[float | None], list[float | None]]:
    """X and y of rectangles (x0, x1, y0, y1) as one path, broken between them."""
    x: list[float | None] = []
    y: list[float | None] = []
    for x0, x1, y0, y1 in rectangles:
        x += [x0, x1, x1, x0, x0, None]
        y += [y0, y0, y1, y1, y0, None]
    return x or [None], y or [None]


def whiskers(value: Values, low: Values, high: Values, *, colour: str) -> dict[str, object]:
    """The settings of an interval from `low` to `high` around `value`; none is drawn where one is NaN."""
    return {
        "type": "data",
        "symmetric": False,
        "array": high - value,
        "arrayminus": value - low,
        "color": colour,
        "thickness": 1.6,
        "width": 5,
    }


def whole_layers(layers: npt.NDArray[np.int64]) -> dict[str, object]:
    """Axis settings of a figure in which every layer takes a column (or row) of its own."""
    return {**layer_ticks(layers), "range": [layers[0] - 0.5, layers[-1] + 0.5], "showgrid": False}


def hatched(
    rectangles: Sequence[Rectangle],
    *,
    name: str,
    note: str,
    colour: str,
    pattern: str = "/",
    showlegend: bool = True,
) -> go.Scatter:
    """Hatched rectangles (x0, x1, y0, y1) as one trace, `note` on hover."""
    x, y = outlines(rectangles)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        fill="toself",
        line={"width": 0},
        fillpattern={"shape": pattern, "fgcolor": colour, "fillmode": "overlay", "size": 7},
        fillcolor="rgba(0,0,0,0)",
        hoveron="fills",
        hoverinfo="text",
        text=plain_label(note),
        name=name,
        showlegend=showlegend,
    )


def mark_control(figure: go.Figure, layers: Sequence[int], *, theme: Theme) -> None:
    """A bar along the top over the layers whose residual precedes the first read, and a line at the read."""
    colours = palette(theme)
    for first, last in runs(layers):
        figure.add_shape(
            type="rect",
            x0=first - 0.5,
            x1=last + 0.5,
            yref="paper",
            ysizemode="pixel",
            yanchor=1,
            y0=-7,
            y1=0,
            fillcolor=colours.null,
            line={"width": 1, "color": colours.paper},
        )
        line = {"width": 1.5, "color": colours.null, "dash": "dot"}
        figure.add_vline(x=last + 0.5, line=line)


def control_entry(*, theme: Theme) -> go.Scatter:
    """What the bar of `mark_control` means, as an entry of the legend."""
    marker = {"symbol": "square", "size": 10, "color": palette(theme).null}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=CONTROL_NOTE)


def say(figure: go.Figure, text: str, *, theme: Theme) -> None:
    """A line of muted text between the plot and its legend."""
    figure.add_annotation(
        text=text,
        showarrow=False,
        xref="paper",
        x=0,
        xanchor="left",
        yref="paper",
        y=1,
        yanchor="bottom",
        yshift=8,
        font={"size": 12, "color": palette(theme).muted},
    )


def mark_memory(figure: go.Figure, layers: Sequence[int], *, theme: Theme) -> None:
    """A thin line at every layer that reads memory, named at its top."""
    colours = palette(theme)
    for layer in layers:
        figure.add_vline(x=layer, line={"width": 1, "color": colours.null, "dash": "dot"}, layer="below")
        figure.add_annotation(
            text="memory",
            showarrow=False,
            x=layer,
            yref="paper",
            y=1,
            yanchor="bottom",
            font={"size": 11, "color": colours.muted},
        )


def window(length: int, token: int, *, first: int | None = None, before: int = 6) -> tuple[int, int]:
    """The tokens that can be named: all of them, or `TOKENS_AT_MOST` from a little before `token` on.

    Args:
        length: of the text.
        token: the one that is looked at, which is always among them.
        first: an earlier one from which on there is something to see; it is among them if there is room.
        before: tokens shown before the first of the two.

    >>> window(20, 12), window(214, 30), window(60, 59)
    ((0, 20), (24, 72), (12, 60))
    >>> window(214, 30, first=9), window(214, 90, first=9)
    ((3, 51), (84, 132))
    """
    near = first is not None and 0 <= token - first <= TOKENS_AT_MOST - 2 * before
    begin = first if near and first is not None else token
    start = max(min(begin - before, length - TOKENS_AT_MOST), 0)
    return start, min(start + TOKENS_AT_MOST, length)


def changed_from(data: xr.Dataset) -> int | None:
    """The first token at which an ablation changes something; None where that is all of them, or not known.

    Args:
        data: first_token, where there is one.
    """
    return int(data["first_token"]) or None if "first_token" in data else None


def shown_of(start: int, stop: int, length: int) -> str:
    """Which tokens are shown, for a subtitle; empty where all are."""
    return "" if stop - start == length else f"tokens {start} to {stop - 1} of {length} are shown; "


def zoomed_of(start: int, stop: int, length: int) -> str:
    """The same for a figure that holds all of them and opens at some."""
    return shown_of(start, stop, length).replace("shown;", "shown, all after a double click;")


def mark_written(
    figure: go.Figure, data: xr.Dataset, *, y: float, within: tuple[int, int], theme: Theme, row: int = 1
) -> None:
    """A triangle over every token that a changed read is written to: its own, and those of the convolution.

    Nothing where that is not recorded, or where every token's reads are changed.

    Args:
        figure: gets the marks.
        data: written[token], first_token.
        y: where they stand.
        within: the first token that is shown, and the one after the last.
        theme: light or dark.
        row: of the panel; the first has the entry in the legend.
    """
    if "written" not in data:
        return
    written = np.flatnonzero(data["written"].values)
    if not 0 < len(written) < data.sizes["token"] - int(data["first_token"]):
        return
    name = "changed read" if len(written) == 1 else "changed read, and where the convolution takes it"
    at = written[(written >= within[0]) & (written < within[1])]
    figure.add_trace(
        go.Scatter(
            x=at,
            y=np.full(len(at), y),
            mode="markers",
            cliponaxis=False,
            marker={"symbol": "triangle-down", "size": 9, "color": palette(theme).ink},
            hovertemplate="token %{x}: written to directly<extra></extra>",
            name=name,
            showlegend=row == 1,
        ),
        **({} if row == 1 else {"row": row, "col": 1}),
    )


def label_tokens(figure: go.Figure, tokens: Iterable[str], *, first: int = 0) -> None:
    """Name the positions `first`, `first` + 1, … on the x axis by their tokens while there is room.

    Long tokens end in … here; they are whole on hover.
    """
    shown = [visible(str(token)) for token in tokens]
    if len(shown) > TOKENS_AT_MOST:
        return
    cut = [text if len(text) <= TOKEN_LENGTH else f"{text[: TOKEN_LENGTH - 1]}…" for text in shown]
    figure.update_xaxes(
        tickvals=list(range(first, first + len(cut))),
        ticktext=[plain_label(text) for text in cut],
        tickangle=-55,
        tickfont={"family": MONO, "size": 11},
    )
    figure.update_layout(margin={"b": BELOW_TOKENS})


def choose(options: dict[str, tuple[str, ...]], wanted: str, *, what: str) -> tuple[str, ...]:
    """The entry of `options` that was asked for; an InputError lists the others."""
    if wanted not in options:
        raise InputError(f"{what} is one of {', '.join(options)}; got {wanted!r}.")
    return options[wanted]


def reason(data: xr.DataArray) -> str:
    """Why values of `data` are undefined, as its maker wrote it."""
    return str(data.attrs.get("missing", "")) or "undefined, no reason recorded"
