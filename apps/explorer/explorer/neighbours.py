"""Who shares a row of the memory: occupants, colliders, and how full the tables are."""

import streamlit as st

from engram_interp.results import SlotLoad, SlotLookup
from explorer import export, settings, states, style
from explorer.live import live
from explorer.scene import Scene
from explorer.waiting import result_of


def show(scene: Scene, slots: SlotLookup, *, token: int, layer: int, column: int) -> None:
    """The n-grams of the bundle's prompts that live in a row, and those that collide with the one read."""
    texts = [one.text for one in scene.prompts.values() if one.text and not one.typed]
    if live().missing or not texts:
        why = live().missing or "The bundle holds no texts to look through."
        todo = "Open a bundle with prompts, or index a text of your own and ask it:"
        command = "engram-interp index MODEL --text FILE --out DIR"
        states.show(states.State(what="Not known here.", why=why, todo=todo, command=command))
        return
    if settings.LIVE.value != "on":
        states.show(
            states.State(
                what="Who shares the row is not in this bundle.",
                why=f"It takes an index of its {len(texts)} prompts under the hashes of {live().name}.",
                todo=f"Turn on “Compute what is missing with {live().name}” above.",
            )
        )
        return
    job = live().neighbours(texts, slots, token=token, layer=layer, column=column)
    found = result_of(job, what="Looking who shares the row")
    if found is None:
        return
    left, right = st.columns(2, gap="medium")
    with left:
        shown = found.occupants
        style.figure(shown.plot(theme=style.theme()), key="occupants", alt=shown.summary())
        states.say(shown.summary())
        export.tools(shown, bundle=None, part="occupants", call="plot()", drawn="occupants")
    with right:
        if found.colliders is None:
            states.say("The n-gram reaches back before the text, so its colliders are not looked for.")
        else:
            style.figure(found.colliders.plot(theme=style.theme()), key="colliders", alt="Colliders")
            states.say(found.colliders.summary())
            export.tools(found.colliders, bundle=None, part="colliders", call="plot()", drawn="colliders")
    states.say(
        f"Looked through: the {len(texts)} prompts of the bundle, a small text. In the text a model was "
        "trained on, rows are shared by many more n-grams (engram-interp index)."
    )
    if "slot-load" not in scene.bundle:
        fold = st.expander("How full the tables are of these prompts", key="live load", on_change="rerun")
        if fold.open:
            with fold:
                load(found.load, layer=layer, key="live")


def load(found: SlotLoad, *, layer: int, key: str) -> None:
    """Share of n-grams with company, by column, beside what even spreading gives."""
    layers = [int(one) for one in found.data["layer"].values]
    nearest = min(layers, key=lambda one: abs(one - layer))
    style.figure(found.plot(theme=style.theme(), layer=nearest), key=f"load {key}", alt=found.summary())
    states.say(found.summary())
