"""Heat maps over the tokens of one text: gates, the lens, and the share of each memory column.

The cells carry no text: labelled plotly maps of this size take seconds (tables of tokens are HTML,
see `strips`). Token text appears as tick labels up to 48 tokens, and on hover.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views import marks
from engram_interp.views.theme import CIVIDIS, COLOUR_BAR, HEAD, Theme, blank, palette
from engram_interp.views.tokens import plain_label, plotly_text

LAYER_AXIS = "layer (counted from 0;<br>the paper counts from 1)"
TOKEN_AXIS = "token (position counted from 0)"


def gate_matrix(data: xr.Dataset, *, prompt: int = 0, theme: Theme = "light") -> go.Figure:
    """gate[layer · stream, token] of one prompt, on the fixed scale 0…1.

    Args:
        data: gate[prompt, layer, stream, token] in [0, 1], NaN where padded; token_text[prompt, token].
        prompt: the prompt's number, as on its coordinate.
        theme: light or dark.
    """
    if prompt not in data["prompt"].values:
        raise InputError(f"There is no prompt {prompt}; there are {_span(data['prompt'])}.")
    chosen = data.sel(prompt=prompt)
    gate = chosen["gate"].transpose("layer", "stream", "token")
    length = int((~np.isnan(gate.values)).any(axis=(0, 1)).sum())
    values = gate.values[..., :length].reshape(-1, length)
    labels = [f"layer {v} · stream {w}" for v in gate["layer"].values for w in gate["stream"].values]
    colours = palette(theme)
    figure = blank(
        title="Where the gate opens",
        subtitle="the gate at a token speaks of the n-grams that end there; fixed scale, 0.5 is neutral",
        x=TOKEN_AXIS,
        y=marks.ROW_AXIS,
        theme=theme,
        height=_height(len(labels)),
    )
    _draw(
        figure,
        values,
        tokens=list(chosen["token_text"].values[:length]),
        labels=labels,
        what="gate",
        unit="gate<br>(no unit)",
        limits=(0.0, 1.0),
        scale=[[0.0, colours.paper], [1.0, colours.gate]],
    )
    return figure.update_yaxes(autorange="reversed")


def lens_map(data: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """KL(final ‖ layer) of every layer and token: dark where the layer is far from the final answer.

    Args:
        data: kl[layer, token] in nats, top_token[layer, token, rank], token_text[token].
        theme: light or dark.
    """
    kl = data["kl"].transpose("layer", "token")
    layers = marks.layers_of(kl)
    figure = blank(
        title="When each token's prediction is ready",
        subtitle=plain_label(str(data.attrs.get("lens", "raw logit lens"))),
        x=TOKEN_AXIS,
        y=LAYER_AXIS,
        theme=theme,
        height=_height(len(layers)),
    )
    best = data["top_token"].transpose("layer", "token", "rank").values[:, :, 0]
    _draw(
        figure,
        kl.values,
        tokens=list(data["token_text"].values),
        labels=[str(layer) for layer in layers],
        what="KL",
        unit="KL<br>(nats)",
        limits=(0.0, None),
        scale=f"{CIVIDIS}_r",
        extra=[[f"<br>top token {plotly_text(str(token))}" for token in row] for row in best],
    )
    return figure


def share_map(data: xr.Dataset, *, layer: int, theme: Theme = "light") -> go.Figure:
    """Signed share of the value vector that each column (order, head) gives, by token, at one layer.

    Args:
        data: share[token, layer, column] (sums to 1 with the bias part), order[column], head[column],
            token_text[token].
        layer: a memory layer, counted from 0.
        theme: light or dark.
    """
    if layer not in data["layer"].values:
        raise InputError(f"Layer {layer} reads no memory here; memory layers are {_span(data['layer'])}.")
    share = data["share"].sel(layer=layer).transpose("column", "token")
    heads = zip(data["order"].values, data["head"].values, strict=True)
    labels = [f"{order}-gram · head {head}" for order, head in heads]
    colours = palette(theme)
    largest = float(np.nanmax(np.abs(share.values), initial=1e-9))
    figure = blank(
        title=f"What the memory's value is made of, layer {layer}",
        subtitle="signed share of |value|²; the columns and the bias sum to 1 at every token",
        x=TOKEN_AXIS,
        y="order n · head",
        theme=theme,
        height=_height(len(labels)),
    )
    _draw(
        figure,
        share.values,
        tokens=list(data["token_text"].values),
        labels=labels,
        what="share",
        unit="share<br>(no unit)",
        limits=(-largest, largest),
        scale=[[0.0, colours.engram], [0.5, colours.paper], [1.0, colours.baseline]],
    )
    return figure.update_yaxes(autorange="reversed")


def _draw(
    figure: go.Figure,
    values: npt.NDArray[np.floating],
    *,
    tokens: Sequence[str],
    labels: Sequence[str],
    what: str,
    unit: str,
    limits: tuple[float, float | None],
    scale: object,
    extra: Sequence[Sequence[str]] | None = None,
) -> None:
    """Draw values[row, token] with a name for each row; `extra` ends each cell's hover text."""
    shown = [plotly_text(str(token)) for token in tokens]
    text = [
        [f"{label}<br>token {t}: {token}{extra[r][t] if extra else ''}" for t, token in enumerate(shown)]
        for r, label in enumerate(labels)
    ]
    trace = go.Heatmap(
        x=np.arange(len(shown)),
        y=np.arange(len(labels)),
        z=values,
        zmin=limits[0],
        zmax=limits[1],
        colorscale=scale,
        colorbar={"title": {"text": unit}, "lenmode": "pixels", "len": 140, "y": 1, "yanchor": "top"}
        | COLOUR_BAR,
        xgap=1,
        ygap=1,
        text=text,
        hovertemplate=f"%{{text}}<br>{what} %{{z:.3f}}<extra></extra>",
        hoverongaps=False,
        name=what,
    )
    figure.add_trace(trace)
    figure.update_yaxes(tickvals=np.arange(len(labels)), ticktext=labels, showgrid=False)
    figure.update_xaxes(showgrid=False)
    marks.label_tokens(figure, tokens)


def _height(rows: int) -> int:
    """Pixels for `rows` rows, with room for the axis title beside them."""
    return HEAD + marks.BELOW_TOKENS + max(24 * rows, 180)


def _span(values: xr.DataArray) -> str:
    return ", ".join(str(value) for value in values.values[:20]) + (" …" if values.size > 20 else "")
