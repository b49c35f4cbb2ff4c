"""The lens after an ablation less the lens before it, by layer and token, beside the same-size control."""

from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from engram_interp.views import marks
from engram_interp.views.theme import COLOUR_BAR, HEAD, Theme, headed, number, palette, signed
from engram_interp.views.token_maps import LAYER_AXIS, TOKEN_AXIS
from engram_interp.views.tokens import plain_label, plotly_text

View = Literal["tokens", "lens"]
VIEWS: dict[str, tuple[str, ...]] = {"tokens": ("by token",), "lens": ("by layer and token",)}

PANELS = {"ablated": "ablated", "random direction": "control: a change of the same size"}
OUTSIDE = "outside the causal cone"
_LEAST = 1e-3  # nats; less than this is not drawn in full colour
_ROW, _BETWEEN, _ABOVE = 22, 48, 16  # pixels: a layer, the gap between the panels, room for a panel's name


def grid(data: xr.Dataset, *, what: str, theme: Theme = "light") -> go.Figure:
    """Change of KL(intact final ‖ layer) by layer and token, the control of the same size below it.

    Blue is nearer to the intact answer than before, orange further from it; both panels share one symmetric
    scale. Grey is outside the causal cone: earlier tokens and lower layers, which nothing can reach. Of a
    long prompt, the 48 tokens around the one that is looked at are shown.

    Args:
        data: lens_kl and lens_logprob [condition, layer, token] in nats, written[token], first_layer,
            first_token, token_index; token_text[token] where there is one.
        what: the exact name of the ablation.
        theme: light or dark.
    """
    length, layers = data.sizes["token"], marks.layers_of(data)
    start, stop = marks.window(length, int(data["token_index"]), first=marks.changed_from(data))
    whole, data = data, data.isel(token=slice(start, stop))
    conditions = data["lens_kl"].transpose("condition", "layer", "token")
    drawn = (conditions.sel(condition=list(PANELS)) - conditions.sel(condition="intact")).values
    cone = cone_of(data)
    largest = max(float(np.abs(drawn[:, cone]).max(initial=0.0)), _LEAST)
    inside = max(len(layers) * _ROW, 110)
    share = _BETWEEN / (2 * inside + _BETWEEN)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=share)
    headed(
        figure,
        title="Lens grid: after − before",
        subtitle=f"{plain_label(what)}; KL(intact final ‖ layer) by the raw logit lens; "
        f"{marks.shown_of(start, stop, length)}one prompt: no interval is possible",
        theme=theme,
        height=HEAD + _ABOVE + 2 * inside + _BETWEEN + marks.BELOW_TOKENS,
    )
    figure.update_layout(margin={"t": figure.layout.margin.t + _ABOVE, "b": marks.BELOW_TOKENS, "l": 76})
    for row, (condition, name) in enumerate(PANELS.items(), start=1):
        _panel(figure, data, drawn[row - 1], cone, condition=condition, name=name, row=row, theme=theme)
        marks.mark_written(figure, whole, y=layers[-1] + 0.5, row=row, within=(start, stop), theme=theme)
    marker = {"symbol": "square", "size": 11, "color": palette(theme).null_band}
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=OUTSIDE))
    figure.update_yaxes(marks.whole_layers(layers))
    figure.update_xaxes(showgrid=False, range=[start - 0.5, stop - 0.5])
    if "token_text" in data:
        marks.label_tokens(figure, [str(token) for token in data["token_text"].values], first=start)
    figure.update_xaxes(title={"text": TOKEN_AXIS}, row=2)
    figure.add_annotation(
        text=LAYER_AXIS, textangle=-90, showarrow=False, font={"size": 13},
        xref="paper", x=0, xanchor="right", xshift=-30, yref="paper", y=0.5, yanchor="middle",
    )  # fmt: skip
    return figure.update_layout(coloraxis=_colours(largest, theme=theme))


def cone_of(data: xr.Dataset) -> np.ndarray:
    """Which cells an ablation can reach [layer, token]: from its first layer and its first token on."""
    layers, tokens = data["layer"].values, data["token"].values
    below = layers[:, None] >= int(data["first_layer"])
    return np.asarray(below & (tokens[None, :] >= int(data["first_token"])))


def _colours(largest: float, *, theme: Theme) -> dict[str, Any]:
    colours = palette(theme)
    ticks = [-largest, 0.0, largest]
    bar = {
        "title": {"text": "Δ KL<br>(nats)<br> "},
        "tickvals": ticks,
        "ticktext": [signed(v) for v in ticks],
    }
    return {
        "colorscale": [[0.0, colours.engram], [0.5, colours.paper], [1.0, colours.baseline]],
        "cmin": -largest,
        "cmax": largest,
        "colorbar": bar | {"lenmode": "pixels", "len": 150, "y": 1, "yanchor": "top"} | COLOUR_BAR,
    }


def _panel(
    figure: go.Figure,
    data: xr.Dataset,
    change: np.ndarray,
    cone: np.ndarray,
    *,
    condition: str,
    name: str,
    row: int,
    theme: Theme,
) -> None:
    """One heat map, what lies outside of the cone in grey below it."""
    colours = palette(theme)
    shared: dict[str, Any] = {
        "x": data["token"].values, "y": marks.layers_of(data), "xgap": 1, "ygap": 1, "hoverongaps": False,
    }  # fmt: skip
    figure.add_heatmap(
        z=np.where(cone, np.nan, 0.0),
        colorscale=[[0.0, colours.null_band], [1.0, colours.null_band]],
        showscale=False,
        hovertemplate=f"layer %{{y}}, token %{{x}}<br>{OUTSIDE}<extra></extra>",
        name=OUTSIDE,
        row=row,
        col=1,
        **shared,
    )
    figure.add_heatmap(
        z=np.where(cone, change, np.nan),
        coloraxis="coloraxis",
        text=_hover(data, condition),
        hovertemplate="%{text}<extra></extra>",
        name=name,
        row=row,
        col=1,
        **shared,
    )
    figure.add_annotation(
        text=name, showarrow=False, font={"size": 12.5, "weight": 600},
        xref="x domain", x=0, xanchor="left",
        yref="y domain" if row == 1 else "y2 domain", y=1, yanchor="bottom", yshift=8,
    )  # fmt: skip


def _hover(data: xr.Dataset, condition: str) -> list[list[str]]:
    """What a cell says: both divergences, and the intact top token's log-probability before and after."""

    def read(name: str, at: str) -> list[list[float]]:
        values: list[list[float]] = data[name].sel(condition=at).transpose("layer", "token").values.tolist()
        return values

    kl, kl_after = read("lens_kl", "intact"), read("lens_kl", condition)
    logp, logp_after = read("lens_logprob", "intact"), read("lens_logprob", condition)
    texts = data["token_text"].values if "token_text" in data else [""] * data.sizes["token"]
    return [
        [
            f"layer {layer}, token {token}: {plotly_text(str(text))}"
            f"<br>KL {number(kl[i][j])} → {number(kl_after[i][j])} nats"
            f"<br>log p of the intact top token {number(logp[i][j])} → {number(logp_after[i][j])}"
            for j, (token, text) in enumerate(zip(data["token"].values, texts, strict=True))
        ]
        for i, layer in enumerate(marks.layers_of(data))
    ]
