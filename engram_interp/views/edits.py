"""What edits of the memory achieve, and what they cost elsewhere, beside a random change."""

from typing import Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import HEAD, Palette, Theme, blank, palette
from engram_interp.views.tokens import plotly_text

Show = Literal["success", "collateral"]
SHOWN: dict[str, tuple[str, ...]] = {"success": (), "collateral": ()}
_LISTED_AT_MOST = 30
_CONTROL = "random change of the same rows"


def figure(data: xr.Dataset, *, show: Show = "success", theme: Theme = "light") -> go.Figure:
    """One view of an edit report.

    Args:
        data: the report.
        show: the target's log-probability by edit, or the change of loss by group of positions.
        theme: light or dark.
    """
    marks.choose(SHOWN, show, what="show")
    return _success(data, theme) if show == "success" else _collateral(data, theme)


def _success(data: xr.Dataset, theme: Theme) -> go.Figure:
    data = data.isel(edit=slice(_LISTED_AT_MOST))
    names = [
        f"{plotly_text(str(ngram))} → {plotly_text(str(target))}"
        for ngram, target in zip(data["ngram"].values, data["target"].values, strict=True)
    ]
    figure = blank(
        title="Does the n-gram promote its target?",
        subtitle="mean over the edit's own prompt and its reads in the texts",
        x="log-probability of the target (nats)",
        y="",
        theme=theme,
        height=HEAD + 70 + 34 * len(names),
    )
    heights = np.arange(len(names))[::-1].astype(float)
    colours = palette(theme)
    before, after = data["before_logprob"].values, data["after_logprob"].values
    x: list[float | None] = []
    y: list[float | None] = []
    for start, end, height in zip(before, after, heights, strict=True):
        x += [float(start), float(end), None]
        y += [float(height), float(height), None]
    line = {"width": 2, "color": colours.grid}
    figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False))
    for condition, name, colour, symbol in _conditions(colours, several=len(names) > 1):
        figure.add_trace(
            go.Scatter(
                x=data[f"{condition}_logprob"].values,
                y=heights,
                mode="markers",
                name=name,
                text=names,
                marker={
                    "size": 10,
                    "color": colour,
                    "symbol": symbol,
                    "line": {"width": 1.5, "color": colour},
                },
                customdata=data[f"{condition}_rank"].values,
                hovertemplate=f"%{{text}}<br>{name}: %{{x:.3f}} nats, rank %{{customdata}}<extra></extra>",
            )
        )
    figure.update_yaxes(tickvals=heights, ticktext=names, range=[-0.6, len(names) - 0.4], showgrid=False)
    return figure


def _conditions(colours: Palette, *, several: bool) -> list[tuple[str, str, str, str]]:
    found = [
        ("before", "before", colours.ink, "circle-open"),
        ("control", _CONTROL, colours.null, "diamond"),
        ("alone", "this edit alone", colours.baseline, "line-ns-open"),
        ("after", "all edits together" if several else "edited", colours.engram, "circle"),
    ]
    return found if several else [entry for entry in found if entry[0] != "alone"]


def _collateral(data: xr.Dataset, theme: Theme) -> go.Figure:
    groups = [str(group) for group in data["group"].values]
    labels = [f"{group}<br>{int(n):,} tokens" for group, n in zip(groups, data["tokens"].values, strict=True)]
    figure = blank(
        title="What edits cost, and where",
        subtitle="change of loss, 95 % intervals over documents (no line: fewer than 20 documents)",
        x="change of the loss on the next token (nats)",
        y="",
        theme=theme,
        height=HEAD + 60 + 60 * len(groups),
    )
    heights = np.arange(len(groups))[::-1].astype(float)
    colours = palette(theme)
    figure.add_vline(x=0, line={"width": 1, "color": colours.muted})
    for prefix, name, colour, symbol, lift in (
        ("", "edited", colours.engram, "circle", 0.14),
        ("control_", _CONTROL, colours.null, "diamond", -0.14),
    ):
        value, low, high = (data[f"{prefix}delta_loss{end}"].values for end in ("", "_low", "_high"))
        figure.add_trace(
            go.Scatter(
                x=value,
                y=heights + lift,
                mode="markers",
                name=name,
                text=groups,
                marker={"size": 10, "color": colour, "symbol": symbol},
                error_x=marks.whiskers(value, low, high, colour=colour),
                customdata=data[f"{prefix}kl"].values,
                hovertemplate=f"%{{text}}, {name}<br>%{{x:+.3f}} nats, KL %{{customdata:.3f}}<extra></extra>",
            )
        )
    figure.update_yaxes(tickvals=heights, ticktext=labels, range=[-0.6, len(groups) - 0.4], showgrid=False)
    return figure
