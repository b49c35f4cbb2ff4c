"""The model that runs texts: which it is, whether it is loaded, and how another takes its place."""

import streamlit as st

from engram_interp.errors import InputError
from engram_interp.views.markup import element
from explorer import opener, states, style
from explorer.live import Live, choose_model, is_chosen, live, model_at, preload
from explorer.waiting import result_of, take_up

_PATH = "path of a model"
_WRONG = "path that opened no model"
_ASKED = "model that is asked for"


def show() -> None:
    """What runs typed texts, a button that loads it ahead, a field for another."""
    style.html(element("h2", "Live model", class_="engram-title"))
    asked = st.session_state.get(_ASKED)
    if isinstance(asked, Live):
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
    if is_chosen():
        line.button("Back to the bundle’s own model", key="own model", on_click=choose_model, args=(None,))
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
        is_model = (path / "config.json").is_file()
    except (OSError, RuntimeError, ValueError) as error:
        st.session_state[_WRONG] = (text, opener.reason(text, error))
        return
    if not is_model:
        st.session_state[_WRONG] = (text, opener.reason(text))
        return
    st.session_state[_PATH] = ""
    model = model_at(path)
    choose_model(model)  # at once: a reader who goes on to Tokens means this one
    _ask(model)


def _await(asked: Live) -> None:
    """Load a model, its progress in sight; one that cannot be read is not kept."""
    job = preload(asked)
    result_of(job, what=f"Loading {asked.name}", panel="load a model", todo="Give another model.")
    if not job.future.done() or job.stop or job.future.cancelled():
        return
    if isinstance(job.future.exception(), InputError) and live() is asked:
        choose_model(None)
    del st.session_state[_ASKED]
