"""Tokens: where the gates open in a text, what was looked up there, what it does to the prediction."""

import numpy as np
import streamlit as st

from engram_interp.results import SlotLookup
from engram_interp.views import strips, tables
from engram_interp.views.markup import Html, element, join
from engram_interp.views.theme import number
from engram_interp.views.tokens import token_html
from explorer import (
    bar,
    export,
    over_all,
    readings,
    selection,
    states,
    strip,
    style,
    switch_off,
    typed,
)
from explorer.live import live
from explorer.scene import Prompt, Scene

WINDOW = 24


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    prompt = bar.prompts().get(selection.current().prompt)
    typed.ask(prompt)
    if prompt is None:
        states.show(
            states.State(
                what="No prompts in this bundle.",
                why=f"The bundle “{scene.bundle.name}” holds neither gates nor slots nor lens tables.",
                todo="Type a phrase above, or make a bundle that has them:",
                command=states.MAKE_BUNDLE,
            )
        )
        return
    present = readings.present(prompt)
    if present is None:
        return
    if isinstance(present, states.State):
        states.show(present)
        return
    if prompt.tokens != len(present.tokens) and prompt.typed:
        st.rerun()  # the bar above was drawn before the tokens were counted
    if present.cut is not None:
        states.show(present.cut)
    _strip(present)
    token = selection.current().token
    left, right = st.columns([0.44, 0.56], gap="medium")
    with left:
        _slots(scene, prompt, present, token=token)
    with right:
        switch_off.show(prompt, present, token=token, orders=_orders(present))
    _lens(scene, prompt, present, token=token)
    over_all.show(scene.bundle, present, token=token)


def _orders(present: readings.Present) -> list[int]:
    if isinstance(present.slots, SlotLookup):
        return [int(order) for order in present.slots.data["order_index"].values]
    return []


def _strip(present: readings.Present) -> None:
    """The text under its gates, and in words what stands at the chosen token."""
    if isinstance(present.gate, states.State):
        states.show(present.gate)
        return
    chosen = selection.current()
    rows = strip.rows(present.gate, stream=chosen.stream)
    ground = next((i for i, row in enumerate(rows) if row.layer == chosen.layer), 0)
    strip.show(
        present.tokens,
        rows,
        ground=ground,
        token=chosen.token,
        orders=_orders(present),
        pick=lambda token: selection.choose(token=token),
    )
    names = "; ".join(row.name for row in rows)
    legend = [
        element(
            "span", "gate 0 ", element("span", class_="scale"), " 1, fixed scale; the tick is 0.5, neutral"
        ),
        element("span", f"ground: {rows[ground].name}; bars from the top: {names}"),
        element("span", f"{len(present.tokens)} tokens, {present.origin}"),
    ]
    gates = ", ".join(f"{row.name} {number(float(row.values[chosen.token]))}" for row in rows)
    token = element("code", token_html(present.tokens[chosen.token]))
    said = element("p", f"Token {chosen.token} ", token, f" · gate: {gates}", _grams(present, chosen.token))
    style.html(element("div", said, class_="readout"), element("div", *legend, class_="legend"))


def _grams(present: readings.Present, token: int) -> Html:
    """The canonical n-grams that end at the token, longest last."""
    if not isinstance(present.slots, SlotLookup):
        return Html("")
    grams = present.slots.data["ngram"].sel(token=token)
    said: list[str] = [" · looked up:"]
    for order in grams["order_index"].values:
        said += [
            f" {int(order)}-gram ",
            element("code", token_html(str(grams.sel(order_index=order).item()))),
        ]
    return join(said)


def _slots(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """What the token read from each memory layer."""
    st.html(element("h2", "What the memory holds here", class_="engram-title"))
    if isinstance(present.slots, states.State):
        states.show(present.slots)
        _offer_live(prompt, key="slots")
        return
    layers = [int(layer) for layer in present.slots.data["layer"].values]
    wanted = selection.current().layer
    nearest = min(layers, key=lambda layer: abs(layer - wanted))
    key = "memory layer"
    st.session_state[key] = nearest
    if len(layers) > 1:
        st.segmented_control(
            "Memory layer",
            layers,
            key=key,
            required=True,
            format_func=lambda layer: f"layer {layer}",
            on_change=lambda: selection.choose(layer=int(st.session_state[key])),
            label_visibility="collapsed",
        )
    if nearest != wanted:
        states.say(f"Layer {wanted} reads no memory; layer {nearest}, the nearest that does, is shown.")
    style.html(tables.slot_table(present.slots.data, token=token, layer=nearest))
    states.say(
        "A share is the exact part of the value vector that a row gives, not of what it changes in the "
        "prediction. Hits: how often training read the row, whichever n-gram led to it."
    )
    bundle = None if present.live else scene.bundle
    export.tools(present.slots, bundle=bundle, part=f"slots:{prompt.name}", call="plot()")


def _offer_live(prompt: Prompt, *, key: str) -> None:
    """A button that runs a prompt of the bundle on the live model."""
    if prompt.text and not live().missing:
        st.button(f"Run it with {live().name}", key=f"run {key}", on_click=readings.run_live, args=(prompt,))


def _lens(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """What each layer would predict, in a window around the token."""
    st.html(element("h2", "What each layer would predict (raw logit lens)", class_="engram-title"))
    if isinstance(present.lens, states.State):
        states.show(present.lens)
        _offer_live(prompt, key="lens")
        return
    length = len(present.tokens)
    start = 0 if length <= WINDOW else int(np.clip(token - WINDOW // 2, 0, length - WINDOW))
    column = f"#lens-window .lens :is(td, th):nth-child({token - start + 2})"
    mark = Html(f"{column}{{box-shadow:inset 2px 0 var(--engram),inset -2px 0 var(--engram)}}")
    table = strips.lens_window(present.lens.data, start=start, stop=min(length, start + WINDOW))
    style.html(element("style", mark), element("div", table, id="lens-window"))
    if length > WINDOW:
        states.say(f"The window follows the chosen token {token}.")
    bundle = None if present.live else scene.bundle
    export.tools(present.lens, bundle=bundle, part=f"lens-table:{prompt.name}", call="plot()")
