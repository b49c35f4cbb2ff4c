"""Colours, fonts, templates and number formats: one visual language for figures and pages.

Every colour a figure uses is a field of `Palette`, and no two fields of one theme share a value
unless they do in both themes. A page can therefore turn a light figure into a dark one by
exchanging values (`exchange`), without carrying each figure twice.
"""

import math
from dataclasses import dataclass, fields
from textwrap import wrap
from typing import Any, Literal

import plotly.graph_objects as go

Theme = Literal["light", "dark"]

HEAD = 116  # pixels above the plot: title, a line of subtitle, legend, and one line of marks
BELOW = 60  # pixels below it: ticks and the axis title
LEGEND = 64  # pixels from the top of the figure to the legend
SUBTITLE = 84  # characters of a line that half a window of 1,000 pixels shows whole
SUBTITLE_LINE = 16  # pixels
LAYER_NOTE = "counted from 0; the paper counts from 1"
SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif'
MONO = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace'
DASH = "—"
MINUS = "−"
CIVIDIS = "Cividis"

COLOUR_BAR = {"outlinewidth": 0, "thickness": 14, "tickfont": {"size": 12}}

# Plotly 7 offers to upload a figure ("Share chart…") unless told not to.
PLOTLY_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "responsive": True,
    "toImageButtonOptions": {"format": "png", "scale": 3},
}


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The colours of one theme, by meaning.

    Engram and baseline are the blue and vermilion of Okabe and Ito, lightened on a dark ground so
    that lines keep a contrast of at least 3:1; `ink` and `muted` text keep at least 4.5:1.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    engram: str
    engram_band: str
    baseline: str
    baseline_band: str
    gate: str
    gate_band: str
    null: str
    null_band: str
    hatch: str
    hatch_on_dark: str
    hatch_on_bright: str
    casing: str
    dash: str


LIGHT = Palette(
    paper="#ffffff",
    ink="#1b1f24",
    muted="#57606a",
    grid="#e4e7eb",
    engram="#0072b2",
    engram_band="rgba(0,114,178,0.18)",
    baseline="#d55e00",
    baseline_band="rgba(213,94,0,0.16)",
    gate="#c84600",
    gate_band="rgba(200,70,0,0.30)",
    null="#767f89",
    null_band="rgba(118,127,137,0.28)",
    hatch="rgba(40,46,54,0.55)",
    hatch_on_dark="rgba(255,255,255,0.45)",
    hatch_on_bright="rgba(0,0,0,0.45)",
    casing="#101113",
    dash="#fefefe",
)
DARK = Palette(
    paper="#14171c",
    ink="#e8eaed",
    muted="#a3abb5",
    grid="#2c323a",
    engram="#56aee6",
    engram_band="rgba(86,174,230,0.22)",
    baseline="#ff7f4d",
    baseline_band="rgba(255,127,77,0.20)",
    gate="#ff8c42",
    gate_band="rgba(255,140,66,0.32)",
    null="#8f98a3",
    null_band="rgba(143,152,163,0.28)",
    hatch="rgba(225,230,236,0.50)",
    hatch_on_dark="rgba(255,255,255,0.45)",
    hatch_on_bright="rgba(0,0,0,0.45)",
    casing="#101113",
    dash="#fefefe",
)


def palette(theme: Theme) -> Palette:
    """The palette of `theme`."""
    return DARK if theme == "dark" else LIGHT


def exchange() -> dict[str, str]:
    """Light colour → dark colour, for every colour that differs between the themes."""
    pairs = ((getattr(LIGHT, field.name), getattr(DARK, field.name)) for field in fields(Palette))
    return {light: dark for light, dark in pairs if light != dark}


