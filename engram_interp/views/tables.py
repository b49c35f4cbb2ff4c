"""Small HTML tables: predictions, slots, and the numbers behind the figures.

Three decimals, tabular figures, units in the header. A missing value is an em dash, and the reason
stands below the table.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.markup import Html, element, join, scrolling
from engram_interp.views.theme import DASH, number, signed
from engram_interp.views.tokens import shortened, token_html, visible

NO_REASON = "undefined, no reason recorded"
SLOT_NUMBERS = ("address", "row_norm", "share", "hits")
SlotOrder = Literal["order", "share", "row_norm", "hits"]
DEPTHS = {
    "path": ("path", "path_self", "path_shift", "path"),
    "peak": ("peak", "peak_self", "peak_shift", "peak"),
    "soft": ("depth", "depth_self", "shift", "soft index"),
}
CONDITIONS = {
    "intact": "before",
    "ablated": "after",
    "random rows": "random rows",
    "random direction": "random change of the same size",
}


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A cell that has no value, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Token:
    """A cell that shows a token."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A cell that shows a difference, its sign always written; `bar` ∈ [0, 1] is drawn behind it."""

    value: float
    bar: float = 0.0


Cell = str | int | float | Missing | Token | Change


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str = "", digits: int = 3
) -> Html:
    """A table whose first row names the columns; everything is escaped.

    Args:
        headers: column titles with their units.
        rows: cells; numbers are aligned right, NaN becomes `Missing`.
        caption: a line above the table.
        digits: decimals of floats.
    """
    body = [[_or_missing(cell) for cell in row] for row in rows]
    wrong = next((row for row in body if len(row) != len(headers)), None)
    if wrong is not None:
        raise InputError(f"A table of {len(headers)} columns got a row of {len(wrong)} cells.")
    numeric = [
        any(not isinstance(row[c], str | Token | Missing) for row in body) for c in range(len(headers))
    ]
    head = element("tr", *(_head(text, right=right) for text, right in zip(headers, numeric, strict=True)))
    lines = [
        element("tr", *(_cell(value, digits, right=right) for value, right in zip(row, numeric, strict=True)))
        for row in body
    ]
    parts = [element("thead", head), element("tbody", *lines)]
    if caption:
        parts.insert(0, element("caption", caption))
    made = scrolling(element("table", *parts), label=caption or "table")
    notes = [element("p", f"{DASH} {reason}", class_="note") for reason in _reasons(body)]
    return join([made, *notes])


def _or_missing(cell: Cell) -> Cell:
    value = cell.value if isinstance(cell, Change) else cell
    return Missing(reason=NO_REASON) if isinstance(value, float) and np.isnan(value) else cell


def _head(text: str, *, right: bool) -> Html:
    return element("th", text, scope="col", **({"class_": "number"} if right else {}))


def _reasons(rows: list[list[Cell]]) -> list[str]:
    """Why cells are empty, each reason once and in order."""
    return list(dict.fromkeys(cell.reason for row in rows for cell in row if isinstance(cell, Missing)))


def _cell(value: Cell, digits: int, *, right: bool) -> Html:
    if isinstance(value, Token):
        return element("td", token_html(value.text), class_="token")
    if isinstance(value, Missing):
        return element("td", DASH, title=value.reason, **({"class_": "number"} if right else {}))
    if isinstance(value, Change):
        behind = {"style": f"--bar:{min(value.bar, 1):.3f}"} if value.bar > 0 else {}
        return element("td", signed(value.value, digits=digits), class_="number", **behind)
    if isinstance(value, str):
        return element("td", value)
    whole = isinstance(value, int | np.integer)
    return element("td", f"{int(value):,}" if whole else number(float(value), digits=digits), class_="number")


def measured(data: xr.DataArray, *, change: bool = False) -> Cell:
    """A scalar of a dataset as a cell: counts whole, NaN `Missing` with the variable's own reason."""
    value = data.item()
    if isinstance(value, float) and np.isnan(value):
        return Missing(reason=str(data.attrs.get("missing", "")) or NO_REASON)
    if change:
        return Change(value=float(value))
    if data.attrs.get("units") == "occurrences":
        return int(value)
    return value if isinstance(value, str | int) else float(value)


