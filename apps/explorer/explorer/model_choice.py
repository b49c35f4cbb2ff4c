"""The model that runs texts: which it is, whether it is loaded, and how another takes its place."""

import streamlit as st

from engram_interp.errors import InputError
from engram_interp.views.markup import element
from explorer import opener, states, style
from explorer.live import Live, choose_model, chosen_model, live, model_at, preload, unasked
from explorer.waiting import result_of, take_up
from explorer.worker import StoppedError

_PATH = "path of a model"
_WRONG = "path that opened no model"
_ASKED = "model that is asked for"
_BEFORE = "model before it"


def show() -> None:
    """What runs typed texts, a button that loads it ahead, a field for another."""
    style.html(element("h2", "Live model", class_="engram-title"))
    asked = st.session_state.get(_ASKED)
    if isinstance(asked, Live) and asked.held.told:
        del st.session_state[_ASKED]
    elif isinstance(asked, Live):
        _await(asked)
    _present(live())
    if not opener.is_local():
        return
    opener.field(_PATH, "Another model directory, for typed texts", "Load", hint="runs/mine", take=_open)
    wrong = st.session_state.pop(_WRONG, None)
    if wrong is not None:
        opener.no_such("model", *wrong, todo="Give a folder that holds config.json and the weights.")


def _present(model: Live) -> None:
    """The model, and the way back to the one that the open bundle or the command line names."""
    loaded = (
        f"{model.name}, loaded: {model.held.told}." if model.held.told else f"{model.name}, not loaded yet."
    )
    said = f"None: {model.missing}" if model.missing else f"{loaded} It runs what is typed or picked."
    line = st.container(horizontal=True, vertical_alignment="center", gap="small", key="live model")
    if not model.missing and not model.held.told and _ASKED not in st.session_state:
        line.button("Load now", key="load model", on_click=_ask, args=(model,))
    if chosen_model() is not None:
        line.button(f"Back to {unasked().name}", key="own model", on_click=choose_model, args=(None,))
    with line:
        states.say(said)


def _ask(model: Live) -> None:
    """Load a model, also where that failed or was stopped before, or where it was let go of since."""
    job = preload(model)
    take_up(job)
    if job.future.done() and not model.held.told:
        model.worker.drop(job)
    st.session_state[_ASKED] = model


def _open() -> None:
    text = opener.typed(_PATH)
    if not text:
        return
    try:
        path = opener.whole(text)
        model = model_at(path, anew=True) if (path / "config.json").is_file() else None
    except (OSError, RuntimeError, ValueError):
        model = None
    if model is None:
        st.session_state[_WRONG] = (text, opener.reason(text))
        return
    st.session_state[_PATH] = ""
    st.session_state[_BEFORE] = chosen_model()
    choose_model(model)  # at once: a reader who goes on to Tokens means this one
    _ask(model)


def _await(asked: Live) -> None:
    """Load a model, its progress in sight; in place of one that cannot be read the one before runs texts."""
    job = preload(asked)
    result_of(job, what=f"Loading {asked.name}", panel="load a model", todo="Give another model.")
    if not job.future.done() or job.future.cancelled():
        return
    error = job.future.exception()
    if isinstance(error, InputError) and not isinstance(error, StoppedError):
        if chosen_model() is asked:
            choose_model(st.session_state.get(_BEFORE))
        del st.session_state[_ASKED]
    elif error is None:
        del st.session_state[_ASKED]  # after all else a button asks for it again
