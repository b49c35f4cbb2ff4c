"""Text with numbers on it, as static HTML: a strip of tokens under a gate, a window of the lens.

No script is involved, so the same piece serves a notebook, the report and a print-out. A gate is
shown twice, as a colour and as the length of a bar, so that it can be read without colour.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from plotly.colors import sample_colorscale, unlabel_rgb

from engram_interp.errors import InputError
from engram_interp.views.markup import Html, element, join, scrolling
from engram_interp.views.theme import CIVIDIS, DARK, LIGHT, mix, number, text_on
from engram_interp.views.tokens import token_html, visible

WINDOW_AT_MOST = 48
Rows = Literal["all", "max", "mean"]


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """The gate of one layer and stream, or the largest or mean of its streams, at every token.

    Attributes:
        name: what the row is called, with its layer and stream.
        layer: counted from 0.
        values: gate [token] in [0, 1]; NaN where it is undefined.
    """

    name: str
    layer: int
    values: npt.NDArray[np.float64]


def gate_rows(gate: xr.DataArray, *, rows: Rows | int = "all") -> list[GateRow]:
    """The rows under a text: layers down, and within each its streams.

    Args:
        gate: gate[layer, stream, token] in [0, 1].
        rows: every layer and stream, per layer the ``max`` or ``mean`` over streams, or one stream's number.
    """
    values = gate.transpose("layer", "stream", "token").values.astype(np.float64)
    layers, streams = (gate[dim].values.tolist() for dim in ("layer", "stream"))
    if rows in ("max", "mean"):
        reduced = values.max(axis=1) if rows == "max" else values.mean(axis=1)
        return [
            GateRow(name=f"layer {layer} · {rows} of {len(streams)}", layer=layer, values=reduced[i])
            for i, layer in enumerate(layers)
        ]
    shown = streams if rows == "all" else [rows]
    if not set(shown) <= set(streams):
        known = ", ".join(map(str, streams))
        raise InputError(f"rows is one of all, max, mean, or a stream of {known}; got {rows!r}.")
    several = len(streams) > 1
    return [
        GateRow(
            name=f"layer {layer}" + (f" · stream {stream}" if several else ""),
            layer=layer,
            values=values[i, streams.index(stream)],
        )
        for i, layer in enumerate(layers)
        for stream in shown
    ]


def gate_strip(
    data: xr.Dataset, *, prompt: int = 0, rows: Rows | int = "all", start: int = 0, stop: int | None = None
) -> Html:
    """The tokens of one prompt coloured by their gate, a bar under each; one row a layer and stream.

    Args:
        data: gate[prompt, layer, stream, token] in [0, 1], NaN where padded; token_text[prompt, token].
        prompt: the prompt's number, as on its coordinate.
        rows: as in `gate_rows`.
        start: first token shown.
        stop: one past the last token shown; None goes to the end. What is left out is said.
    """
    if prompt not in data["prompt"].values:
        raise InputError(f"There is no prompt {prompt} among the {data.sizes['prompt']} of this reading.")
    chosen = data.sel(prompt=prompt)
    gate = chosen["gate"].transpose("layer", "stream", "token")
    length = int((~np.isnan(gate.values)).any(axis=(0, 1)).sum())
    end = length if stop is None else min(stop, length)
    tokens = [str(token) for token in chosen["token_text"].values[start:end]]
    strips: list[Html] = []
    for row in gate_rows(gate, rows=rows):
        strips.append(element("span", row.name, class_="row-name"))
        chips = (
            _chip(token, float(value), position=start + offset)
            for offset, (token, value) in enumerate(zip(tokens, row.values[start:end], strict=True))
        )
        strips.append(element("div", join(chips), class_="row"))
    legend = join(
        [
            "gate 0",
            element("span", class_="scale"),
            "1; fixed scale, the tick under each token is 0.5 (neutral). ",
        ]
    )
    note = [legend, _shown(start, end, length), " Layers are counted from 0; the paper counts from 1."]
    return join([element("div", *strips, class_="strip"), element("p", *note, class_="note")])


def _shown(start: int, end: int, length: int) -> str:
    if (start, end) == (0, length):
        return f"All {length} tokens."
    return f"Tokens {start} to {end - 1} of {length}; the others are not shown here."


def _chip(token: str, value: float, *, position: int) -> Html:
    title = f"token {position} {visible(token)}: gate {number(value)}"
    text = element("span", token_html(token), class_="text")
    if np.isnan(value):
        return element(
            "span", text, element("span", class_="bar"), class_="tok missing", title=f"{title} (undefined)"
        )
    bar = element("span", element("i"), class_="bar")
    return element("span", text, bar, title=title, **grounded(value))


def grounded(value: float) -> dict[str, str]:
    """The attributes of an element on the ground of a gate ∈ [0, 1], whose text then stands out on it."""
    share = min(max(value, 0.0), 1.0)
    classes = ["tok", *(["warm"] if share > 0.2 else [])]
    classes += ["deep"] if text_on(mix(LIGHT.paper, LIGHT.gate, share)) == "#ffffff" else []
    classes += ["bright"] if text_on(mix(DARK.paper, DARK.gate, share)) == "#000000" else []
    return {"class_": " ".join(classes), "style": f"--value:{share:.3f}"}


def lens_window(data: xr.Dataset, *, start: int = 0, stop: int | None = None) -> Html:
    """The lens as a table: one column a token, one row a layer (last on top), the top token in each cell.

    The ground is the KL to the final prediction (reversed Cividis from 0), the number below the token
    is its probability; all ranks are in the tooltip.

    Args:
        data: top_token and top_logprob [layer, token, rank], kl [layer, token] in nats,
            token_text[token]; final_rank[layer, token] where there is one.
        start: first token of the window.
        stop: one past the last; at most 48 tokens after `start`. None takes as many as allowed.
    """
    length = data.sizes["token"]
    end = min(length, start + WINDOW_AT_MOST) if stop is None else min(stop, length)
    if not 0 <= start < end or end - start > WINDOW_AT_MOST:
        raise InputError(
            f"A lens window holds 1 to {WINDOW_AT_MOST} of the {length} tokens; got {start} to {end}. "
            "Choose another start or stop."
        )
    lens = str(data.attrs.get("lens", "raw logit lens"))
    highest = float(np.nanmax(data["kl"].values, initial=1e-9))
    caption = (
        f"{lens}: top token and its probability; ground: KL(final ‖ layer) from 0 (bright) to "
        f"{number(highest)} nats (dark). Rows: layer (counted from 0; the paper counts from 1)."
    )
    window = data.isel(token=slice(start, end))
    parts = [element("caption", caption), _lens_head(window), _lens_body(window, highest=highest)]
    table = element("table", *parts, class_="lens")
    note = element("p", _shown(start, end, length), class_="note")
    return join([scrolling(table, label="lens table"), note])


def _lens_head(window: xr.Dataset) -> Html:
    tokens = zip(window["token"].values, window["token_text"].values, strict=True)
    cells = [element("th", token_html(str(t)), title=f"token {int(i)}", scope="col") for i, t in tokens]
    return element("thead", element("tr", element("th", "layer", scope="col"), *cells))


def _lens_body(window: xr.Dataset, *, highest: float) -> Html:
    kl = window["kl"].transpose("layer", "token").values
    tokens, logprobs = (
        window[name].transpose("layer", "token", "rank").values for name in ("top_token", "top_logprob")
    )
    ranks = window["final_rank"].transpose("layer", "token").values if "final_rank" in window else None
    lines: list[Html] = []
    for row in reversed(range(window.sizes["layer"])):
        cells = [element("th", str(int(window["layer"][row])), scope="row")]
        for column in range(window.sizes["token"]):
            at = (row, column)
            final_rank = None if ranks is None else int(ranks[at])
            share = float(kl[at]) / highest
            title = _lens_title(float(kl[at]), tokens[at], logprobs[at], final_rank=final_rank)
            cells.append(_lens_cell(str(tokens[at][0]), float(logprobs[at][0]), share=share, title=title))
        lines.append(element("tr", *cells))
    return element("tbody", *lines)


def _lens_title(
    kl: float, tokens: Iterable[str], logprobs: Iterable[float], *, final_rank: int | None
) -> str:
    """The tooltip of a lens cell: KL, every rank, and where the final answer stands."""
    ranks = [f"{visible(str(t))}  {number(float(v))}" for t, v in zip(tokens, logprobs, strict=True)]
    last = [] if final_rank is None else [f"final top token: rank {final_rank} (0 = top)"]
    return "\n".join([f"KL {number(kl)} nats", "log-probabilities (nats):", *ranks, *last])


def _lens_cell(token: str, logprob: float, *, share: float, title: str) -> Html:
    """A cell whose ground is `share` ∈ [0, 1] of the highest KL; hatched where that is undefined."""
    probability = number(float(np.exp(logprob)), digits=2)
    inside = [
        element("span", token_html(token), class_="text"),
        element("span", probability, class_="figure"),
    ]
    if np.isnan(share):
        return element("td", *inside, class_="missing", title=title)
    ground = _cividis(1 - min(max(share, 0.0), 1.0))
    return element("td", *inside, title=title, style=f"background:{ground};color:{text_on(ground)}")


def _cividis(position: float) -> str:
    """The Cividis colour at `position` ∈ [0, 1] as ``#rrggbb``."""
    channels = unlabel_rgb(sample_colorscale(CIVIDIS, position)[0])
    return "#" + "".join(f"{round(channel):02x}" for channel in channels)
