"""The top predictions under each condition, side by side: one column a condition, one bar a token.

Probabilities have no unit; all bars of one piece share a scale, and the intact answer is outlined.
"""

import math
from collections.abc import Sequence

import xarray as xr

from engram_interp.views import draws
from engram_interp.views.markup import Html, element
from engram_interp.views.theme import number
from engram_interp.views.tokens import token_html

SHOWN = 8
CONDITIONS = {
    "intact": ("Memory on", "the model as it is"),
    "ablated": ("Memory changed", ""),
    "random rows": ("Control: random rows", "the same reads, from other rows of the same heads"),
    "random direction": ("Control: random direction", "a change of the same size, in a random direction"),
}
_TINTS = {"intact": "--engram", "ablated": "--baseline"}

Line = tuple[str, float, bool]
"""A token, its probability, and whether it is the intact answer."""


def intact(data: xr.Dataset, *, token: int) -> Html:
    """What the model predicts after `token` as it is, from a lens table's last layer.

    Args:
        data: top_token and top_logprob [layer, token, rank], in nats.
        token: its position.
    """
    last = data.isel(layer=-1).sel(token=token)
    found = zip(last["top_token"].values, last["top_logprob"].values, strict=True)
    lines: list[Line] = [(str(text), math.exp(logp), rank == 0) for rank, (text, logp) in enumerate(found)]
    return _grid(
        [_column("intact", lines[:SHOWN], answer=lines[0], about="", full=lines[0][1])], full=lines[0][1]
    )


def columns(data: xr.Dataset, *, run: str = "") -> Html:
    """Every condition's top tokens on one scale, the intact answer marked wherever it stands.

    Args:
        data: top_id, top_token, logprob [condition, rank] and answer_logprob[condition], in nats; where the
            controls were drawn several times control_answer[control, draw].
        run: what the run is called, where a page shows several.
    """
    full = math.exp(float(data["logprob"].max()))
    answer_id = int(data["top_id"].sel(condition="intact").values[0])
    answer = str(data["top_token"].sel(condition="intact").values[0])
    made: list[Html] = []
    for name in [str(condition) for condition in data["condition"].values]:
        chosen = data.sel(condition=name)
        found = zip(
            chosen["top_id"].values, chosen["top_token"].values, chosen["logprob"].values, strict=True
        )
        lines: list[Line] = [
            (str(text), math.exp(logp), int(token) == answer_id) for token, text, logp in found
        ]
        own = (answer, math.exp(float(chosen["answer_logprob"])), True)
        about = str(data.attrs.get("what", "")) if name == "ablated" else ""
        drawn = draws.values(data, name, quantity="answer") if name in draws.CONTROLS else None
        more = "" if drawn is None else draws.probability(drawn)
        made.append(_column(name, lines[:SHOWN], answer=own, about=about, full=full, run=run, drawn=more))
    return _grid(made, full=full)


def _grid(made: Sequence[Html], *, full: float) -> Html:
    scale = (
        f"Bars share one scale: a full bar is a probability of {number(full)}. Outlined: the intact answer."
    )
    return Html(element("div", *made, class_="predictions") + element("p", scale, class_="note"))


def _column(
    name: str,
    lines: Sequence[Line],
    *,
    answer: Line,
    about: str,
    full: float,
    run: str = "",
    drawn: str = "",
) -> Html:
    title, meaning = CONDITIONS.get(name, (name, ""))
    listed = [_line(line, full=full) for line in lines]
    if not any(mark for _, _, mark in lines):
        listed.append(_line(answer, full=full, far=True))
    return element(
        "section",
        element("h3", title, element("small", about or meaning)),
        element(
            "p",
            element("b", number(answer[1])),
            element("span", " for ", element("code", token_html(answer[0]))),
            class_="answer-share",
        ),
        element("ol", *listed),
        *([element("p", f"the answer in {drawn}", class_="note")] if drawn else []),
        style=f"--tint:var({_TINTS.get(name, '--null')})",
        aria_label=f"{run} · {title}" if run else title,
    )


def _line(line: Line, *, full: float, far: bool = False) -> Html:
    token, share, mark = line
    kind = " ".join(word for word, on in (("answer", mark), ("far", far)) if on)
    return element(
        "li",
        element("span", token_html(token), class_="token"),
        element("span", number(share), class_="figure"),
        class_=kind,
        style=f"--share:{min(share / full, 1.0):.4f}",
    )
