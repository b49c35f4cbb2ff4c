"""What can be opened: the bundles here, one elsewhere by its path, and the model that runs texts."""

from pathlib import Path

import streamlit as st

from engram_interp.results import Bundle
from engram_interp.views.markup import element
from explorer import selection, settings, shelf, states, style
from explorer.live import Live, choose_model, live, model_at, preload
from explorer.waiting import result_of

SHOWN = 6
_LOCAL = ("localhost", "127.0.0.1", "::1")
_BUNDLE, _MODEL = "path of a bundle", "path of a model"
_WRONG = "path that could not be opened"
_LOAD = "model to load"


def show(open_now: Bundle) -> None:
    """The bundles with their sizes, then a field for others, then the live model."""
    style.html(element("h2", "Open results", class_="engram-title"))
    _bundles(open_now)
    if st.get_option("server.address") not in _LOCAL:
        states.say("Paths are off: other machines reach this server. Name bundles on its command line.")
    else:
        _field(_BUNDLE, "Another bundle, or a folder that holds some", "Open", hint="runs/mine.engram")
        _said_wrong(_BUNDLE)
    _model()


def _bundles(open_now: Bundle) -> None:
    """A button for each bundle; where there are many, the open one first and the rest in a fold."""
    names = list(shelf.shelf().bundles)
    if len(names) > SHOWN:
        names.sort(key=lambda name: name != open_now.name)
    with st.container(key="shelf"):
        _buttons(names[:SHOWN], open_now)
    if len(names) <= SHOWN:
        return
    fold = settings.fold(f"{len(names) - SHOWN} more bundles", key="more bundles")
    if fold.open:
        with fold, st.container(key="shelf more"):
            _buttons(names[SHOWN:], open_now)


def _buttons(names: list[str], open_now: Bundle) -> None:
    places = shelf.shelf().bundles
    for start in range(0, len(names), 2):
        for cell, name in zip(st.columns(2, gap="small"), names[start : start + 2], strict=False):
            is_open = name == open_now.name
            cell.button(
                f"{style.plain(name)} · {'open' if is_open else shelf.size(places[name])}",
                key=f"open {name}",
                disabled=is_open,
                help=f"{places[name]}, {shelf.size(places[name])}",
                on_click=selection.choose,
                kwargs={"bundle": name},
                width="stretch",
            )


def _field(key: str, label: str, action: str, *, hint: str) -> None:
    """A field for a path, and the button that takes it; Enter does the same."""
    line = st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"line {key}")
    take = {_BUNDLE: _open_bundle, _MODEL: _open_model}[key]
    line.text_input(label, key=key, placeholder=hint, max_chars=4096, on_change=take)
    line.button(action, key=f"take {key}", on_click=take)


def _typed(key: str) -> Path | None:
    """The path in a field; None where it is empty."""
    text = str(st.session_state[key]).strip().strip("\"'")
    return Path(text).expanduser() if text and "\0" not in text else None


def _open_bundle() -> None:
    path = _typed(_BUNDLE)
    if path is None:
        return
    name = shelf.add(path.resolve())
    if name:
        st.session_state[_BUNDLE] = ""
        selection.choose(bundle=name)
    else:
        st.session_state[_WRONG] = (_BUNDLE, path)


def _open_model() -> None:
    path = _typed(_MODEL)
    if path is None:
        return
    if (path / "config.json").is_file():
        st.session_state[_MODEL] = ""
        st.session_state[_LOAD] = model_at(path.resolve())
    else:
        st.session_state[_WRONG] = (_MODEL, path)


def _said_wrong(key: str) -> None:
    """Why the path that was typed last opens nothing."""
    kind, path = st.session_state.get(_WRONG, ("", Path()))
    if kind != key:
        return
    del st.session_state[_WRONG]
    why = "It is a file." if path.is_file() else "It is a folder." if path.is_dir() else "Nothing is there."
    wanted = {
        _BUNDLE: ("There is no bundle", "Give a folder NAME.engram, or one that holds such folders."),
        _MODEL: ("There is no model", "Give a folder that holds config.json and the weights."),
    }[key]
    states.show(states.State(what=f"{wanted[0]} at {path}.", why=why, todo=wanted[1], tone="error"))


def _model() -> None:
    """Which model runs typed texts, whether it is loaded, and a way to load it or another one."""
    style.html(element("h2", "Live model", class_="engram-title"))
    asked = st.session_state.get(_LOAD)
    if isinstance(asked, Live):
        _await(asked)
    model = live()
    loaded = model.worker.finished((model.key, "load"))
    if model.missing:
        states.say(f"None: {model.missing}")
    elif isinstance(loaded, str):
        states.say(f"{model.name}, loaded: {loaded}. It runs what is typed on Tokens, Memory and Ablate.")
    elif asked is None:
        line = st.container(horizontal=True, vertical_alignment="center", gap="small", key="live model")
        line.button("Load now", key="load model", on_click=st.session_state.update, args=({_LOAD: model},))
        with line:
            states.say(f"{model.name} is loaded when a text is run, or now.")
    if st.get_option("server.address") in _LOCAL:
        _field(_MODEL, "Another model directory, for typed texts", "Load", hint="runs/mine")
        _said_wrong(_MODEL)


def _await(asked: Live) -> None:
    """Load a model, its progress in sight; it is this visitor's once it is there, and not where it fails."""
    job = preload(asked)
    found = result_of(job, what=f"Loading {asked.name}", panel="load a model", todo="Give another model.")
    if not job.future.done():
        return
    del st.session_state[_LOAD]
    if found is not None:
        choose_model(asked)
        st.rerun()
