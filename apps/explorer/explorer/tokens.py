"""Tokens: where the gates open in a text, what was looked up there, what it does to the prediction."""

import numpy as np
import streamlit as st

from engram_interp.results import LensTable
from engram_interp.views import lens_rows, memory_tables, strips
from engram_interp.views.markup import Html, element
from explorer import (
    bar,
    buttons,
    earlier,
    export,
    gates_here,
    opening,
    readings,
    selection,
    states,
    style,
    switch_off,
)
from explorer.live import live
from explorer.scene import Prompt, Scene

WINDOW = 24


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    found = opening.opened()
    if found is None:
        return
    prompt, present = found
    token = selection.current().token
    left, right = st.columns([0.44, 0.56], gap="medium")
    with left:
        _slots(scene, prompt, present, token=token)
        gates_here.show(scene, prompt, present, token=token)
    with right:
        switch_off.show(scene, prompt, present, token=token)
    _lens(scene, prompt, present, token=token)
    _onward()


def _onward() -> None:
    """The questions that come next, with what is chosen here."""
    with st.container(horizontal=True, gap="large", key="onward"):
        for page, label in (
            ("memory", "Which rows, who shares them, what do they promote?"),
            ("ablate", "Does it matter? Ablate here, and over all prompts"),
        ):
            st.page_link(st.session_state["pages"][page], label=label)


def _slots(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """What the token read from each memory layer."""
    style.html(element("h2", "What was read here", class_="engram-title"))
    if isinstance(present.slots, states.State):
        states.show(present.slots)
        readings.offer_live(prompt, key="slots")
        return
    reads = memory_tables.reads_table(present.slots.data, token=token)
    style.html(reads)
    earlier.also(earlier.READING, lambda: style.html(reads))
    states.say(
        "A share is the exact part of the value vector that an n-gram’s rows give, not of what it changes in "
        "the prediction."
    )
    bundle = None if present.live else scene.bundle
    code = export.ran(live().source, "slots", f"lookup(model, {prompt.text!r})")
    export.tools(
        present.slots,
        bundle=bundle,
        part=f"slots:{prompt.name}",
        call="",
        views=[f"memory_tables.reads_table(result.data, token={token})"],
        code=code,
        said=present.slots.said_of(token),
        rows={"token": [token]},
        parts=lambda: [reads],
    )


def _row_of(layer: int, lens: LensTable) -> str:
    """The row of a layer in the table, whose last layer is on top; none where it is not among them."""
    layers = lens.data["layer"].values.tolist()
    place = len(layers) - layers.index(layer) if layer in layers else 0
    return f"#lens-window .lens tbody tr:nth-child({place})"


def _lens(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """What each layer would predict, in a window around the token."""
    style.html(element("h2", "What each layer would predict (raw logit lens)", class_="engram-title"))
    if isinstance(present.lens, states.State):
        states.show(present.lens)
        readings.offer_live(prompt, key="lens")
        return
    length = len(present.tokens)
    start = 0 if length <= WINDOW else int(np.clip(token - WINDOW // 2, 0, length - WINDOW))
    column = f"#lens-window .lens :is(td, th):nth-child({token - start + 2})"
    row = _row_of(selection.current().layer, present.lens)
    mark = Html(
        f"{row}{{outline:2px solid var(--null);outline-offset:-1px}}"
        f"{column}{{box-shadow:inset 2px 0 var(--engram),inset -2px 0 var(--engram)}}"
    )
    stop = min(length, start + WINDOW)
    table = strips.lens_window(present.lens.data, start=start, stop=stop)
    style.html(element("style", mark), element("div", table, id="lens-window"))
    buttons.in_sight(token - start + 2, of="lens-window")
    earlier.also(earlier.READING, lambda: style.html(table))
    if length > WINDOW:
        states.say(f"The window follows the chosen token {token}.")
    there = lens_rows.lens_at_token(present.lens.data, token=token)
    style.html(there)
    bundle = None if present.live else scene.bundle
    code = export.ran(live().source, "lens", f"table(model, {prompt.text!r})")
    export.tools(
        present.lens,
        bundle=bundle,
        part=f"lens-table:{prompt.name}",
        call="",
        views=[
            f"strips.lens_window(result.data, start={start}, stop={stop})",
            f"lens_rows.lens_at_token(result.data, token={token})",
        ],
        code=code,
        said=present.lens.said_of(token),
        rows={"token": range(start, stop)},
        parts=lambda: [table, there],
    )
