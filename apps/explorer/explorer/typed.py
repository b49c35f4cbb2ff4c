"""A phrase of the reader's own: a field to type in, and phrases that the training text really holds."""

from typing import Any

import streamlit as st

from engram_interp import pairs
from engram_interp.errors import InputError
from explorer import selection, shared, states, waiting
from explorer.live import PAIR, live
from explorer.scene import Prompt, remember

EXAMPLES = 6
PHRASE = "The People's Republic of"
PHRASES = {"planted": "nax yod zor vel"}
"""A phrase to try, and by model another one where it knows no English."""
_FIELD = "typed text"
_SHOWN = "prompt in the field"
_PILLS = "example phrase"
_EMPTY = "typed nothing"


def ask(prompt: Prompt | None) -> None:
    """Draw the field and the examples; a text that is entered becomes the chosen prompt."""
    left, right = st.columns([0.4, 0.6], gap="medium")
    with left:
        _field(prompt)
    with right:
        _examples(prompt)
    if st.session_state.pop(_EMPTY, False):
        states.show(
            states.State(
                what="There is nothing to run.",
                why="The prompt is empty.",
                todo="Type at least one character that can be seen.",
            )
        )


def _field(prompt: Prompt | None) -> None:
    missing = live().missing
    shown = prompt.name if prompt is not None and prompt.typed else ""
    there = (shown, selection.page_now())  # another page has a field of its own, which begins empty
    if _FIELD not in st.session_state or st.session_state.get(_SHOWN) != there:
        # Only where another text is to be shown: set on every run it would undo what is being typed.
        st.session_state[_FIELD] = prompt.text if prompt is not None and shown else ""
        st.session_state[_SHOWN] = there
    line = st.container(horizontal=True, vertical_alignment="bottom", key="typed line")
    line.text_input(
        f"Type a phrase and press Enter: {live().name} runs it here",
        key=_FIELD,
        max_chars=shared.LONGEST,
        placeholder=f"for example: {PHRASES.get(live().name, PHRASE)}",
        on_change=_enter,
        disabled=bool(missing),
    )
    line.button("Run", key="run typed", on_click=_enter, args=(shown,), disabled=bool(missing))
    if missing:
        states.show(
            states.State(
                what="Live runs are off.",
                why=missing,
                todo="The prompts of the bundle are all here. To run your own text, name a model:",
                command="engram-interp explore --model PATH",
            )
        )


def _enter(shown: str = "") -> None:
    """Take what stands in the field; nothing where that is `shown` already."""
    text = str(st.session_state[_FIELD])
    if shown and shared.text_of(shown) == text:
        waiting.take_up(live().read(text))
    else:
        _take(text)


def _take(text: str) -> None:
    if not text.strip():
        st.session_state[_EMPTY] = True
        return
    selection.choose(prompt=remember(text).name, token=-1)


@st.cache_data(show_spinner=False)
def _phrases() -> list[dict[str, Any]]:
    try:
        return pairs.examples(PAIR)
    except (InputError, OSError, ValueError):
        return []


def _examples(prompt: Prompt | None) -> None:
    if live().name != f"{PAIR}/engram" or live().path is not None or live().missing:
        return
    found = {str(example["text"]): example for example in _phrases()[:EXAMPLES]}
    if not found:
        return
    shown = prompt.text if prompt is not None and prompt.typed else None
    st.session_state[_PILLS] = shown if shown in found else None
    st.pills(
        "Or take one that its training text holds: … what follows there, and how often",
        list(found),
        key=_PILLS,
        format_func=lambda text: _said(found[text]),
        on_change=lambda: _take(str(st.session_state[_PILLS] or shown or "")),
        wrap=True,
    )


def _said(example: dict[str, Any]) -> str:
    return f"{example['text']} … {example.get('next', '')} ·  {int(example['count'])}×"
