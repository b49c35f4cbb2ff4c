"""Compare: two bundles side by side on the same scales, each beside its own controls."""

from collections.abc import Callable, Mapping

import streamlit as st
import xarray as xr

from engram_interp.results import (
    AblationEffect,
    Bundle,
    ConvergenceResult,
    DepthResult,
    GateReading,
    Result,
)
from engram_interp.views import comparing
from engram_interp.views.markup import Html, element
from engram_interp.views.strips import gate_strip
from explorer import bar, export, selection, settings, shelf, states, style
from explorer.overview import PARTS
from explorer.scene import Scene, model_of, scene_of

NUMBERS: Mapping[type[Result], Callable[[Mapping[str, xr.Dataset]], Html]] = {
    DepthResult: comparing.depth_numbers,
    AblationEffect: comparing.effect_numbers,
    ConvergenceResult: comparing.loss_numbers,
}
"""What stands in one table for both, by kind of result."""
STRIP = 96
"""Tokens of a strip that are shown side by side."""


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
    shared = {part: what for part, what in PARTS.items() if part in scene.bundle and part in opened}
    if shared:
        part = settings.picked(
            controls, "What is compared", settings.SHOWN, shared, said="part of both bundles"
        )
        _part(scene.bundle, opened, part, what=shared[part])
    else:
        states.say("The two bundles hold no part of the same kind.")
    _prompt(scene, other)


def _differences(one: Scene, other: Scene) -> None:
    """What differs between the two before any number is compared."""
    said = [
        f"A: {model_of(one.bundle) or 'unnamed'}, {one.layers or 'unknown'} layers, memory at "
        f"{', '.join(map(str, one.memory_layers)) or 'none'}",
        f"B: {model_of(other.bundle) or 'unnamed'}, {other.layers or 'unknown'} layers, "
        f"memory at {', '.join(map(str, other.memory_layers)) or 'none'}",
    ]
    digests = {
        str(part.data.attrs.get("text_digest"))
        for part in (_if_there(one.bundle, "gates"), _if_there(other.bundle, "gates"))
        if part is not None
    }
    if len(digests) > 1:
        said.append("The two were run on different texts: a difference may come from the texts alone.")
    states.say(*said)


def _if_there(bundle: Bundle, part: str) -> Result | None:
    found = shelf.part(bundle, part, what=part) if part in bundle else None
    return found if isinstance(found, Result) else None


def _part(one: Bundle, other: Bundle, part: str, *, what: str) -> None:
    """The same part of both: one table where there is one, figures on one scale, sentences, exports."""
    st.html(element("h2", f"{what[0].upper()}{what[1:]}, A beside B", class_="engram-title"))
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
            code=_code(one, other, f"comparing.{table.__name__}({given})"),
        )
    drawn = {name: found.plot(theme=style.theme()) for name, found in whole.items()}
    if len(drawn) > 1:
        comparing.on_one_scale(list(drawn.values()))
    for cell, (name, (bundle, found)) in zip(st.columns(2, gap="medium"), both.items(), strict=True):
        with cell:
            st.html(element("h3", name, class_="engram-run"))
            if isinstance(found, states.State):
                states.show(found)
                continue
            style.figure(drawn[name], key=f"compared {name}", alt=found.summary())
            states.say(found.summary())
            export.tools(found, bundle=bundle, part=part, call="plot()", drawn=f"compared {name}")
    states.say(
        "No interval of the difference is given: the two bundles were measured apart, and what differs "
        "between them (training run, size, text) is more than any one thing."
    )


def _prompt(one: Scene, other: Scene) -> None:
    """The gates of the chosen prompt in both, token for token; or why they cannot be set side by side."""
    name = selection.current().prompt
    here, there = one.prompts.get(name), other.prompts.get(name)
    if here is None or here.row is None:
        return
    st.html(element("h2", f"The gates on “{name}”", class_="engram-title"))
    if there is None or there.row is None:
        few = [prompt for prompt in other.prompts if prompt in one.prompts][:6]
        states.show(
            states.State(
                what=f"B has no gates for “{name}”.",
                why=f"The bundles share {', '.join(few)}." if few else "The two bundles share no prompt.",
                todo="Pick a prompt that both hold; what does not speak of tokens is compared above.",
            )
        )
        return
    readings = (_if_there(one.bundle, "gates"), _if_there(other.bundle, "gates"))
    tokens = [
        found.data["token_text"].values[prompt.row, : prompt.tokens].tolist()
        for found, prompt in zip(readings, (here, there), strict=True)
        if isinstance(found, GateReading)
    ]
    if len(tokens) == 2 and tokens[0] != tokens[1]:
        states.show(
            states.State(
                what="The two read this text as different tokens.",
                why=f"A has {len(tokens[0])} tokens, B {len(tokens[1])}: their tokenisers differ.",
                todo="Comparison token by token is off; what is per layer stands above.",
            )
        )
        return
    strips: dict[str, Html] = {}
    shown: dict[str, Result] = {}
    for label, found, prompt in (("A", readings[0], here), ("B", readings[1], there)):
        if isinstance(found, GateReading) and prompt.row is not None:
            number = int(found.data["prompt"].values[prompt.row])
            strips[label] = gate_strip(found.data, prompt=number, rows="max", stop=STRIP)
            shown[label] = GateReading(data=found.data.sel(prompt=[number]))
            style.html(element("h3", f"{label} · the largest stream of each layer"), strips[label])
    if not shown:
        return
    lines = "\n".join(
        f'display(gate_strip({label.lower()}["gates"].data, '
        f'prompt={int(found.data["prompt"].item())}, rows="max", stop={STRIP}))'
        for label, found in shown.items()
    )
    export.together(
        shown,
        name="gates of both",
        parts=lambda: [part for label, strip in strips.items() for part in (label, strip)],
        code=_code(one.bundle, other.bundle, lines),
    )


def _code(one: Bundle, other: Bundle, lines: str) -> str:
    """Lines that open both bundles, and then `lines`."""
    return (
        "from engram_interp.results import open_bundle\nfrom engram_interp.views import comparing\n"
        "from engram_interp.views.strips import gate_strip\n\n"
        f"a = open_bundle({str(one.path)!r})\nb = open_bundle({str(other.path)!r})\n{lines}"
    )