def template(theme: Theme) -> go.layout.Template:
    """The plotly template of `theme`: fonts, grid, legend above the plot, title at the left."""
    colours = palette(theme)
    axis = _axis(colours)
    layout = go.Layout(
        font={"family": SANS, "size": 13, "color": colours.ink},
        title={
            "x": 0.0,
            "xref": "container",
            "pad": {"l": 12, "t": 12},
            "y": 1.0,
            "yanchor": "top",
            "font": {"size": 16, "weight": 600},
            "subtitle": {"font": {"size": 12.5, "color": colours.muted}},
        },
        paper_bgcolor=colours.paper,
        plot_bgcolor=colours.paper,
        colorway=[colours.engram, colours.baseline, colours.gate, colours.null],
        xaxis=axis,
        yaxis=axis,
        margin={"l": 64, "r": 24, "t": HEAD, "b": BELOW},
        legend={
            "orientation": "h",
            "x": 0.0,
            "xanchor": "left",
            "yref": "container",
            "yanchor": "top",
            "bgcolor": "rgba(0,0,0,0)",
            "font": {"size": 12},
        },
        hoverlabel={
            "font": {"family": MONO, "size": 12, "color": colours.ink},
            "bgcolor": colours.paper,
            "bordercolor": colours.muted,
            "align": "left",
        },
    )
    return go.layout.Template(layout=layout)


def _axis(colours: Palette) -> dict[str, object]:
    return {
        "gridcolor": colours.grid,
        "linecolor": colours.muted,
        "tickcolor": colours.muted,
        "ticks": "outside",
        "ticklen": 4,
        "showline": True,
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13}},
    }


def blank(*, title: str, subtitle: str = "", x: str, y: str, theme: Theme, height: int = 460) -> go.Figure:
    """An empty figure with the template, a title and named axes; every view starts from it."""
    figure = go.Figure()
    figure.update_layout(xaxis={"title": {"text": x}}, yaxis={"title": {"text": y}})
    return headed(figure, title=title, subtitle=subtitle, theme=theme, height=height)


def headed(figure: go.Figure, *, title: str, subtitle: str, theme: Theme, height: int) -> go.Figure:
    """Give `figure` its template, its height in pixels, and a head: title, subtitle, legend.

    A subtitle of several lines makes the figure taller, so that the plot keeps its size. A legend of more
    rows than there is room for moves the plot down.
    """
    lines = wrap(subtitle, SUBTITLE, break_long_words=False, break_on_hyphens=False)
    more = SUBTITLE_LINE * max(len(lines) - 1, 0)
    return figure.update_layout(
        template=template(theme),
        title={"text": title, "subtitle": {"text": "<br>".join(lines)}},
        margin={"t": HEAD + more},
        legend={"y": 1 - (LEGEND + more) / (height + more)},
        height=height + more,
    )


def layer_title(whose: str = "") -> str:
    """The title of a layer axis: ``"Engram layer (counted from 0; the paper counts from 1)"``."""
    return f"{whose} layer ({LAYER_NOTE})".strip()


def number(value: float, *, digits: int = 3) -> str:
    """`value` with a fixed number of decimals and a true minus; an em dash when it is NaN.

    >>> number(-1.23456), number(float("nan"))
    ('−1.235', '—')
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float, *, digits: int = 3) -> str:
    """`number` with its sign always written, for differences.

    >>> signed(0.5), signed(-0.25)
    ('+0.500', '−0.250')
    """
    text = number(value, digits=digits)
    return f"+{text}" if value > 0 and text.strip("0.,") else text


def _channels(colour: str) -> tuple[float, float, float]:
    """Red, green and blue of ``#rrggbb``, each in [0, 1]."""
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def mix(start: str, end: str, share: float) -> str:
    """The colour `share` ∈ [0, 1] of the way from `start` to `end`, both ``#rrggbb`` (linear in sRGB)."""
    pairs = zip(_channels(start), _channels(end), strict=True)
    return "#" + "".join(f"{round(255 * (a + (b - a) * share)):02x}" for a, b in pairs)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two ``#rrggbb`` colours after WCAG 2.2, in [1, 21]."""

    def luminance(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(background: str) -> Literal["#000000", "#ffffff"]:
    """Black or white, whichever reads better on `background` (``#rrggbb``)."""
    return "#000000" if contrast("#000000", background) >= contrast("#ffffff", background) else "#ffffff"
