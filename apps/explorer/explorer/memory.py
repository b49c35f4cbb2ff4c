"""Memory: which rows a token read, who shares them, what they promote, and what edits of them do."""

from collections.abc import Mapping

import streamlit as st

from engram_interp.results import EditReport, Result, SlotLoad, SlotLookup
from engram_interp.views import tables
from engram_interp.views.edits import Show
from engram_interp.views.markup import element
from explorer import (
    attribution,
    bar,
    contexts,
    earlier,
    export,
    neighbours,
    opening,
    over_all,
    readings,
    selection,
    settings,
    shelf,
    states,
    style,
)
from explorer.live import live
from explorer.scene import Prompt, Scene

EDITS: Mapping[Show, str] = {"success": "what the edits achieve", "collateral": "what they do elsewhere"}


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    found = opening.opened()
    if found is not None:
        prompt, present = found
        _one_token(scene, prompt, present, token=selection.current().token)
    _load(scene)
    if found is not None:
        fold = settings.fold("The gates over all prompts: nulls, tests, strata", key="gates")
        if fold.open:
            with fold:
                over_all.gates(scene.bundle, *found, token=selection.current().token)
    _edits(scene)


def _one_token(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """The rows that one token read at one layer, then what they do and who shares the chosen one."""
    if isinstance(present.slots, states.State):
        states.show(present.slots)
        readings.offer_live(prompt, key="memory")
        return
    layers = [int(layer) for layer in present.slots.data["layer"].values]
    wanted = selection.current().layer
    layer = min(layers, key=lambda one: abs(one - wanted))
    if layer != wanted:
        states.say(f"Layer {wanted} reads no memory; layer {layer}, the nearest that does, is shown.")
    if not live().missing and prompt.text:
        settings.toggled(st.container(), f"Compute what is missing with {live().name}", settings.LIVE)
        if present.model not in {"", live().name}:
            states.say(f"The results above are of {present.model}; what is computed is of {live().name}.")
    left, right = st.columns([0.52, 0.48], gap="medium")
    with left:
        _table(scene, prompt, present.slots, ran=present.live, token=token, layer=layer)
    with right:
        found = _neighbours(scene, prompt, present.slots, token=token, layer=layer)
    left, right = st.columns([0.52, 0.48], gap="medium")
    with left:
        attribution.parts(scene, prompt, present, token=token)
    with right:
        attribution.promotion(scene, prompt, present, token=token, layer=layer)
    if found is not None:
        neighbours.colliders(scene, found, layer=layer)
    order = int(settings.SLOT.value.partition(".")[0])  # of the row that is chosen above
    contexts.show(scene, present.slots, token=token, layer=layer, order=order)


def _table(scene: Scene, prompt: Prompt, slots: SlotLookup, *, ran: bool, token: int, layer: int) -> None:
    """The rows one token read, from the bundle or from a run of the model."""
    style.html(element("h2", "Which rows were read", class_="engram-title"))
    without = '.drop_vars("count")' if "count" in slots.data else ""  # of n-grams, on the page before
    rows = slots.data.drop_vars("count", errors="ignore")
    by, orders = _shown(sorted({int(order) for order in rows["order"].values}))
    table = tables.slot_table(rows, token=token, layer=layer, by=by, orders=orders)
    style.html(table)
    earlier.also(earlier.READING, lambda: style.html(table))
    states.say(
        "A share is the exact part of the value vector that a row gives, not of what it changes in the "
        "prediction: that stands below. The canonical n-gram is what is hashed. Hits: how often "
        "training read the row, whichever n-gram led to it."
    )
    export.tools(
        slots,
        bundle=None if ran else scene.bundle,
        part=f"slots:{prompt.name}",
        call="",
        views=[
            f"tables.slot_table(result.data{without}, token={token}, layer={layer}, by={by!r}, "
            f"orders={orders})"
        ],
        code=export.ran(live().source, "slots", f"lookup(model, {prompt.text!r})"),
        parts=lambda: [table],
        said=slots.said_of(token),
        rows={"token": [token], "layer": [layer], "column": _columns(slots, orders), "order_index": orders},
    )


def _columns(slots: SlotLookup, orders: list[int]) -> list[int]:
    """The columns of n-grams of these lengths."""
    there = zip(slots.data["column"].values, slots.data["order"].values, strict=True)
    return [int(column) for column, order in there if int(order) in orders]


def _shown(orders: list[int]) -> tuple[tables.SlotOrder, list[int]]:
    """How the rows are sorted, and of which n-grams they are."""
    controls = st.container(horizontal=True, gap="medium", key="row controls")
    lengths = ["all", *map(str, orders)]
    if settings.LENGTH.value not in lengths:
        selection.note(f"There are no n-grams of “{settings.LENGTH.value}” tokens here; all are shown.")
        settings.LENGTH.put("all")
    said = {"all": "all", **{str(order): f"{order}-grams" for order in orders}}
    if len(orders) > 1:
        settings.segmented(controls, "Rows of", settings.LENGTH, say=said.__getitem__, options=lengths)
    settings.segmented(controls, "Sorted by", settings.SORT)
    return settings.SORTED[settings.SORT.value], [
        order for order in orders if settings.LENGTH.value in {"all", str(order)}
    ]


def _neighbours(
    scene: Scene, prompt: Prompt, slots: SlotLookup, *, token: int, layer: int
) -> neighbours.Found | None:
    """One of the rows that were read, and who else lives there."""
    columns = neighbours.columns(slots, token=token, layer=layer)
    style.html(element("h2", "Who else reads these rows", class_="engram-title"))
    chosen = settings.picked(st.container(width=420), "Row", settings.SLOT, columns, said="row")
    column = list(columns).index(chosen)
    found = neighbours.find(scene, slots, token=token, layer=layer, column=column)
    if found is not None:
        neighbours.occupants(scene, found)
    elif neighbours.other_model(slots):
        readings.offer_live(prompt, key="neighbours")
    return found


def _load(scene: Scene) -> None:
    """How full the tables are, where the bundle holds that."""
    if "slot-load" not in scene.bundle:
        return
    style.html(element("h2", "How full are the tables?", class_="engram-title"))
    load = shelf.part(scene.bundle, "slot-load", what="load of the tables")
    if isinstance(load, states.State):
        states.show(load)
    elif isinstance(load, SlotLoad):
        neighbours.load(load, layer=selection.current().layer, key="bundle", bundle=scene.bundle)


def _edits(scene: Scene) -> None:
    """Edits of the memory that the bundle holds, each beside a random change of the same rows."""
    names = [name for name in scene.bundle if scene.bundle.kind(name) == EditReport.kind]
    if not names:
        return
    style.html(element("h2", "Edits of the memory", class_="engram-title"))
    for name in names:
        found: Result | states.State = shelf.part(scene.bundle, name, what=f"edits “{name}”")
        if isinstance(found, states.State):
            states.show(found)
        elif isinstance(found, EditReport):
            states.say(found.summary())
            for cell, show in zip(st.columns(2, gap="medium"), EDITS, strict=True):
                with cell:
                    _edit(scene, found, name=name, show=show)


def _edit(scene: Scene, found: EditReport, *, name: str, show: Show) -> None:
    """One figure of a report on edits, and what takes it away."""
    key = f"edits {name} {show}"
    style.figure(found.plot(theme=style.theme(), show=show), key=key, alt=f"Edits “{name}”: {EDITS[show]}")
    export.tools(
        found,
        bundle=scene.bundle,
        part=name,
        call=f'plot(show="{show}")',
        figure=lambda: found.plot(show=show),
        drawn=key,
    )