def estimate(data: xr.Dataset, name: str, *, change: bool = False) -> list[Cell]:
    """Two cells: a value, and its interval in brackets."""
    return [measured(data[name], change=change), interval(data, name)]


def interval(data: xr.Dataset, name: str) -> Cell:
    """``name_low`` and ``name_high`` in brackets as one cell; `Missing` if one of them is."""
    low, high = (float(data[f"{name}{end}"]) for end in ("_low", "_high"))
    if np.isnan(low + high):
        return measured(data[f"{name}_low"])
    return f"[{number(low, digits=3)},\N{NO-BREAK SPACE}{number(high, digits=3)}]"


def facts(pairs: Mapping[str, object], *, caption: str = "") -> Html:
    """Names and values, one a row; for provenance."""
    rows = (
        element("tr", element("th", str(name), scope="row"), element("td", str(value)))
        for name, value in pairs.items()
    )
    parts = [element("caption", caption)] if caption else []
    made = element("table", *parts, element("tbody", *rows))
    return scrolling(made, label=caption or "table")


def depth_table(data: xr.Dataset, *, estimate: str = "path") -> Html:
    """The numbers behind the depth figures, one row a layer, in baseline layers.

    Args:
        data: of a `DepthResult`.
        estimate: whose place, self-reference and shift are shown: ``path``, ``peak`` or ``soft``.
    """
    place, own, shift, title = DEPTHS[estimate]
    title += f", k = {data.attrs['top_k']}" if estimate == "soft" and "top_k" in data.attrs else ""
    names = (place, own, shift, f"{shift}_low", f"{shift}_high")
    headers = ["layer (from 0)", title, f"{title}, self", "shift", "95 % low", "95 % high", "note"]
    rows = []
    for index in range(data.sizes["layer"]):
        row = data.isel(layer=index)
        remarks = [("control: before the first memory read", "pre_memory"), ("edge-biased", "edge")]
        note = "; ".join(text for text, mark in remarks if bool(row[mark]))
        cells = [measured(row[name], change="shift" in name) for name in names]
        rows.append([int(row["layer"]), *cells, note])
    return table(headers, rows, caption="Depth in baseline layers; shift relative to the self-reference.")


def gate_table(data: xr.Dataset, *, null: str = "untrained") -> Html:
    """Mean and spread of the gate for every layer and stream, beside a null.

    Args:
        data: mean and sd with their intervals, fraction_open [layer, stream]; null_mean, null_sd and
            distance [null, layer, stream].
        null: which null to set beside them.
    """
    beside = data.sel(null=null)
    headers = ["layer (from 0)", "stream", "mean", "95 % low", "95 % high", "sd", "share open (> 0.5)"]
    headers += [f"mean, {null}", f"sd, {null}", "distance (Kolmogorov–Smirnov)"]
    own = ("mean", "mean_low", "mean_high", "sd", "fraction_open")
    rows: list[list[Cell]] = []
    for layer in data["layer"].values:
        for stream in data["stream"].values:
            cells = [measured(data[name].sel(layer=layer, stream=stream)) for name in own]
            others = ("null_mean", "null_sd", "distance")
            cells += [measured(beside[name].sel(layer=layer, stream=stream)) for name in others]
            rows.append([int(layer), int(stream), *cells])
    return table(headers, rows, caption="Gates, 0 to 1 without unit; 0.5 is neutral.")


def effect_table(data: xr.Dataset) -> Html:
    """Change of the loss by each ablation, beside its random control.

    Args:
        data: delta_loss and kl [kind] in nats with ``_low`` and ``_high``, and the same of the control.
    """
    ends = ("95 % low", "95 % high")
    headers = ["ablation", "Δ loss (nats)", *ends, "control (nats)", *ends, "KL (nats)", "control KL (nats)"]
    names = [f"{whose}delta_loss{end}" for whose in ("", "control_") for end in ("", "_low", "_high")]
    rows: list[list[Cell]] = []
    for kind in data["kind"].values:
        chosen = data.sel(kind=kind)
        changes = [measured(chosen[name], change=True) for name in names]
        rows.append([str(kind), *changes, measured(chosen["kl"]), measured(chosen["control_kl"])])
    return table(headers, rows, caption="Each ablation beside a random one of the same size.")


