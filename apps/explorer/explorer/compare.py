"""Compare: two bundles side by side on the same scales, each beside its own controls."""

from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.results import (
    AblationEffect,
    Bundle,
    ConvergenceResult,
    DepthResult,
    Result,
)
from engram_interp.views import comparing, differences
from engram_interp.views.markup import Html, element
from explorer import bar, compared_gates, export, selection, settings, shelf, states, style
from explorer.compared_gates import code, if_there
from explorer.scene import Scene, model_of, scene_of

NUMBERS: Mapping[type[Result], Callable[[Mapping[str, xr.Dataset]], Html]] = {
    DepthResult: comparing.depth_numbers,
    AblationEffect: comparing.effect_numbers,
    ConvergenceResult: comparing.loss_numbers,
}
"""What stands in one table for both, by kind of result."""
CHANGES: Mapping[type[Result], Callable[..., go.Figure]] = {
    DepthResult: differences.similarity_difference,
    AblationEffect: differences.effect_difference,
    ConvergenceResult: differences.lens_difference,
}
"""B − A, by kind of result."""


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    others = {name: name for name in shelf.shelf().bundles if name != selection.current().bundle}
    if not others:
        states.show(
            states.State(
                what="There is only one bundle here.",
                why="A comparison wants two; this explorer was started with one.",
                todo="Name a second one, or a folder that holds several:",
                command="engram-interp explore runs/",
            )
        )
        return
    if settings.OTHER.value == selection.current().bundle:
        selection.note(f"“{settings.OTHER.value}” is A already; {next(iter(others))} stands beside it.")
        settings.OTHER.put(next(iter(others)))
    controls = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="pair")
    name = settings.picked(
        controls, f"B, beside A = {style.plain(scene.bundle.name)}", settings.OTHER, others, said="bundle"
    )
    opened = shelf.opened(shelf.shelf().bundles[name])
    if isinstance(opened, states.State):
        states.show(opened)
        return
    other = scene_of(opened)
    _differences(scene, other)
    shared = {part: what for part, what in shelf.PARTS.items() if part in scene.bundle and part in opened}
    shared.pop("gates", None)  # they stand below, token for token
    if shared:
        part = settings.picked(
            controls, "What is compared", settings.SHOWN, shared, said="part of both bundles"
        )
        _part(scene.bundle, opened, part, what=shared[part])
    else:
        states.say("The two bundles hold no part of the same kind.")
    compared_gates.show(scene, other)


def _differences(one: Scene, other: Scene) -> None:
    """What differs between the two before any number is compared."""
    said = [
        f"A: {model_of(one.bundle) or one.bundle.name}, {one.layers or 'unknown'} layers, memory at "
        f"{', '.join(map(str, one.memory_layers)) or 'none'}",
        f"B: {model_of(other.bundle) or other.bundle.name}, {other.layers or 'unknown'} layers, "
        f"memory at {', '.join(map(str, other.memory_layers)) or 'none'}",
    ]
    digests = {
        str(part.data.attrs.get("text_digest"))
        for part in (
            if_there(one.bundle, "gates"),
            if_there(other.bundle, "gates"),
        )
        if part is not None
    }
    if len(digests) > 1:
        said.append("The two were run on different texts: a difference may come from the texts alone.")
    states.say(*said)


def _part(one: Bundle, other: Bundle, part: str, *, what: str) -> None:
    """The same part of both: one table where there is one, figures on one scale, sentences, exports."""
    style.html(element("h2", f"{what[0].upper()}{what[1:]}, A beside B", class_="engram-title"))
    both = {f"A: {one.name}": (one, shelf.part(one, part, what=what)),
            f"B: {other.name}": (other, shelf.part(other, part, what=what))}  # fmt: skip
    whole = {name: found for name, (_, found) in both.items() if isinstance(found, Result)}
    kinds = {type(found) for found in whole.values()}
    table = NUMBERS.get(kinds.pop()) if len(whole) > 1 and len(kinds) == 1 else None
    if table is not None:
        numbers = table({name: found.data for name, found in whole.items()})
        style.html(numbers)
        given = f"{{{f'A: {one.name}'!r}: a[{part!r}].data, {f'B: {other.name}'!r}: b[{part!r}].data}}"
        export.together(
            whole,
            name=f"numbers of {part}",
            parts=lambda: [numbers],
            code=code(one, other, f"comparing.{table.__name__}({given})"),
        )
    drawn = {name: found.plot(theme=style.theme()) for name, found in whole.items()}
    if len(drawn) > 1 and settings.toggled(st.container(), "Same axes for both", settings.AXES):
        comparing.on_one_scale(list(drawn.values()))
    for cell, (name, (bundle, found)) in zip(st.columns(2, gap="medium"), both.items(), strict=True):
        with cell:
            style.html(element("h3", name, class_="engram-run"))
            if isinstance(found, states.State):
                states.show(found)
                continue
            style.figure(drawn[name], key=f"compared {name}", alt=found.summary())
            same = found.coinciding() if isinstance(found, AblationEffect) else ""
            states.say(*filter(None, [found.summary(), same]))
            export.tools(found, bundle=bundle, part=part, call="plot()", drawn=f"compared {name}")
    _change(one, other, part, [found for found in whole.values() if type(found) in CHANGES])


def _change(one: Bundle, other: Bundle, part: str, both: Sequence[Result]) -> None:
    """B − A, where the two are of a kind that subtracts and share a layer or an ablation."""
    if len(both) < 2 or type(both[0]) is not type(both[1]):
        return
    draw = CHANGES[type(both[0])]
    style.html(element("h3", "B − A", class_="engram-run"))
    try:
        figure = draw(both[0].data, both[1].data, theme=style.theme())
    except InputError as cause:
        states.say(str(cause))
        return
    style.figure(figure, key="compared B − A", alt=f"B − A of {part}")
    states.say(
        "No interval of the difference is given: the two bundles were measured apart, and what differs "
        "between them (training run, size, text) is more than any one thing."
    )
    export.together(
        {f"A: {one.name}": both[0], f"B: {other.name}": both[1]},
        name=f"B − A of {part}",
        parts=lambda: [draw(both[0].data, both[1].data)],
        code=code(one, other, f"differences.{draw.__name__}(a[{part!r}].data, b[{part!r}].data)"),
        drawn="compared B − A",
    )
