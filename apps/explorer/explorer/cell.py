"""The chosen cell of the similarity map: which layers, what the map says there, and where to go on."""

import streamlit as st

from engram_interp.results import DepthResult
from engram_interp.views.markup import element
from engram_interp.views.theme import DASH, number, signed
from explorer import selection, style
from explorer.scene import Scene

ALIGNMENTS = {"path": "monotone path", "peak": "peak", "soft": "soft index", "none": "none"}
SHIFT = {"path": ("path", "path_self", "path_shift"), "peak": ("peak", "peak_self", "peak_shift"),
         "soft": ("depth", "depth_self", "shift")}  # fmt: skip
_FEW = "has few layers to choose from here, so the headline leaves this layer out"
EDGE = {
    "path": f"the monotone path {_FEW}",
    "peak": f"the peak {_FEW}",
    "soft": "the soft index is biased here, even between identical models",
}


def show(scene: Scene, depth: DepthResult, *, measure: str) -> None:
    """The chosen cell: number fields as the way without a pointer, and what the map says there."""
    chosen = selection.current()
    st.html(element("h2", "Selected cell", class_="engram-title"))
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
    row = depth.data.sel(layer=chosen.layer)
    value, own, shift = SHIFT[measure]
    cka = float(row["cka"].sel(baseline_layer=chosen.baseline_layer))
    st.html(
        element(
            "div",
            _figure(
                number(cka), f"CKA of Engram layer {chosen.layer} with baseline layer {chosen.baseline_layer}"
            ),
            _figure(
                signed(float(row[shift]), digits=2),
                f"layers: shift of layer {chosen.layer} ({ALIGNMENTS[measure]})",
            ),
            class_="engram-numbers",
        )
    )
    low, high = float(row[f"{shift}_low"]), float(row[f"{shift}_high"])
    interval = f"{number(low, digits=2)} to {number(high, digits=2)}"
    lines = [
        f"Layer {chosen.layer} looks like baseline layer {number(float(row[value]), digits=2)}; "
        f"the self-reference lies at {number(float(row[own]), digits=2)}.",
        f"95 % interval over documents: {interval if DASH not in interval else _why(depth, f'{shift}_low')}.",
    ]
    if bool(row["pre_memory"]):
        lines.append(
            "This residual comes before the first memory read: an internal control, not evidence of depth."
        )
    if bool(row["edge"]):
        lines.append(f"An edge layer (hatched): {EDGE[measure]}.")
    style.html(*(element("p", line) for line in lines))
    reads = chosen.layer in scene.memory_layers
    link = (
        f"Gates in layer {chosen.layer}" if reads else f"Layer {chosen.layer} reads no memory; see the gates"
    )
    st.page_link(st.session_state["pages"]["tokens"], label=link)


def _figure(value: str, what: str) -> str:
    return element("div", element("b", value, class_="engram"), element("span", what), class_="engram-number")


def _why(depth: DepthResult, name: str) -> str:
    return f"none ({str(depth.data[name].attrs.get('missing', '')) or 'no reason recorded'})"


def _from_field(key: str, field: str) -> None:
    selection.choose(**{field: int(st.session_state[key])})
