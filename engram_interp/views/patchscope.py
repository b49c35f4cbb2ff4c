"""What hidden states say, layer by layer, beside what other states would say."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.views import marks
from engram_interp.views.theme import Theme, blank, layer_title, palette
from engram_interp.views.tokens import plain_label, plotly_text


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray, *, colour: str, name: str) -> go.Scatter:
    return go.Scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([low, high[::-1]]),
        mode="lines",
        fill="toself",
        fillcolor=colour,
        line={"width": 0},
        hoverinfo="skip",
        name=name,
    )


def answer_by_layer(
    data: xr.Dataset, *, memory_layers: Sequence[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Log-probability of the answer by layer; above each layer the token that the model puts first.

    Args:
        data: answer_logprob[condition, layer], random_low, random_high[layer] in nats, top_token and
            continuation.
        memory_layers: layers that read memory, marked.
        theme: light or dark.
    """
    colours = palette(theme)
    answer = plotly_text(str(data.attrs.get("answer", "the answer")))
    figure = blank(
        title=f"How well the state says “{answer}” in another prompt",
        subtitle="one prompt: no interval; band: 95 % of random tokens; words: what the model puts first",
        x=layer_title(),
        y="log-probability of the answer (nats)",
        theme=theme,
    )
    layers = marks.layers_of(data)
    low, high = data["random_low"].values, data["random_high"].values
    figure.add_trace(_band(layers, low, high, colour=colours.null_band, name="random tokens"))
    for condition, colour, dash in (
        ("random token", colours.null, "dash"),
        ("mean state", colours.baseline, "dot"),
        ("patched", colours.engram, "solid"),
    ):
        chosen = data.sel(condition=condition)
        said = [plotly_text(str(text)) for text in chosen["continuation"].values]
        shown = condition == "patched"
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=chosen["answer_logprob"].values,
                mode="lines+markers+text" if shown else "lines+markers",
                text=[plotly_text(str(text)) for text in chosen["top_token"].values[:, 0]],
                textposition="top center",
                cliponaxis=False,
                customdata=np.asarray(said, dtype=object),
                line={"color": colour, "width": 2.5, "dash": dash},
                marker={"size": 7, "color": colour},
                name={"patched": "own state", "random token": "mean of random tokens"}.get(
                    condition, condition
                ),
                hovertemplate=f"{condition}, layer %{{x}}<br>%{{y:.3f}} nats<br>goes on “%{{customdata}}”"
                "<extra></extra>",
            )
        )
    figure.add_hline(y=float(data["plain_logprob"]), line={"width": 1, "color": colours.muted, "dash": "dot"})
    marks.mark_memory(figure, memory_layers, theme=theme)
    return figure.update_xaxes(marks.whole_layers(layers))


def accuracy_by_layer(
    data: xr.Dataset, *, memory_layers: Sequence[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Held-out accuracy by layer, Engram beside baseline, with shuffled labels and the token's own guess.

    Args:
        data: accuracy and null_accuracy [model, layer] with ``_low`` and ``_high``; by_token, chance.
        memory_layers: layers that read memory, marked.
        theme: light or dark.
    """
    colours = palette(theme)
    figure = blank(
        title=f"Can the {plain_label(str(data.attrs.get('label', 'identity')))} be read off the state?",
        subtitle="linear probe, held out by document; 95 % intervals; dotted: guess from the current token",
        x=layer_title(),
        y="accuracy (share of tokens)",
        theme=theme,
    )
    layers = marks.layers_of(data)
    for model, colour, dash in (("engram", colours.engram, "solid"), ("baseline", colours.baseline, "dash")):
        if model not in data["model"].values:
            continue
        for prefix, shade, width in (("", colour, 2.5), ("null_", colours.null, 1.5)):
            value, low, high = (
                data[f"{prefix}accuracy{end}"].sel(model=model).values for end in ("", "_low", "_high")
            )
            name = f"{'Engram' if model == 'engram' else 'baseline'}{', labels shuffled' if prefix else ''}"
            figure.add_trace(
                go.Scatter(
                    x=layers,
                    y=value,
                    mode="lines+markers",
                    line={"color": shade, "width": width, "dash": dash},
                    marker={"size": 6, "color": shade},
                    error_y=marks.whiskers(value, low, high, colour=shade),
                    name=name,
                    hovertemplate=f"{name}, layer %{{x}}<br>%{{y:.3f}}<extra></extra>",
                )
            )
    figure.add_hline(y=float(data["by_token"]), line={"width": 1.5, "color": colours.muted, "dash": "dot"})
    marks.mark_memory(figure, memory_layers, theme=theme)
    figure.update_yaxes(range=[0, 1.02])
    return figure.update_xaxes(marks.layer_ticks(layers), showgrid=False)
