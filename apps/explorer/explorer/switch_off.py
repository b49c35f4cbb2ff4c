"""Switching the memory off at one token, beside two controls, and watching the predictions move."""

import streamlit as st

from engram_interp.results import AblationComparison
from engram_interp.views import tables
from engram_interp.views.markup import element
from explorer import export, predictions, readings, states, style
from explorer.live import KINDS, Kind, live
from explorer.scene import Prompt
from explorer.waiting import result_of

CHOICES = {"on": "on", **KINDS}
_DRAW = "draw of the controls"


def show(prompt: Prompt, present: readings.Present, *, token: int, orders: list[int]) -> None:
    """The switches, and what they do to the prediction after `token`."""
    st.html(element("h2", "Switch the memory off", class_="engram-title"))
    if live().missing or not prompt.text:
        states.show(
            states.State(
                what="Nothing can be switched off here.",
                why=live().missing or "The bundle does not hold the text of this prompt.",
                todo="Pick a prompt whose text is known, or type one above.",
            )
        )
        return
    if present.model not in {"", live().name}:
        states.say(f"These results are of {present.model}; the switches run {live().name}.")
    switches = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="switches")
    kind = switches.segmented_control(
        "Memory",
        list(CHOICES),
        default="on",
        required=True,
        format_func=CHOICES.__getitem__,
        key="switch",
        persist_state="session",
    )
    everywhere = switches.segmented_control(
        "Where",
        ["here", "everywhere"],
        default="here",
        required=True,
        format_func=_where(token).__getitem__,
        key="where",
        persist_state="session",
    )
    by_order = kind == "rows_zero" and len(orders) > 1
    chosen = orders
    if by_order:
        chosen = switches.pills(
            "n-grams",
            orders,
            default=orders,
            selection_mode="multi",
            format_func=lambda n: f"{n}-grams",
            key="orders",
            persist_state="session",
        )
    if kind == "on":
        states.say(
            "The memory is on. Choose “rows → 0”, “gate → 0” or “output off” to see what the prediction "
            f"after token {token} loses; two controls of the same size run beside it."
        )
        _before(present, token)
        return
    if by_order and not chosen:
        states.say("No n-grams are switched off; choose at least one order.")
        return
    job = live().compare(
        prompt.text,
        kind=_kind(str(kind)),
        token=token,
        orders=sorted(chosen) if by_order and set(chosen) != set(orders) else None,
        everywhere=everywhere == "everywhere",
        seed=int(st.session_state.get(_DRAW, 0)),
    )
    found = result_of(job, what="Switching off")
    if found is not None:
        _compared(found)


def _where(token: int) -> dict[str, str]:
    return {"here": f"at token {token}", "everywhere": "at every token"}


def _kind(name: str) -> Kind:
    found: dict[str, Kind] = {"rows_zero": "rows_zero", "gate_zero": "gate_zero", "output_off": "output_off"}
    return found[name]


def _before(present: readings.Present, token: int) -> None:
    """What the model predicts with its memory on, from the lens at the last layer."""
    if isinstance(present.lens, states.State):
        return
    style.html(predictions.intact(present.lens.data, token=token))


def _compared(found: AblationComparison) -> None:
    style.html(predictions.columns(found.data))
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Draw the controls again", type="tertiary", key="redraw"):
            st.session_state[_DRAW] = int(st.session_state.get(_DRAW, 0)) + 1
            st.rerun()
        export.tools(found, bundle=None, part="switch-off", call="plot()")
    with st.expander("Every number, and the effect by token"):
        style.html(tables.prediction_table(found.data))
        style.figure(found.plot(theme=style.theme()), key="effect by token", alt=found.summary())
        states.say(found.summary())
