"""What a page shows where it has no numbers: what happened, why, and what to do."""

from dataclasses import dataclass
from typing import Literal

import streamlit as st

from engram_interp.views.markup import element, join
from engram_interp.views.tokens import unhidden
from explorer import style


@dataclass(frozen=True, kw_only=True)
class State:
    """Three lines, and where it helps a command to copy."""

    what: str
    why: str
    todo: str
    command: str = ""
    tone: Literal["note", "error"] = "note"


def show(state: State) -> None:
    """Draw the state."""
    lines = join(
        [
            element("strong", unhidden(state.what)),
            element("span", unhidden(state.why)),
            element("span", unhidden(state.todo), class_="todo"),
        ]
    )
    role = "alert" if state.tone == "error" else "note"
    style.html(element("div", lines, class_=f"engram-state {state.tone}", role=role))
    if state.command:
        st.code(state.command, language=None, wrap_lines=True)


def surprise(error: Exception) -> State:
    """The state of a page that failed in a way that nobody foresaw."""
    return State(
        what="This page failed.",
        why=f"{type(error).__name__}: {error}. This is a defect of the tool; its log has the details.",
        todo="The other pages work, and so do other bundles. Please report the log and this page's address.",
        tone="error",
    )


def say(*lines: str) -> None:
    """Muted lines, one below the other."""
    style.html(join(element("p", unhidden(line), class_="engram-line") for line in lines))
