"""The chosen cell of the similarity map: which layers, what the map says there, and where to go on."""

import streamlit as st

from engram_interp.results import DepthResult
from engram_interp.views import headlines
from engram_interp.views.markup import element
from explorer import export, selection, style
from explorer.scene import Scene

ALIGNMENTS = {**headlines.ALIGNMENTS, "none": "none"}


def show(scene: Scene, depth: DepthResult, *, part: str, measure: str) -> None:
    """The chosen cell: number fields as the way without a pointer, and what the map says there."""
    chosen = selection.current()
    style.html(element("h2", "Selected cell", class_="engram-title"))
    fields = st.columns(2)
    for cell, label, field, count in (
        (fields[0], "Engram layer", "layer", scene.layers),
        (fields[1], "Baseline layer", "baseline_layer", scene.baseline_layers),
    ):
        key = f"cell {field}"
        st.session_state[key] = getattr(chosen, field)
        cell.number_input(
            label, 0, max(count - 1, 1), step=1, key=key, on_change=_from_field, args=(key, field)
        )
    layer, baseline_layer = chosen.layer, chosen.baseline_layer
    shown = headlines.cell(depth.data, layer=layer, baseline_layer=baseline_layer, alignment=measure)
    style.html(shown)
    place = f"layer={layer}, baseline_layer={baseline_layer}, alignment={measure!r}"
    export.tools(
        depth,
        bundle=scene.bundle,
        part=part,
        call="",
        views=[f"headlines.cell(result.{at_k(depth)}data, {place})"],
        parts=lambda: [shown],
        rows={"layer": [layer], "baseline_layer": [baseline_layer]},
    )
    with st.container(key="onward", gap=None):
        for label in _links(layer, reads=layer in scene.memory_layers):
            st.page_link(st.session_state["pages"]["tokens"], label=label)


def _links(layer: int, *, reads: bool) -> list[str]:
    """What Tokens shows of the layer that is chosen here."""
    gates = f"Gates in layer {layer}" if reads else f"Layer {layer} reads no memory; see the gates"
    return [gates, f"Lens at layer {layer}, token by token"]


def at_k(depth: DepthResult) -> str:
    """The call that gives the soft index at the k it is shown at; empty where it was made with that k."""
    return f"at_k({depth.data.attrs['top_k']})." if "headline_top_k" in depth.data.attrs else ""


def _from_field(key: str, field: str) -> None:
    selection.choose(**{field: int(st.session_state[key])})
