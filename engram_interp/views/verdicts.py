"""The measures of a verdict, each with its interval over its null; one panel for every unit."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from engram_interp.views import marks
from engram_interp.views.theme import BELOW, HEAD, Theme, headed, number, palette
from engram_interp.views.tokens import plain_label

_ROW = 46  # pixels a measure
_GAP = 74  # pixels between panels: ticks and the axis title
_LABEL = 34  # characters of a line of a label
_SYMBOLS = {"decides": "circle", "control": "diamond", "beside": "circle-open"}
_NAMES = {"decides": "decides", "control": "control that must hold", "beside": "told beside it"}


def measures(data: xr.Dataset, *, title: str, subtitle: str, theme: Theme = "light") -> go.Figure:
    """One row a measure: value and 95 % interval, over a grey band or line where its null lies.

    Args:
        data: value and null with ``_low`` and ``_high``, unit, role and compared_with [measure].
        title: of the figure.
        subtitle: the verdict, on what.
        theme: light or dark.
    """
    units = list(dict.fromkeys(data["unit"].values.tolist()))
    groups = [np.flatnonzero(data["unit"].values == unit) for unit in units] or [np.array([], dtype=int)]
    rows = [max(len(group), 1) for group in groups]
    plot = _ROW * sum(rows) + _GAP * (len(rows) - 1)
    figure = make_subplots(
        rows=len(groups),
        cols=1,
        row_heights=[float(n) for n in rows],
        vertical_spacing=_GAP / plot if len(groups) > 1 else 0.0,
    )
    headed(figure, title=title, subtitle=subtitle, theme=theme, height=HEAD + BELOW + plot)
    shown = set[str]()
    for panel, group in enumerate(groups, start=1):
        _panel(figure, data.isel(measure=group), panel, shown, theme=theme)
        unit = units[panel - 1] if units else ""
        figure.update_xaxes(title={"text": plain_label(unit) if unit != "1" else "no unit"}, row=panel, col=1)
    if not units:
        marks.say(figure, "nothing was measured", theme=theme)
    return figure


def _panel(figure: go.Figure, data: xr.Dataset, panel: int, shown: set[str], *, theme: Theme) -> None:
    colours = palette(theme)
    heights = np.arange(data.sizes["measure"])[::-1].astype(float)
    where = {"row": panel, "col": 1}
    labels = data["measure"].values.tolist()
    hover = [_hover(data.isel(measure=i)) for i in range(len(labels))]

    def named(name: str) -> dict[str, object]:
        first = name not in shown
        shown.add(name)
        return {"name": name, "legendgroup": name, "showlegend": first}

    null, low, high = (data[f"null{end}"].values for end in ("", "_low", "_high"))
    floor, ceiling = np.where(np.isnan(low), null, low), np.where(np.isnan(high), null, high)
    known = ~np.isnan(floor + ceiling)
    if known.any():
        bands = zip(floor[known], ceiling[known], heights[known] - 0.34, heights[known] + 0.34, strict=True)
        x, y = marks.outlines([(float(a), float(b), float(c), float(d)) for a, b, c, d in bands])
        band = go.Scatter(
            x=x, y=y, mode="lines", fill="toself", fillcolor=colours.null_band, hoverinfo="skip"
        )
        figure.add_trace(band.update(line={"width": 2, "color": colours.null}, **named("its null")), **where)
    value, lower, upper = (data[f"value{end}"].values for end in ("", "_low", "_high"))
    figure.update_xaxes(range=_range(floor, ceiling, value, lower, upper), **where)
    for role, symbol in _SYMBOLS.items():
        chosen = data["role"].values == role
        if not chosen.any():
            continue
        colour = colours.engram if role == "decides" else colours.ink
        trace = go.Scatter(
            x=value[chosen],
            y=heights[chosen],
            mode="markers",
            marker={"size": 11, "symbol": symbol, "color": colour, "line": {"width": 1.6, "color": colour}},
            error_x=marks.whiskers(value[chosen], lower[chosen], upper[chosen], colour=colour),
            text=[text for text, one in zip(hover, chosen, strict=True) if one],
            hovertemplate="%{text}<extra></extra>",
            **named(_NAMES[role]),
        )
        figure.add_trace(trace, **where)
    figure.update_yaxes(
        tickvals=heights,
        ticktext=[_wrapped(label) for label in labels],
        range=[-0.6, len(labels) - 0.4],
        showgrid=False,
        automargin=True,
        **where,
    )


def _range(*ends: np.ndarray) -> list[float] | None:
    """From the least to the greatest end, with room beside them; plotly's own where there is none."""
    known = np.concatenate(ends)
    known = known[np.isfinite(known)]
    if not known.size or known.min() == known.max():
        return None
    room = 0.06 * (known.max() - known.min())
    return [float(known.min() - room), float(known.max() + room)]


def _wrapped(label: str) -> str:
    """A label on as many lines as it needs."""
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + len(word) >= _LABEL:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(plain_label(line) for line in lines)


def _hover(one: xr.Dataset) -> str:
    parts = []
    for name, prefix in (("measured", "value"), (str(one["compared_with"].item()) or "its null", "null")):
        value, low, high = (float(one[f"{prefix}{end}"]) for end in ("", "_low", "_high"))
        interval = "no interval" if np.isnan(low + high) else f"95 % {number(low)} to {number(high)}"
        parts.append(f"{plain_label(name)} {number(value)} ({interval})")
    return "<br>".join([plain_label(str(one["measure"].item())), *parts, f"{one['says'].item()}"])
