"""What an ablation changes, always beside a random control of the same size."""

from typing import Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import draws, marks
from engram_interp.views.theme import HEAD, Theme, blank, palette
from engram_interp.views.token_maps import TOKEN_AXIS
from engram_interp.views.tokens import plain_label, plotly_text

Effect = Literal["delta_loss", "kl"]

EFFECTS: dict[str, tuple[str, ...]] = {
    "delta_loss": ("change of the loss on the next token (nats)", "What the ablation costs"),
    "kl": ("KL(intact ‖ ablated) (nats)", "How far the ablation moves the predictions"),
}


INTERVAL_ON_HOVER = "95 % %{customdata[0]:.3f} to %{customdata[1]:.3f}"


def effect_forest(data: xr.Dataset, *, effect: Effect = "delta_loss", theme: Theme = "light") -> go.Figure:
    """One row per ablation: its effect with a 95 % interval, and the random control's below it.

    Args:
        data: the effect with ``_low`` and ``_high`` [kind] in nats, and the same prefixed ``control_``.
        effect: which one.
        theme: light or dark.
    """
    axis, title = marks.choose(EFFECTS, effect, what="effect")
    kinds = [plain_label(str(kind)) for kind in data["kind"].values]
    figure = blank(
        title=title,
        subtitle="95 % intervals over documents; control: the write moved as far, in a random direction",
        x=axis,
        y="ablation",
        theme=theme,
        height=HEAD + 60 + 60 * len(kinds),
    )
    heights = np.arange(len(kinds))[::-1].astype(float)
    colours = palette(theme)
    figure.add_vline(x=0, line={"width": 1, "color": colours.muted})
    for prefix, name, colour, symbol, lift in (
        ("", "ablation", colours.engram, "circle", 0.14),
        ("control_", "random control", colours.null, "diamond", -0.14),
    ):
        value, low, high = (data[f"{prefix}{effect}{end}"].values for end in ("", "_low", "_high"))
        trace = go.Scatter(
            x=value,
            y=heights + lift,
            mode="markers",
            name=name,
            text=kinds,
            marker={"size": 10, "color": colour, "symbol": symbol},
            customdata=np.stack([low, high], axis=-1),
            error_x=marks.whiskers(value, low, high, colour=colour),
            hovertemplate=f"%{{text}}, {name}<br>%{{x:+.3f}} nats<br>{INTERVAL_ON_HOVER}<extra></extra>",
        )
        figure.add_trace(trace)
    figure.update_yaxes(tickvals=heights, ticktext=kinds, range=[-0.6, len(kinds) - 0.4], showgrid=False)
    return figure


def divergence_by_token(data: xr.Dataset, *, what: str, theme: Theme = "light") -> go.Figure:
    """KL to the intact prediction at every token of one prompt, ablated beside both controls.

    Args:
        data: kl[condition, token] in nats, token_index; token_text[token] where there is one; written[token]
            and first_token, to mark where the changed read is written to.
        what: the exact name of the ablation.
        theme: light or dark.
    """
    positions, length = data["token"].values, data.sizes["token"]
    start, stop = marks.window(length, int(data["token_index"]), first=marks.changed_from(data))
    tokens = [str(token) for token in data["token_text"].values] if "token_text" in data else None
    figure = blank(
        title="Where the prediction changes",
        subtitle=f"{plain_label(what)}; {marks.zoomed_of(start, stop, length)}{draws.said(data)}one prompt: "
        "no interval is possible",
        x=TOKEN_AXIS,
        y="KL(intact ‖ changed) (nats)",
        theme=theme,
        height=440,
    )
    colours = palette(theme)
    shades = {"ablated": colours.engram, "random rows": colours.null, "random direction": colours.grid}
    for condition, colour in shades.items():
        figure.add_trace(
            go.Bar(
                x=positions,
                y=data["kl"].sel(condition=condition).values,
                name=condition,
                marker={"color": colour, "line": {"width": 1, "color": colours.muted}},
                error_y=draws.whiskers(data, condition, colour=colours.muted),
                text=None if tokens is None else [plotly_text(token) for token in tokens],
                textposition="none",
                hovertemplate=f"token %{{x}} %{{text}}<br>{condition} %{{y:.3f}} nats<extra></extra>",
            )
        )
    shown = data["kl"].sel(condition=list(shades)).isel(token=slice(start, stop))
    highest = float(shown.max()) or 1.0
    if "control_kl" in data:
        highest = max(highest, float(data["control_kl"].isel(token=slice(start, stop)).max()))
    marks.mark_written(figure, data, y=1.08 * highest, within=(0, length), theme=theme)
    if tokens is not None:
        marks.label_tokens(figure, tokens[start:stop], first=start)
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(range=[start - 0.5, stop - 0.5])
    figure.update_yaxes(rangemode="tozero", range=[0, 1.16 * highest] if stop - start < length else None)
    return figure
