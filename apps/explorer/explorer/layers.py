"""Layers: the headline and whether the views agree; then similarity, shift and lens layer by layer."""

from typing import cast

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engram_interp.results import ConvergenceResult, DepthResult, wording
from engram_interp.views import headlines, marks, similarity, tables
from engram_interp.views.curves import Quantity
from engram_interp.views.markup import element
from engram_interp.views.theme import Theme
from explorer import (
    agreement,
    bar,
    cell,
    data_choice,
    export,
    headline,
    picker,
    selection,
    settings,
    shelf,
    states,
    style,
)
from explorer.scene import Scene

QUANTITY = {
    "kl": "KL to the final output",
    "entropy": "entropy",
    "next_loss": "next-token loss",
    "agreement": "agreement",
}
ABOUT_K = "How many of the most similar baseline layers the soft index weighs; the paper takes 5."


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    depth = shelf.part(scene.bundle, "depth", what="depth map")
    if isinstance(depth, states.State):
        states.show(depth)
    found = agreement.views_of(scene.bundle)
    if isinstance(depth, DepthResult):
        left, right = st.columns([0.44, 0.56], gap="medium")
        with left:
            headline.show(depth, bundle=scene.bundle, verdict=agreement.verdict(depth, found))
        with right:
            agreement.figure(scene.bundle, depth, found)
    agreement.folded(scene.bundle, found)
    if isinstance(depth, DepthResult):
        style.html(element("h2", "Layer by layer", class_="engram-title"))
        part, depth = data_choice.pick(scene.bundle, depth)
        _depth(scene, depth, part=part)
        left, right = st.columns(2, gap="medium")
        with left:
            _shift(scene, depth, part=part)
        with right:
            _lens(scene)
    else:
        _lens(scene)


def _depth(scene: Scene, depth: DepthResult, *, part: str) -> None:
    """The similarity map, and what it says of the chosen cell."""
    left, right = st.columns([0.64, 0.36], gap="medium")
    with left:
        controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
        alignment = settings.segmented(
            controls,
            "Alignment",
            settings.ALIGNMENT,
            say=cell.ALIGNMENTS.__getitem__,
            also=settings.ESTIMATE,
        )
        _set_k_right(depth)
        if alignment == "soft":
            depth = _at_k(depth, controls)
        shown = settings.toggled(
            controls, "Self-reference", settings.SELF_REFERENCE, disabled=alignment == "none"
        )
        chosen = selection.current()
        drawn = picker.draw(
            lambda: similarity.heat_map(
                depth.data,
                alignment=cast(similarity.Alignment, alignment),
                self_reference="shown" if shown else "hidden",
                theme=style.theme(),
            ),
            settings=(scene.bundle.name, part, str(alignment), str(shown), cell.at_k(depth), style.theme()),
            cell=(chosen.layer, chosen.baseline_layer),
            pick=lambda at: selection.choose(layer=at[0], baseline_layer=at[1]),
            missing=marks.reason(depth.data["cka"]),
            alt=depth.summary(),
        )
        hidden = "" if shown else ', self_reference="hidden"'
        export.tools(
            depth,
            bundle=scene.bundle,
            part=part,
            call=f'{cell.at_k(depth)}plot(alignment="{alignment}"{hidden})',
            figure=lambda: depth.plot(
                alignment=cast(similarity.Alignment, alignment),
                self_reference="shown" if shown else "hidden",
            ),
            drawn=drawn,
        )
    with right:
        cell.show(scene, depth, part=part, measure=str(alignment) if alignment in headlines.SHIFT else "path")


def _set_k_right(depth: DepthResult) -> None:
    """Take a link's k only where the map has it, also while nothing is shown that depends on it."""
    asked, made = settings.TOP_K.value, depth.data.attrs.get("top_k", 5)
    if asked and asked not in map(str, depth.ks):
        selection.note(
            f"k={asked} is none of {wording.listed(depth.ks)}, the k of this map; {made} is shown."
        )
    if asked not in {str(k) for k in depth.ks if k != made}:
        settings.TOP_K.put("")


