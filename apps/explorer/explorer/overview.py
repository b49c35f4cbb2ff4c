"""Overview: what was loaded, what it found first, what can be asked."""

from collections.abc import Mapping
from datetime import datetime

import streamlit as st

from engram_interp.results import Bundle, DepthResult, EditReport, Result
from engram_interp.views import tables
from engram_interp.views.markup import element
from engram_interp.views.theme import DASH
from explorer import (
    agreement,
    bar,
    export,
    headline,
    model_choice,
    opener,
    remake,
    settings,
    shelf,
    states,
    style,
    tour,
)
from explorer.provenance import provenance
from explorer.scene import Scene

QUESTIONS = (
    (
        "layers",
        "1 · Which layer?",
        "Which layers resemble each other, how far each is shifted, how early it knows the answer.",
    ),
    ("tokens", "2 · Which token?", "Where the gates open in a text, beside gates that were never trained."),
    ("memory", "3 · Which slot?", "What was looked up at a token, who shares the rows, what they promote."),
    (
        "ablate",
        "4 · Does it matter?",
        "Switch the memory off, live, beside two random controls; compare runs.",
    ),
    ("compare", "5 · Is it the same elsewhere?", "Two bundles side by side; then take a report away."),
)
PER_PROMPT: Mapping[str, str] = {"lens-table": "lens tables", "slots": "slots"}
ON_PAGES = ("slots", "lens-table", "attribution", "promotion")
"""Per prompt, and shown on the pages about one text."""


def page() -> None:
    """Draw the page."""
    scene = bar.scene()
    depth = shelf.part(scene.bundle, "depth", what="depth map")
    left, right = st.columns([0.44, 0.56], gap="medium")
    with right:
        if isinstance(depth, DepthResult):
            style.figure(depth.plot(theme=style.theme()), key="overview map", alt=depth.summary())
        elif isinstance(depth, states.State) and "depth" in scene.bundle:
            states.show(depth)  # where it is missing, that stands below with what else is
        _holds(scene)
    with left:
        if isinstance(depth, DepthResult):
            views = agreement.views_of(scene.bundle, agreement.DEPTHS)
            headline.show(depth, bundle=scene.bundle, verdict=agreement.verdict(depth, views))
            said = agreement.sentence(depth, views)
            if said:
                style.html(
                    element("p", element("b", "Do the other views agree? "), said, class_="engram-line")
                )
        tour.invite()
        _questions()
    with right:
        opener.show()
        model_choice.show()
    _loaded(scene)


def _questions() -> None:
    """The questions in their order, each with the page that answers it."""
    style.html(element("h2", "What you can ask", class_="engram-title"))
    with st.container(key="questions", gap=None):
        for target, question, about in QUESTIONS:
            st.page_link(st.session_state["pages"][target], label=question)
            style.html(element("p", about, class_="engram-asked"))


def _holds(scene: Scene) -> None:
    """What the bundle holds, in a line, and the notes its makers left."""
    bundle = scene.bundle
    style.html(element("h2", f"Loaded: {bundle.name}", class_="engram-title"))
    made = _day(str(bundle.manifest.get("created", "")))
    facts = [
        _sizes(scene),
        f"memory at {', '.join(map(str, scene.memory_layers)) or DASH}",
        f"prompts {sum(not prompt.typed for prompt in scene.prompts.values())}",
        *(f"{PER_PROMPT[kind]} {count}" for kind, count in _counts(bundle).items()),
        f"made {made} by version {bundle.manifest.get('version', DASH)}",
    ]
    notes = bundle.meta.get("notes")
    states.say(" · ".join(facts), *(str(note) for note in (notes if isinstance(notes, list) else [])))


def _counts(bundle: Bundle) -> dict[str, int]:
    return {kind: sum(part.startswith(f"{kind}:") for part in bundle) for kind in PER_PROMPT}


def _day(created: str) -> str:
    """The day of a time stamp, as one writes it; the stamp itself where it is none."""
    try:
        made = datetime.fromisoformat(created)
    except ValueError:
        return created or DASH
    return f"{made.day} {made:%B %Y}"


def _loaded(scene: Scene) -> None:
    """How the bundle was made, what it says in words, and how to make what is missing."""
    bundle = scene.bundle
    for state in shelf.torn(bundle):
        states.show(state)
    missing = [what for part, what in shelf.PARTS.items() if part not in bundle]
    missing += [PER_PROMPT[kind] for kind, count in _counts(bundle).items() if not count]
    if missing:
        way = remake.makes(bundle, "them")
        states.show(
            states.State(
                what=f"Parts missing: {', '.join(missing)}.",
                why="This bundle was made without them; everything else is shown.",
                todo=way.todo,
                command=way.command,
            )
        )
    said = settings.fold("Every result in one sentence", key="sentences")
    if said.open:
        with said:
            _sentences(bundle)
    _others(bundle)
    made = settings.fold("How this was made", key="made")
    depth = shelf.part(bundle, "depth", what="depth map")
    if made.open:
        with made:
            style.html(provenance(bundle, depth if isinstance(depth, DepthResult) else None))
    if isinstance(depth, DepthResult):
        numbers = settings.fold("Numbers behind the map", key="map numbers")
        if numbers.open:
            with numbers:
                style.html(tables.depth_table(depth.data))
                export.tools(depth, bundle=bundle, part="depth", call="plot()", drawn="overview map")


def _sentences(bundle: Bundle) -> None:
    for name, what in shelf.PARTS.items():
        found = shelf.part(bundle, name, what=what)
        said = found.summary() if isinstance(found, Result) else f"{found.what} {found.why}"
        style.html(element("p", element("b", f"{what}: "), said, class_="engram-asked"))


def _sizes(scene: Scene) -> str:
    """How many layers the map, or the only model, has."""
    if not scene.layers:
        return "layers unknown"
    return f"layers {scene.layers}" + (f" × {scene.baseline_layers}" if scene.baseline_layers else "")


def _others(bundle: Bundle) -> None:
    """What the bundle holds and no page is about, each drawn when it is opened."""
    for name in bundle:
        if (
            name in shelf.PARTS
            or name in {"slot-load", "slot-census"}
            or bundle.kind(name) == EditReport.kind
        ):
            continue
        if name.partition(":")[0] in ON_PAGES:
            continue
        fold = settings.fold(f"Also in this bundle: {style.plain(name)}", key=f"other {name}")
        if not fold.open:
            continue
        with fold:
            found = shelf.part(bundle, name, what=f"part “{name}”")
            if isinstance(found, states.State):
                states.show(found)
                continue
            style.figure(found.plot(theme=style.theme()), key=f"figure other {name}", alt=found.summary())
            states.say(found.summary())
            export.tools(found, bundle=bundle, part=name, call="plot()", drawn=f"figure other {name}")
