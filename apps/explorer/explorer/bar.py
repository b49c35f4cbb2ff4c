"""The bar above every page: Bundle | Prompt | Layer | Stream | Token, bound to the address."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import TypeVar
from urllib.parse import urlencode

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer import buttons, opener, selection, settings, shared, shelf, states, style
from explorer.live import choose_model, linked, live, state_model
from explorer.scene import Prompt, Ran, Scene, model_of, offered, scene_of

_SCENE = "scene"
_CAME = "visit has begun"
_PROMPTS = "prompts of the scene"
_OF_ONE_TEXT = ("tokens", "memory", "ablate", "report")
T = TypeVar("T", str, int)
WIDTHS = (1.35, 2.1, 1.05, 1.0, 1.05, 0.75)


def scene() -> Scene:
    """What the present page may choose from."""
    found = st.session_state[_SCENE]
    assert isinstance(found, Scene)
    return found


def show(page: str) -> Callable[[], None] | None:
    """Draw the bar; None where no bundle is open, and the reason stands below the bar.

    Returns:
        What is to be called once the page is drawn, which may have set right what a link asked for: it writes
        the address and draws the button that copies it.
    """
    selection.begin(page)
    notes = selection.adopt_address(partial(settings.adopt, page=page))
    found = shelf.shelf()
    frame = st.container(key="bar")
    asked = settings.asked_model()
    if not found.bundles:
        states.show(_nothing(found.notes))
        opener.path_field()
        return None
    name = selection.current().bundle
    if name not in found.bundles:
        nearest = (get_close_matches(name, list(found.bundles), n=1) or [next(iter(found.bundles))])[0]
        if name:
            notes.append(f"There is no bundle “{name}” here; “{nearest}” is shown instead.")
        selection.choose(bundle=nearest)
        name = nearest
    bundle = shelf.opened(found.bundles[name])
    with frame:
        cells = st.columns(WIDTHS, vertical_alignment="bottom")
    _pick(cells[0], "Bundle", list(found.bundles), "bundle")
    if isinstance(bundle, states.State):
        selection.write_address(page, settings.address(page))
        states.say(*found.notes, *notes)
        states.show(bundle)
        opener.path_field()
        return None
    state_model(model_of(bundle))
    if asked and _CAME not in st.session_state:  # later addresses are of a visit that has a model
        notes += _take_model(asked)
    whole = scene_of(bundle, also=selection.current().prompt)
    known = _counted(whole, page)
    notes = selection.settle(whole, known, notes)
    st.session_state[_PROMPTS] = known
    st.session_state[_SCENE] = offered(whole, known.get(selection.current().prompt))
    _choices(cells)
    said = [*found.notes, *notes, *bundle.notes]
    if said:
        states.say(*said)
    selection.place_notes()

    def finish() -> None:
        st.session_state[_CAME] = True
        prompt = known.get(selection.current().prompt)
        settings.MODEL.put(live().tag if prompt is not None and runs_live(prompt) else "")
        with cells[5]:
            _link(page)
        selection.write_address(page, settings.address(page))
        selection.rest()

    return finish


def _take_model(tag: str) -> list[str]:
    """Run the text of a link on the model that it names, and say so; or say which model runs it here."""
    if live().tag == tag or not (settings.RUN.value or shared.text_of(selection.current().prompt)):
        return []
    before, model = live(), linked(tag)
    if model is None:
        return [f"The link’s text was run by {tag}; here {before.name} runs it. Overview loads another."]
    choose_model(model)
    return [f"The link’s text was run by {model.name}, which runs texts from now on; Overview goes back."]


def prompts() -> Mapping[str, Prompt]:
    """The prompts by name, as the bar was drawn with them."""
    found: Mapping[str, Prompt] = st.session_state[_PROMPTS]
    return found


def runs_live(prompt: Prompt) -> bool:
    """Whether a live run of the prompt is shown, not what the bundle holds of it."""
    return prompt.typed or bool(settings.RUN.value and prompt.text and not live().missing)


def _counted(whole: Scene, page: str) -> dict[str, Prompt]:
    """The prompts by name; one that is run live knows its tokens and its model once that is done."""
    known = dict(whole.prompts)
    for name, prompt in known.items():
        reading = live().finished(prompt.text) if runs_live(prompt) else None
        if reading is None:
            continue
        gates = reading.gates.data
        ran = Ran(
            layers=reading.lens.data.sizes["layer"],
            memory_layers=tuple(int(layer) for layer in gates["layer"].values),
            streams=gates.sizes["stream"],
        )
        shown = ran if page in _OF_ONE_TEXT else None  # the other pages are about the bundle's models
        known[name] = replace(prompt, tokens=gates.sizes["token"], ran=shown)
    return known


def _choices(cells: Sequence[DeltaGenerator]) -> None:
    within, known, chosen = scene(), prompts(), selection.current()
    _pick(cells[1], "Prompt", list(known), "prompt", say=lambda name: known[name].label)
    memory = set(within.memory_layers)
    _pick(
        cells[2],
        "Layer",
        list(range(within.layers)),
        "layer",
        say=lambda layer: f"{layer} · memory" if layer in memory else str(layer),
        about="Counted from 0; the paper counts from 1.",
    )
    streams = selection.stream_choices(within)
    said = {"all": "all" if len(streams) > 1 else "0 (only)", "max": "largest", "mean": "mean"}
    _pick(cells[3], "Stream", streams, "stream", say=lambda stream: said.get(stream, str(stream)))
    prompt = known.get(chosen.prompt)
    last = (prompt.tokens if prompt is not None and prompt.tokens else 1) - 1
    key = "bar token"
    st.session_state[key] = min(max(chosen.token, 0), last)
    cells[4].number_input(
        "Token",
        min_value=0,
        max_value=max(last, 0),
        step=1,
        key=key,
        disabled=last < 1,
        on_change=lambda: selection.choose(token=int(st.session_state[key])),
        help=f"Position, counted from 0; the last is {last}.",
    )


def _pick(
    cell: DeltaGenerator,
    label: str,
    options: list[T],
    field: str,
    *,
    say: Callable[[T], str] = str,
    about: str | None = None,
) -> None:
    """A list that shows what is chosen and changes it."""
    key = f"bar {field}"
    value = getattr(selection.current(), field)
    st.session_state[key] = value if value in options else None
    cell.selectbox(
        label,
        options,
        key=key,
        format_func=say,
        disabled=not options,
        placeholder="none here",
        on_change=lambda: selection.choose(**{field: st.session_state[key]}),
        help=about,
    )


def link(page: str) -> str:
    """The address that restores what is open."""
    address = str(st.context.url or f"/{page}").split("?")[0]
    return f"{address}?{urlencode(selection.address(page, settings.address(page)), safe=':,')}"


def _link(page: str) -> None:
    """A button that copies the whole link."""
    about = "An address that restores what you see. It names things and never carries a typed text."
    place = shelf.by_path(selection.current().bundle)
    if place is not None:
        about += (
            f" This bundle was opened by its path: the link works as long as this server runs, and where the "
            f"explorer is given {style.plain(str(place))}."
        )
    texts = [selection.current().prompt, settings.NOTE.value if page == "report" else ""]
    texts = [name for name in texts if shared.text_of(name)]
    if texts:
        about += f" What was typed is then kept on this machine, in {shared.folder()}, for the link to open."
    buttons.copy(link(page), about=about, keep=(lambda: shared.save(*texts)) if texts else None)


def _nothing(notes: tuple[str, ...]) -> states.State:
    return states.State(
        what="There is no bundle to open.",
        why=" ".join(notes) or "None was named, and this installation carries no ready-made one.",
        todo="Make one from the packaged models (about three minutes), then open it:",
        command="engram-interp report --out report\nengram-interp explore report/wiki-nano.engram",
    )
