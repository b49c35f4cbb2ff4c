"""How far each layer still is from the final prediction: lens curves with their interval bands."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import Theme, blank, layer_title, palette
from engram_interp.views.tokens import plain_label

Quantity = Literal["kl", "entropy", "next_loss", "agreement"]

QUANTITIES: dict[str, tuple[str, ...]] = {
    "kl": ("KL(final ‖ layer) (nats)", "How far each layer is from the final prediction"),
    "entropy": ("entropy (nats)", "How undecided each layer is"),
    "next_loss": ("loss on the next token (nats)", "How well each layer predicts the next token"),
    "agreement": (
        "top token is the final one (share of tokens)",
        "How often each layer has the final answer",
    ),
}


def lens_curves(
    engram: xr.Dataset,
    baseline: xr.Dataset | None = None,
    *,
    quantity: Quantity = "kl",
    scale: Literal["linear", "log"] = "linear",
    memory_layers: Sequence[int] = (),
    names: tuple[str, str] = ("Engram", "baseline"),
    theme: Theme = "light",
) -> go.Figure:
    """One lens quantity by layer; Engram blue and solid, baseline vermilion and dashed.

    Args:
        engram: the quantity and, where there are, its ``_low`` and ``_high`` [layer]; attrs["lens"]
            names the lens.
        baseline: the same of the baseline; its layers need not be as many.
        quantity: what to draw.
        scale: ``log`` leaves out values of 0, as the last layer's KL is, and says so.
        memory_layers: layers that read memory, marked.
        names: what to call the two models.
        theme: light or dark.
    """
    axis, title = marks.choose(QUANTITIES, quantity, what="quantity")
    lens = plain_label(str(engram.attrs.get("lens", "raw logit lens")))
    subtitle = f"{lens}; bands: 95 % intervals over documents"
    if scale == "log":
        subtitle += "; zeros are not drawn on the log scale"
    figure = blank(title=title, subtitle=subtitle, x=layer_title(), y=axis, theme=theme)
    colours = palette(theme)
    blue, vermilion = (colours.engram, colours.engram_band), (colours.baseline, colours.baseline_band)
    _draw(figure, engram, quantity=quantity, name=names[0], style=(*blue, "solid"), scale=scale)
    if baseline is not None:
        _draw(figure, baseline, quantity=quantity, name=names[1], style=(*vermilion, "dash"), scale=scale)
    marks.mark_memory(figure, memory_layers, theme=theme)
    longest = max((marks.layers_of(d) for d in (engram, baseline) if d is not None), key=len)
    figure.update_xaxes(marks.layer_ticks(longest), showgrid=False)
    if scale == "log":
        ticks = [lead * 10.0**power for power in range(-6, 4) for lead in (1, 2, 5)]
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    else:
        figure.update_yaxes(range=[0, 1.02] if quantity == "agreement" else None, rangemode="tozero")
    return figure


def _draw(
    figure: go.Figure, data: xr.Dataset, *, quantity: str, name: str, style: tuple[str, str, str], scale: str
) -> None:
    colour, band, dash = style
    name = plain_label(name)
    layers, value = marks.layers_of(data), data[quantity].values.astype(float)
    ends = [data[f"{quantity}{end}"].values for end in ("_low", "_high") if f"{quantity}{end}" in data]
    drawn = value > 0 if scale == "log" else np.full(len(value), True)
    whole = drawn & ~np.isnan(ends).any(axis=0) if ends else np.full(len(value), False)
    for first, last in marks.runs(np.flatnonzero(whole).tolist()):
        low, high, inside = ends[0][first : last + 1], ends[1][first : last + 1], layers[first : last + 1]
        figure.add_trace(
            go.Scatter(
                x=np.concatenate([inside, inside[::-1]]),
                y=np.concatenate([low, high[::-1]]),
                mode="lines",
                fill="toself",
                fillcolor=band,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
                name=f"{name} interval",
                legendgroup=dash,
            )
        )
    figure.add_trace(
        go.Scatter(
            x=layers,
            y=np.where(drawn, value, np.nan),
            mode="lines+markers",
            cliponaxis=False,
            line={"color": colour, "width": 2.5, "dash": dash},
            marker={"size": 6, "color": colour},
            hovertemplate=f"{name}, layer %{{x}}<br>%{{y:.3f}}<extra></extra>",
            name=name,
            legendgroup=dash,
        )
    )


def lens_depth(data: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """KL(final ‖ layer) of both models, with the reading across from each interior Engram layer.

    Args:
        data: kl, depth, interior [layer], baseline_kl, baseline_curve [baseline_layer].
        theme: light or dark.
    """
    colours = palette(theme)
    figure = blank(
        title="How early the prediction is ready",
        subtitle=f"{plain_label(str(data.attrs.get('lens', 'raw logit lens')))}; lines: the reading across",
        x=layer_title(),
        y=f"{plain_label(str(data.attrs.get('direction', 'KL(final ‖ layer)')))} (nats)",
        theme=theme,
    )
    layers, baseline = marks.layers_of(data), marks.layers_of(data, "baseline_layer")
    x: list[float | None] = []
    y: list[float | None] = []
    for index in np.flatnonzero(data["interior"].values):
        value = float(data["kl"][index])
        x += [float(layers[index]), float(data["depth"][index]), None]
        y += [value, value, None]
    if x:
        line = {"color": colours.null, "width": 1.5}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name="reading", hoverinfo="skip"))
    for name, place, dash, colour in (
        ("kl", layers, "solid", colours.engram),
        ("baseline_kl", baseline, "dash", colours.baseline),
    ):
        figure.add_trace(
            go.Scatter(
                x=place,
                y=data[name].values,
                mode="lines+markers",
                line={"color": colour, "width": 2.5, "dash": dash},
                marker={"size": 6, "color": colour},
                name="Engram" if name == "kl" else "baseline",
                hovertemplate="layer %{x}<br>%{y:.3f} nats<extra></extra>",
            )
        )
    figure.update_yaxes(rangemode="tozero")
    return figure.update_xaxes(marks.layer_ticks(max(layers, baseline, key=len)), showgrid=False)