def prediction_table(data: xr.Dataset) -> Html:
    """The top predictions before, after and under the random controls, side by side.

    Args:
        data: top_token and logprob [condition, rank] with the conditions of `CONDITIONS`;
            answer_logprob[condition]; attrs["what"] names the ablation, attrs["answer"] the answer.
    """
    shown = [name for name in CONDITIONS if name in data["condition"].values]
    headers = ["rank (0 = top)"]
    for name in shown:
        headers += [CONDITIONS[name], "log p (nats)"]
    rows: list[list[Cell]] = []
    for rank in range(data.sizes["rank"]):
        row: list[Cell] = [int(data["rank"][rank])]
        for name in shown:
            chosen = data.isel(rank=rank).sel(condition=name)
            row += [Token(text=str(chosen["top_token"].item())), measured(chosen["logprob"])]
        rows.append(row)
    if not np.isnan(data["answer_logprob"].values).all():
        answer = str(data.attrs.get("answer", ""))
        last: list[Cell] = ["answer"]
        for name in shown:
            last += [
                Token(text=answer) if answer else "",
                measured(data["answer_logprob"].sel(condition=name)),
            ]
        rows.append(last)
    what = str(data.attrs.get("what", "ablation"))
    return table(
        headers, rows, caption=f"Top predictions with {what}, beside a random control of the same size."
    )


def slot_table(
    data: xr.Dataset, *, token: int, layer: int, by: SlotOrder = "order", orders: Collection[int] = ()
) -> Html:
    """What one token read at one layer: one row for each order and head, and the bias.

    Args:
        data: address, row_norm, share, hits [token, layer, column], share_bias[token, layer],
            order[column], head[column], ngram[token, order_index], token_text[token], and where the n-grams
            were counted count[token, order_index].
        token: position, counted from 0.
        layer: a memory layer, counted from 0.
        by: what the rows are sorted by; numbers from the largest down.
        orders: lengths of the n-grams shown; without any, all.
    """
    if token not in data["token"].values or layer not in data["layer"].values:
        raise InputError(
            f"There is no token {token} at memory layer {layer}; tokens are 0 to {data.sizes['token'] - 1}, "
            f"memory layers {', '.join(str(v) for v in data['layer'].values)}."
        )
    chosen = data.sel(token=token, layer=layer)
    counted = "count" in data and bool(data["count"].notnull().any())
    rows: list[list[Cell]] = []
    for column in _columns(chosen, by=by, orders=orders):
        slot = chosen.isel(column=column)
        order = int(slot["order"])
        ngram = Token(text=str(chosen["ngram"].sel(order_index=order).item()))
        numbers = [measured(slot[name]) for name in SLOT_NUMBERS]
        share = float(slot["share"])
        numbers[SLOT_NUMBERS.index("share")] = Change(value=share, bar=0.0 if np.isnan(share) else share)
        own = [measured(chosen["count"].sel(order_index=order))] if counted else []
        rows.append([order, int(slot["head"]), ngram, *numbers, *own])
    unused = Missing(reason="the bias is no row of the table")
    bias = measured(chosen["share_bias"], change=True)
    rows.append(["bias", unused, unused, unused, unused, bias, unused, *([unused] if counted else [])])
    text = shortened(visible(str(chosen["token_text"].item())))
    caption = f"Memory read at token {token} {text}, layer {layer} (counted from 0; the paper counts from 1)."
    headers = [
        "order",
        "head",
        "n-gram (canonical)",
        "address (row)",
        "row norm",
        "share of |value|²",
        "hits in training",
        *(["n-gram's own count"] if counted else []),
    ]
    return table(headers, rows, caption=caption)


def _columns(data: xr.Dataset, *, by: SlotOrder, orders: Collection[int]) -> list[int]:
    """Which columns of a lookup are shown, in which order."""
    kept = [c for c, order in enumerate(data["order"].values) if not orders or int(order) in orders]
    return kept if by == "order" else sorted(kept, key=lambda c: -float(np.nan_to_num(data[by].values[c])))
