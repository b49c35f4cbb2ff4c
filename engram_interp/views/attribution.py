"""What the memory gives to one logit, by column and by source token, beside what random rows would give."""

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views import marks
from engram_interp.views.theme import COLOUR_BAR, HEAD, Theme, blank, palette, signed
from engram_interp.views.tokens import plain_label, plotly_text

LOGIT_AXIS = "direct effect on the logit (logit units)"
COLUMN_AXIS = "layer · order n · head"
CONTROL = "random rows of the same heads"
_CELL = ("layer", "order", "head")
_LEAST_SAID = 0.005  # smaller effects would read 0.00
_DIRECTIONS = {"promoted": 1, "suppressed": -1}
_TIE = 1e-3  # of the largest effect of a side: closer ones are equal but for rounding
_ROOM = 6  # tokens that a figure leaves room for at least, so that its titles fit


def ngram(data: xr.Dataset, *, source: int, order: int) -> str:
    """The tokens that an n-gram of this order ends with at `source`, cut at the start of the text."""
    return "".join(str(token) for token in data["token_text"].values[max(0, source + 1 - order) : source + 1])


def column_bars(data: xr.Dataset, *, what: str, theme: Theme = "light") -> go.Figure:
    """contribution[layer, order, head] as bars, the control's mean and middle 95 % of draws on each.

    Args:
        data: contribution[layer, order, head] and its ``control_``, also with ``_low`` and ``_high``.
        what: which logit, in words.
        theme: light or dark.
    """
    rows = data.stack(row=_CELL, create_index=False)
    return _bars(
        rows["contribution"].values,
        [rows[f"control_contribution{end}"].values for end in ("", "_low", "_high")],
        labels=_columns(rows),
        colour=[palette(theme).engram] * rows.sizes["row"],
        title=f"What each row gives to {plain_label(what)}",
        subtitle="summed over the tokens that read it; gates, norms and mixes as they were in the run",
        y=COLUMN_AXIS,
        theme=theme,
    )


def part_bars(data: xr.Dataset, *, what: str, theme: Theme = "light") -> go.Figure:
    """All parts of the logit, which sum to it: the memory layers with their control, and the rest.

    Args:
        data: by_layer[layer] with its ``control_``, rest[component], logit.
        what: which logit, in words.
        theme: light or dark.
    """
    colours, absent = palette(theme), np.full(data.sizes["component"], np.nan)
    controls = [
        np.concatenate([absent, data[f"control_by_layer{end}"].values]) for end in ("", "_low", "_high")
    ]
    return _bars(
        np.concatenate([data["rest"].values, data["by_layer"].values]),
        controls,
        labels=[
            *(plain_label(str(name)) for name in data["component"].values),
            *(f"memory, layer {layer}" for layer in data["layer"].values),
        ],
        colour=[colours.null] * data.sizes["component"] + [colours.engram] * data.sizes["layer"],
        title=f"What {plain_label(what)} is made of",
        subtitle=f"they sum to the model's own {signed(float(data['logit']))} (gap {float(data['gap']):.0e})",
        y="part of the residual (TransformerLens's names)",
        theme=theme,
    )


def _bars(
    values: marks.Values,
    control: Sequence[marks.Values],
    *,
    labels: Sequence[str],
    colour: Sequence[str],
    title: str,
    subtitle: str,
    y: str,
    theme: Theme,
) -> go.Figure:
    """Horizontal bars from top to bottom, below each the control's mean and range where there is one."""
    figure = blank(
        title=title, subtitle=subtitle, x=LOGIT_AXIS, y=y, theme=theme, height=HEAD + 60 + 28 * len(labels)
    )
    colours, heights = palette(theme), np.arange(len(labels))[::-1].astype(float)
    mean, low, high = control
    ranges = [
        "" if np.isnan(m) else f"<br>{CONTROL}: {signed(m)}, 95 % of draws {a:.3f} to {b:.3f}"
        for m, a, b in zip(mean, low, high, strict=True)
    ]
    figure.add_trace(
        go.Bar(
            x=values,
            y=heights + 0.12,
            width=0.5,
            orientation="h",
            name="in the run",
            marker={"color": list(colour)},
            text=[f"{label}: {signed(v)}{r}" for label, v, r in zip(labels, values, ranges, strict=True)],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=mean,
            y=heights - 0.3,
            mode="markers",
            name=f"{CONTROL}, mean and 95 % of draws",
            marker={"size": 7, "symbol": "diamond", "color": colours.muted},
            error_x=marks.whiskers(mean, low, high, colour=colours.muted),
            hoverinfo="skip",
        )
    )
    figure.add_vline(x=0, line={"width": 1, "color": colours.muted})
    figure.update_yaxes(tickvals=heights, ticktext=labels, range=[-0.6, len(labels) - 0.4], showgrid=False)
    return figure


