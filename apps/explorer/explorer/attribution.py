"""What the reads of one token give a prediction, from the bundle or from a live run."""

from collections.abc import Callable
from typing import Literal, TypeVar, cast

import plotly.graph_objects as go
import streamlit as st

from engram_interp.results import Bundle, MemoryAttribution, MemoryPromotion, Result
from engram_interp.views.markup import element
from explorer import earlier, export, readings, settings, shelf, states, style
from explorer.live import live
from explorer.live_results import Attributed
from explorer.scene import Prompt, Scene
from explorer.waiting import result_of

VIEWS = {"columns": "by row", "sources": "by token that read", "parts": "beside everything else"}
View = Literal["columns", "sources", "parts"]
_PROMOTES, _SPLITS = "Reading what it promotes", "Splitting the prediction"
R = TypeVar("R", bound=Result)


def promotion(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int, layer: int) -> None:
    """What the write at a token promotes and suppresses, beside what random rows do."""
    style.html(element("h2", "What this memory promotes", class_="engram-title"))
    found = _of_bundle(scene.bundle, "promotion", prompt, present, token=token, wanted=MemoryPromotion)
    source: Bundle | None = scene.bundle
    if found is None:
        run = _of_run(prompt, token, what=_PROMOTES)
        if run is None:
            return
        found, source = run.promotion, None
    if layer not in found.data["layer"].values:
        states.say(f"What layer {layer} promotes is not known: {found.summary()}")
        return
    drawn = found
    _figure(
        lambda: drawn.plot(theme=style.theme(), layer=layer),
        key="promotion",
        alt=found.summary(),
        panel=_PROMOTES,
        of=f"token {token}, {prompt.label}",
    )
    states.say("A direct effect, on the logit minus its mean: it skips what later layers make of the write.")
    with settings.fold("In words, with its control", key="promotion words"):
        states.say(found.summary())
    export.tools(
        found,
        bundle=source,
        part=f"promotion:{prompt.name}",
        call=f"plot(layer={layer})",
        code=export.ran(live().source, "attribution", f"promoted(model, {prompt.text!r}, token={token})"),
        figure=lambda: drawn.plot(layer=layer),
        drawn="promotion",
    )


def parts(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """The logit after a token as a sum over the rows read, each over its control."""
    found = _of_bundle(scene.bundle, "attribution", prompt, present, token=token, wanted=MemoryAttribution)
    source: Bundle | None = scene.bundle
    if found is None:
        if settings.LIVE.value != "on" or live().missing or not prompt.text:
            return  # the panel above says why and how
        run = _of_run(prompt, token, what=_SPLITS)
        if run is None:
            return
        found, source = run.memory, None
    style.html(element("h2", "How much of the prediction came from here?", class_="engram-title"))
    view = cast(View, settings.segmented(st.container(), "Show", settings.VIEW, say=VIEWS.__getitem__))
    drawn = found
    _figure(
        lambda: drawn.plot(theme=style.theme(), view=view),
        key="attribution",
        alt=found.summary(),
        panel=_SPLITS,
        of=f"token {token}, {prompt.label}",
    )
    states.say(found.summary())
    export.tools(
        found,
        bundle=source,
        part=f"attribution:{prompt.name}",
        call=f"plot(view={view!r})",
        code=export.ran(live().source, "attribution", f"memory(model, {prompt.text!r}, token={token})"),
        figure=lambda: drawn.plot(view=view),
        drawn="attribution",
    )


def _figure(plot: Callable[[], go.Figure], *, key: str, alt: str, panel: str, of: str) -> None:
    """Draw a figure, and remember it for while another is computed."""

    def draw() -> None:
        style.figure(plot(), key=key, alt=alt)

    draw()
    earlier.keep(panel, of=of, draw=draw)


def _of_bundle(
    bundle: Bundle, kind: str, prompt: Prompt, present: readings.Present, *, token: int, wanted: type[R]
) -> R | None:
    """The bundle's part for this prompt, if it speaks of this token."""
    name = f"{kind}:{prompt.name}"
    if present.live or name not in bundle:
        return None
    found = shelf.part(bundle, name, what=kind)
    if isinstance(found, states.State):
        states.show(found)
        return None
    return found if isinstance(found, wanted) and int(found.data["token_index"]) == token else None


def _of_run(prompt: Prompt, token: int, *, what: str) -> Attributed | None:
    """The live run's, once a reader asked for live panels; else the state that says how to ask."""
    if live().missing or not prompt.text:
        why = live().missing or "The bundle does not hold the text of this prompt."
        states.show(states.State(what="Not in this bundle.", why=why, todo="Pick another prompt or token."))
        return None
    if settings.LIVE.value != "on":
        states.show(
            states.State(
                what=f"The bundle does not hold this for token {token}.",
                why=f"It takes a run of {live().name}, about a second here.",
                todo=f"Turn on “Compute what is missing with {live().name}” above.",
            )
        )
        return None
    return result_of(live().attribute(prompt.text, token=token), what=what, panel=what)
