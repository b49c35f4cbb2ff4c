"""Layers: which layers resemble each other, how far each is shifted, how early the answer is there."""

from typing import cast

import streamlit as st

from engram_interp.results import ConvergenceResult, DepthResult
from engram_interp.views import similarity, tables
from engram_interp.views.curves import QUANTITIES, Quantity
from engram_interp.views.markup import element
from engram_interp.views.theme import DASH, number, signed
from explorer import bar, export, picker, selection, shelf, states, style
from explorer.scene import Scene

ALIGNMENTS = {"path": "monotone path", "peak": "peak", "soft": "soft index", "none": "none"}
SHIFT = {"path": ("path", "path_self", "path_shift"), "peak": ("peak", "peak_self", "peak_shift"),
         "soft": ("depth", "depth_self", "shift")}  # fmt: skip
QUANTITY = {
    "kl": "KL to the final output",
    "entropy": "entropy",
    "next_loss": "next-token loss",
    "agreement": "agreement",
}


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    depth = shelf.part(scene.bundle, "depth", what="depth map")
    if isinstance(depth, states.State):
        states.show(depth)
    elif isinstance(depth, DepthResult):
        _depth(scene, depth)
    left, right = st.columns(2, gap="medium")
    with left:
        if isinstance(depth, DepthResult):
            _shift(scene, depth)
    with right:
        _lens(scene)


def _depth(scene: Scene, depth: DepthResult) -> None:
    left, right = st.columns([0.64, 0.36], gap="medium")
    with left:
        controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
        alignment = controls.segmented_control(
            "Alignment",
            list(ALIGNMENTS),
            default="path",
            required=True,
            format_func=ALIGNMENTS.__getitem__,
            key="alignment",
            persist_state="session",
        )
        shown = controls.toggle("Self-reference", value=True, key="self-reference", persist_state="session")
        chosen = selection.current()
        picker.draw(
            lambda: similarity.heat_map(
                depth.data,
                alignment=cast(similarity.Alignment, alignment),
                self_reference="shown" if shown else "hidden",
                theme=style.theme(),
            ),
            settings=(scene.bundle.name, str(alignment), str(shown), style.theme()),
            cell=(chosen.layer, chosen.baseline_layer),
            pick=lambda cell: selection.choose(layer=cell[0], baseline_layer=cell[1]),
            alt=depth.summary(),
        )
        export.tools(depth, bundle=scene.bundle, part="depth", call=f'plot(alignment="{alignment}")')
    with right:
        _cell(scene, depth, measure=str(alignment) if alignment in SHIFT else "path")


def _shift(scene: Scene, depth: DepthResult) -> None:
    """The shift of every layer with its interval, the control layers apart."""
    st.html(element("h2", "How far is each layer shifted?", class_="engram-title"))
    estimate = st.segmented_control(
        "Estimate",
        list(SHIFT),
        default="path",
        required=True,
        format_func=ALIGNMENTS.__getitem__,
        key="estimate",
        persist_state="session",
    )
    drawn = depth.plot(view="shift", alignment=cast(similarity.Alignment, estimate), theme=style.theme())
    alt = "Shift of every layer against the self-reference, with intervals and control layers"
    style.figure(drawn, key="shift", alt=alt)
    with st.expander("Numbers by layer"):
        style.html(tables.depth_table(depth.data))
    export.tools(depth, bundle=scene.bundle, part="depth", call=f'plot(view="shift", alignment="{estimate}")')


def _cell(scene: Scene, depth: DepthResult, *, measure: str) -> None:
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
        lines.append("An edge layer (hatched): the soft index is biased here, even between identical models.")
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


def _lens(scene: Scene) -> None:
    """How far each layer is from the final prediction, Engram beside baseline."""
    engram = shelf.part(scene.bundle, "lens-engram", what="lens curve of the Engram model")
    baseline = shelf.part(scene.bundle, "lens-baseline", what="lens curve of the baseline")
    st.html(element("h2", "How early is the answer there?", class_="engram-title"))
    if isinstance(engram, states.State):
        states.show(engram)
        return
    if not isinstance(engram, ConvergenceResult):
        return
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    quantity = controls.segmented_control(
        "Quantity",
        list(QUANTITIES),
        default="kl",
        required=True,
        format_func=QUANTITY.__getitem__,
        key="quantity",
        persist_state="session",
    )
    log = controls.toggle(
        "Log scale", key="log scale", persist_state="session", disabled=quantity == "agreement"
    )
    style.figure(
        engram.plot(
            baseline=baseline if isinstance(baseline, ConvergenceResult) else None,
            quantity=cast(Quantity, quantity),
            scale="log" if log and quantity != "agreement" else "linear",
            theme=style.theme(),
        ),
        key="lens curves",
        alt=engram.summary(),
    )
    states.say(engram.summary())
    if isinstance(baseline, states.State):
        states.show(baseline)
    elif isinstance(baseline, ConvergenceResult):
        states.say(baseline.summary())
    export.tools(engram, bundle=scene.bundle, part="lens-engram", call=f'plot(quantity="{quantity}")')
