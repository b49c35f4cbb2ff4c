"""The token strip: a text whose tokens carry their gates and can be picked, by pointer or by keyboard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import streamlit as st

from engram_interp.views.strips import GateRow
from engram_interp.views.theme import mix, palette, text_on
from engram_interp.views.tokens import visible
from explorer.style import theme

_KEY = "token strip"
_DRAWN = "strip drawn"
_HERE = Path(__file__).parent
_ASSETS = {kind: (_HERE / f"strip.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}


def show(
    tokens: Sequence[str],
    gates: Sequence[GateRow],
    *,
    ground: int,
    token: int,
    orders: Sequence[int],
    pick: Callable[[int], None],
) -> None:
    """Draw the strip.

    Args:
        tokens: the text of every token.
        gates: one bar under each token for each of these, in this order.
        ground: which of them also colours the ground.
        token: the one that is picked.
        orders: lengths of the n-grams looked up; those that end at the picked token are bracketed.
        pick: called with the position a reader picks.
    """
    colours = palette(theme())
    inks = [
        _ink(colours.paper, colours.gate, round(_share(value) or 0.0, 2)) for value in gates[ground].values
    ]
    data: dict[str, Any] = {
        "tokens": [visible(str(text)) for text in tokens],
        "rows": [{"name": row.name, "values": [_share(v) for v in row.values]} for row in gates],
        "ground": ground,
        "inks": inks,
        "orders": list(orders),
        "colours": {
            "gate": colours.gate,
            "track": colours.grid,
            "quiet": colours.muted,
            "mark": colours.engram,
        },
    }

    drawn = _drawn(data, token)

    def picked() -> None:
        position = st.session_state[_KEY]["picked"]
        if isinstance(position, int | float) and 0 <= position < len(tokens):
            st.session_state[_DRAWN] = replace(drawn, clicked=int(position))
            pick(int(position))

    st.components.v2.component("engram_token_strip", css=_ASSETS["css"], js=_ASSETS["js"])(
        key=_KEY,
        data={**drawn.data, "picked": drawn.token, "version": drawn.version},
        on_picked_change=picked,
    )


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """What the browser holds. It marks a click by itself: the same data is not sent to it again."""

    data: dict[str, Any]
    token: int
    version: str
    clicked: int | None = None


def _drawn(data: dict[str, Any], token: int) -> _Drawn:
    """What was drawn before where that shows `data` and `token`; else something new."""
    before = st.session_state.get(_DRAWN)
    if isinstance(before, _Drawn) and before.data == data:
        shown = before.token if before.clicked is None else before.clicked
        if shown == token:
            return before
    drawn = _Drawn(data=data, token=token, version=uuid4().hex)
    st.session_state[_DRAWN] = drawn
    return drawn


def _share(value: float) -> float | None:
    """The gate as a share of the bar, to three decimals; None where it is undefined."""
    return None if np.isnan(value) else round(min(max(float(value), 0.0), 1.0), 3)


@cache
def _ink(paper: str, gate: str, share: float) -> str:
    return text_on(mix(paper, gate, share))
