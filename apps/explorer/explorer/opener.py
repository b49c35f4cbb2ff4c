"""What can be opened: the bundles here, and others by their path."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st

from engram_interp.views.markup import element
from explorer import selection, settings, shelf, states, style

SHOWN = 6
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PATH = "path of a bundle"
_WRONG = "path that opened no bundle"


def show() -> None:
    """The bundles with their sizes, then a field for others."""
    style.html(element("h2", "Open results", class_="engram-title"))
    _bundles()
    path_field()


def is_local() -> bool:
    """Whether this server listens to this machine alone: only then may a page open what a path names."""
    headers = st.context.headers
    forwarded = any(name in headers for name in ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded"))
    host = urlsplit(f"//{headers.get('Host') or 'localhost'}").hostname
    return st.get_option("server.address") in _LOCAL and host in _LOCAL and not forwarded


def path_field() -> None:
    """A field for the path of a bundle, or why there is none."""
    if not is_local():
        states.say("Paths are off: other machines reach this server. Name bundles on its command line.")
        return
    field(_PATH, "Another bundle, or a folder that holds some", "Open", hint="runs/mine.engram", take=_open)
    wrong = st.session_state.pop(_WRONG, None)
    if wrong is not None:
        no_such("bundle", *wrong, todo="Give a folder NAME.engram, or one that holds such folders.")


def field(key: str, label: str, action: str, *, hint: str, take: Callable[[], None]) -> None:
    """A field for a path, and the button that takes it; Enter does the same."""
    line = st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"line {key}")
    line.text_input(label, key=key, placeholder=hint, max_chars=4096, on_change=take)
    line.button(action, key=f"take {key}", on_click=take)


def typed(key: str) -> str:
    """What stands in a field, without the quotes that shells and file managers put around a path."""
    return str(st.session_state[key]).strip().strip("\"'")


def whole(text: str) -> Path:
    """The path that a text names.

    Raises:
        OSError: If it cannot be looked up.
        RuntimeError: If it begins with a user who has no home.
        ValueError: If it holds what no path can.
    """
    return Path(text).expanduser().resolve()


def no_such(what: str, path: str, why: str, *, todo: str) -> None:
    """Say that a path opens nothing."""
    states.show(states.State(what=f"There is no {what} at {path}.", why=why, todo=todo, tone="error"))


def reason(text: str) -> str:
    """Why a path opens nothing."""
    try:
        path = whole(text)
        if (path / "config.json").is_file():
            return "It is a model directory: give it as the live model."
        if path.is_dir():
            return "It holds bundles: open it as results." if shelf.holds_some(path) else "It is a folder."
        return "It is a file." if path.is_file() else "Nothing is there."
    except (OSError, RuntimeError, ValueError) as cause:
        return f"It cannot be looked up: {cause}."


def _open() -> None:
    text = typed(_PATH)
    if not text:
        return
    try:
        name = shelf.add(whole(text))
    except (OSError, RuntimeError, ValueError):
        name = ""
    if name:
        st.session_state[_PATH] = ""
        selection.choose(bundle=name)
    else:
        st.session_state[_WRONG] = (text, reason(text))


def _bundles() -> None:
    """A button for each bundle; where there are many, the open one first and the rest in a fold."""
    names = list(shelf.shelf().bundles)
    if len(names) > SHOWN:
        names.sort(key=lambda name: name != selection.current().bundle)
    with st.container(key="shelf"):
        _buttons(names[:SHOWN])
    if len(names) <= SHOWN:
        return
    fold = settings.fold(f"{len(names) - SHOWN} more bundles", key="more bundles")
    if fold.open:
        with fold, st.container(key="shelf more"):
            _buttons(names[SHOWN:])


def _buttons(names: list[str]) -> None:
    places = shelf.shelf().bundles
    for start in range(0, len(names), 2):
        for cell, name in zip(st.columns(2, gap="small"), names[start : start + 2], strict=False):
            is_open, size = name == selection.current().bundle, shelf.size(places[name])
            cell.button(
                f"{style.plain(name)} · {'open' if is_open else size}",
                key=f"open {name}",
                disabled=is_open,
                help=f"{style.plain(str(places[name]))}, {size}",
                on_click=selection.choose,
                kwargs={"bundle": name},
                width="stretch",
            )