def source_map(data: xr.Dataset, *, what: str, theme: Theme = "light") -> go.Figure:
    """by_source[layer, source, order, head] as a map; numbers where it leaves the control's range.

    Args:
        data: by_source[layer, source, order, head] with its ``control_``, token_text[token], source.
        what: which logit, in words.
        theme: light or dark.
    """
    rows = data.stack(row=_CELL, create_index=False).transpose("row", "source", ...)
    values, low, high = (
        rows[name].values for name in ("by_source", "control_by_source_low", "control_by_source_high")
    )
    labels, sources = _columns(rows), [int(source) for source in rows["source"].values]
    names = [f"{source}: {plotly_text(str(data['token_text'].values[source]))}" for source in sources]
    said = (~((low <= values) & (values <= high))) & (np.abs(values) >= _LEAST_SAID)
    numbers = [
        [signed(v, digits=2) if shown else "" for v, shown in zip(*row, strict=True)]
        for row in zip(values, said, strict=True)
    ]
    hover = [
        [
            f"{label}<br>read at token {name}<br>n-gram {plotly_text(ngram(data, source=s, order=order))}"
            for s, name in zip(sources, names, strict=True)
        ]
        for label, order in zip(labels, rows["order"].values, strict=True)
    ]
    figure = blank(
        title=f"Which read gives to {plain_label(what)}",
        subtitle="numbers: outside 95 % of draws of random rows; earlier tokens come through the convolution",
        x="token that read the row (position counted from 0)",
        y=COLUMN_AXIS,
        theme=theme,
        height=HEAD + 80 + 24 * len(labels),
    )
    colours, largest = palette(theme), float(np.abs(values).max(initial=1e-9))
    figure.add_trace(
        go.Heatmap(
            x=np.arange(len(sources)),
            y=np.arange(len(labels)),
            z=values,
            zmin=-largest,
            zmax=largest,
            colorscale=[[0.0, colours.engram], [0.5, colours.paper], [1.0, colours.baseline]],
            colorbar={"title": {"text": "direct effect<br>(logit units)"}, "lenmode": "pixels", "len": 160}
            | {"y": 1, "yanchor": "top"}
            | COLOUR_BAR,
            xgap=1,
            ygap=1,
            text=numbers,
            texttemplate="%{text}",
            customdata=hover,
            hovertemplate="%{customdata}<br>%{z:+.3f} logit<extra></extra>",
            name="direct effect",
        )
    )
    figure.update_xaxes(tickvals=np.arange(len(sources)), ticktext=names, showgrid=False)
    figure.update_yaxes(
        tickvals=np.arange(len(labels)), ticktext=labels, showgrid=False, autorange="reversed"
    )
    return figure


def promotion_bars(data: xr.Dataset, *, layer: int, theme: Theme = "light") -> go.Figure:
    """The tokens that the whole write of one memory layer promotes and suppresses most.

    Tokens that move the other way are no part of a side, and a side whose tokens all move alike is left out.

    Args:
        data: effect[layer, part, direction, rank], its text, and the control's largest effects.
        layer: a memory layer, counted from 0.
        theme: light or dark.
    """
    if layer not in data["layer"].values:
        known = ", ".join(str(value) for value in data["layer"].values)
        raise InputError(f"Layer {layer} reads no memory here; memory layers are {known}.")
    chosen = data.sel(layer=layer).isel(part=0)
    up, down = (_signed(chosen.sel(direction=name), sign) for name, sign in _DIRECTIONS.items())
    values = np.concatenate([up["effect"].values, down["effect"].values[::-1]])
    names = [*up["top_token"].values, *down["top_token"].values[::-1]]
    labels = [plotly_text(str(name)) for name in names]
    at, room = int(data["token_index"]), max(len(labels), _ROOM)
    figure = blank(
        title=f"Promoted and suppressed: layer {layer}, token {at}",
        subtitle="grey: where the largest effect of random rows of the same heads falls, 95 % of draws; "
        "a side whose tokens all move alike is not shown",
        x="direct effect on the logit, minus its mean<br>over the vocabulary (logit units)",
        y="token (most promoted first)" if room == len(labels) else "token",
        theme=theme,
        height=HEAD + 60 + 22 * room,
    )
    colours, heights = palette(theme), np.arange(len(labels))[::-1].astype(float)
    for side in (up, down):
        low, high = (float(side[f"control_effect_{end}"]) for end in ("low", "high"))
        line = {"width": 1, "color": colours.null}  # without a spread the band is this line
        figure.add_vrect(x0=low, x1=high, fillcolor=colours.null_band, line=line, layer="below")
    figure.add_trace(
        go.Bar(
            x=values,
            y=heights,
            orientation="h",
            name="in the run",
            marker={"color": colours.engram},
            text=labels,
            textposition="none",
            hovertemplate="%{text}: %{x:+.3f} logit<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"width": 1, "color": colours.muted})
    return figure.update_yaxes(
        tickvals=heights, ticktext=labels, range=[len(labels) - room - 0.6, len(labels) - 0.4], showgrid=False
    )


def _signed(side: xr.Dataset, sign: int) -> xr.Dataset:
    """The tokens of a side that move its way, and not all by the same: equal ones are all the others."""
    effect = side["effect"].values * sign
    tied = len(effect) > 1 and np.ptp(effect) <= _TIE * abs(effect).max()
    return side.isel(rank=np.flatnonzero((effect > 0) & ~tied))


def _columns(rows: xr.Dataset) -> list[str]:
    cells = zip(*(rows[name].values for name in _CELL), strict=True)
    return [f"layer {layer} · {order}-gram · head {head}" for layer, order, head in cells]


View = Callable[..., go.Figure]
VIEWS: dict[str, View] = {"columns": column_bars, "sources": source_map, "parts": part_bars}


def view_named(name: str) -> View:
    """The figure of this name; an InputError lists the others."""
    if name not in VIEWS:
        raise InputError(f"view is one of {', '.join(VIEWS)}; got {name!r}.")
    return VIEWS[name]