def _at_k(depth: DepthResult, place: DeltaGenerator, *, drawn: bool = False) -> DepthResult:
    """The soft index at the k that is chosen; where the list is `drawn` already it is not drawn again."""
    made = depth.data.attrs.get("top_k", 5)
    ks = {"": f"{made} · as recorded"} | {str(k): str(k) for k in depth.ks if k != made}
    chosen = settings.TOP_K.value
    if not drawn and len(ks) > 1:
        chosen = settings.picked(place.container(width=170), "k", settings.TOP_K, ks, about=ABOUT_K)
    return depth.at_k(int(chosen)) if chosen and chosen in ks else depth


def _shift(scene: Scene, depth: DepthResult, *, part: str) -> None:
    """The shift of every layer with its interval, the control layers apart."""
    style.html(element("h2", "How far is each layer shifted?", class_="engram-title"))
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    estimate = settings.segmented(controls, "Estimate", settings.ESTIMATE, say=cell.ALIGNMENTS.__getitem__)
    if estimate == "soft":
        depth = _at_k(depth, controls, drawn=settings.ALIGNMENT.value == "soft")
    drawn = depth.plot(view="shift", alignment=cast(similarity.Alignment, estimate), theme=style.theme())
    alt = "Shift of every layer against the self-reference, with intervals and control layers"
    style.figure(drawn, key="shift", alt=alt)
    with settings.fold("Numbers by layer", key="layer numbers"):
        style.html(tables.depth_table(depth.data, estimate=estimate))
    export.tools(
        depth,
        bundle=scene.bundle,
        part=part,
        call=f'{cell.at_k(depth)}plot(view="shift", alignment="{estimate}")',
        views=[f"tables.depth_table(result.{cell.at_k(depth)}data, estimate={estimate!r})"],
        parts=lambda: [
            tables.depth_table(depth.data, estimate=estimate),
            depth.plot(view="shift", alignment=cast(similarity.Alignment, estimate)),
        ],
        drawn="shift",
    )


def _lens(scene: Scene) -> None:
    """How far each layer is from the final prediction, Engram beside baseline."""
    engram = shelf.part(scene.bundle, "lens-engram", what="lens curve of the Engram model")
    baseline = shelf.part(scene.bundle, "lens-baseline", what="lens curve of the baseline")
    style.html(element("h2", "How early is the answer there?", class_="engram-title"))
    if isinstance(engram, states.State):
        states.show(engram)
        return
    if not isinstance(engram, ConvergenceResult):
        return
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    quantity = settings.segmented(controls, "Quantity", settings.QUANTITY, say=QUANTITY.__getitem__)
    log = settings.toggled(controls, "Log scale", settings.LOG, disabled=quantity == "agreement")

    def curves(theme: Theme) -> go.Figure:
        return engram.plot(
            baseline=baseline if isinstance(baseline, ConvergenceResult) else None,
            quantity=cast(Quantity, quantity),
            scale="log" if log and quantity != "agreement" else "linear",
            theme=theme,
        )

    style.figure(curves(style.theme()), key="lens curves", alt=engram.summary())
    states.say(engram.summary())
    if isinstance(baseline, states.State):
        states.show(baseline)
    elif isinstance(baseline, ConvergenceResult):
        states.say(baseline.summary())
    other = 'baseline=bundle["lens-baseline"], ' if isinstance(baseline, ConvergenceResult) else ""
    scale = ', scale="log"' if log and quantity != "agreement" else ""
    export.tools(
        engram,
        bundle=scene.bundle,
        part="lens-engram",
        call=f'plot({other}quantity="{quantity}"{scale})',
        figure=lambda: curves("light"),
        drawn="lens curves",
    )
