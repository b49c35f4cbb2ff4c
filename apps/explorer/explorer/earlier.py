"""What a panel showed before, greyed and named, while what takes its place is computed."""

from collections.abc import Callable
from dataclasses import dataclass, field

import streamlit as st

from explorer import states

READING = "reading"
"""The panel of the text itself: what stands on the page about one prompt."""
_KEY = "what panels showed"
Draw = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What it is of, and how to draw it again without anything to click."""

    of: str
    draws: list[Draw] = field(default_factory=list)


def keep(panel: str, *, of: str, draw: Draw) -> None:
    """Remember what a panel shows now; `of` names the text and the run that it belongs to."""
    _kept()[panel] = _Shown(of=of, draws=[draw])


def also(panel: str, draw: Draw) -> None:
    """Remember one more piece of what a panel shows now."""
    if panel in _kept():
        _kept()[panel].draws.append(draw)


def show(panel: str) -> None:
    """Draw what the panel showed last, if anything, greyed under a line that says of what it is."""
    found = _kept().get(panel)
    if found is None:
        return
    states.say(f"Greyed, from the previous run: {found.of}. It is not what is being computed now.")
    with st.container(key=f"earlier {panel}"):
        for draw in found.draws:
            draw()


def _kept() -> dict[str, _Shown]:
    found: dict[str, _Shown] = st.session_state.setdefault(_KEY, {})
    return found
