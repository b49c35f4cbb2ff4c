"""What is chosen: kept from page to page, written to the address, read from it again.

The address is the one place a selection can be wrong in (a link to another bundle, an edited number).
What does not exist is replaced by the nearest that does, and one line says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer import shared, states
from explorer.scene import TYPED, Prompt, Scene, first_token, offered

STREAMS = ("all", "max", "mean")
FORMAT = "1"
"""Of links."""
PAGE = "page"
"""The parameter by which the server says which page was asked for, where there is none of that name."""
PARAMETERS = ("b", "prompt", "cell", "layer", "stream", "tok", "v", PAGE)
"""What a link says of the selection; the rest are settings of pages."""
_KEY = "selection"
_OF_PROMPT = ("spec", "vs", "slot", "run")
"""Settings that speak of one prompt."""
_WRITTEN = "selections written to the address"
_REMEMBERED = 16
_NOTES = "selection notes"
_PAGE_NOW = "page that is drawn"
_AT_REST = "selection at rest"
_PLACE = "place of the notes"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is chosen; −1 and an empty text stand for “not chosen yet”. `settings` are the pages' own."""

    bundle: str = ""
    prompt: str = ""
    layer: int = -1
    baseline_layer: int = -1
    stream: str = "all"
    token: int = -1
    settings: Mapping[str, str] = field(default_factory=dict)


def current() -> Selection:
    """What is chosen now."""
    found = st.session_state.get(_KEY)
    return found if isinstance(found, Selection) else Selection()


def choose(**changes: Any) -> None:
    """Change what is chosen; another prompt starts at a token of its own."""
    before = current()
    if "prompt" in changes and changes["prompt"] != before.prompt:
        kept = {name: value for name, value in before.settings.items() if name not in _OF_PROMPT}
        changes = {"token": -1, "settings": kept, **changes}
    st.session_state[_KEY] = replace(before, **changes)
    st.session_state[_NOTES] = []


def set_to(**settings: str) -> None:
    """Change settings of pages; what is chosen stays."""
    before = current()
    st.session_state[_KEY] = replace(before, settings={**before.settings, **settings})


def adopt_address(more: Callable[[Mapping[str, str]], list[str]]) -> list[str]:
    """Take over what the address says if it is not what this session wrote; what cannot be read is said.

    A click can be faster than the address: the browser then sends one that was written before. Only the
    browser's Back and Forward ask for such a one.

    Args:
        more: takes over the settings of pages, and says which it could not.
    """
    params = {name: value for name, value in st.query_params.items() if value}
    written: list[dict[str, str]] = st.session_state.get(_WRITTEN, [])
    if not params or params in (written[-1:] if _by_history() else written):
        return []
    changes, notes = _read(params)
    choose(**changes)
    return [*notes, *more(params)]


def note(line: str) -> None:
    """Say below the bar what was set right, until something else is chosen or another page."""
    kept = st.session_state.setdefault(_NOTES, [])
    if line not in kept:
        kept.append(line)
        with st.session_state.get(_PLACE) or st.container():
            states.say(line)
    rest()


def place_notes() -> None:
    """Keep a place for what pages set right: below the bar, where it stands on later runs too."""
    st.session_state[_PLACE] = st.container(key="notes")


def begin(page: str) -> None:
    """Forget what was set right where a reader has chosen something since, or gone to another page."""
    here = st.session_state[_PAGE_NOW] = page
    if st.session_state.get(_AT_REST) != (here, current()):
        st.session_state[_NOTES] = []


def page_now() -> str:
    """The page that is drawn."""
    return str(st.session_state.get(_PAGE_NOW, ""))


def rest() -> None:
    """Take what is chosen now as what the page has made of it, not as a reader's choice."""
    st.session_state[_AT_REST] = (st.session_state.get(_PAGE_NOW), current())


def _by_history() -> bool:
    """Whether this run was asked for by the browser's Back or Forward."""
    return bool(getattr(get_script_run_ctx(), "is_history_navigation", True))


def _read(params: Mapping[str, str]) -> tuple[dict[str, str | int], list[str]]:
    changes: dict[str, str | int] = {}
    notes: list[str] = []
    names = {"b": "bundle", "prompt": "prompt", "stream": "stream"}
    changes |= {chosen: params[name] for name, chosen in names.items() if name in params}
    if params.get(PAGE, "") not in {"", *st.session_state.get("pages", {})}:
        notes.append(f"There is no page “{params[PAGE]}”; this one is shown.")
    if params.get("v", FORMAT) != FORMAT:
        notes.append(
            f"The link is of format {params['v']}, and this version knows format {FORMAT}; what it knows of "
            "the link is shown."
        )
    layer, _, baseline_layer = params.get("cell", "").partition(".")
    if bool(layer) != bool(baseline_layer):
        notes.append(f"The link says cell={params['cell']}, but a cell has two layers, such as 3.4.")
    numbers = {
        "layer": layer or params.get("layer", ""),
        "baseline_layer": baseline_layer,
        "token": params.get("tok", ""),
    }
    for what, text in numbers.items():
        if text == "-1":  # which stands for what nobody chose
            notes.append(f"The link names the {what.replace('_', ' ')} “-1”; they count from 0.")
        elif text.isascii() and text.removeprefix("-").isdigit() and len(text) < 10:
            changes[what] = int(text)
        elif text:
            notes.append(f"The link names the {what.replace('_', ' ')} “{text}”, which is no number.")
    return changes, notes


def address(page: str, more: Mapping[str, str]) -> dict[str, str]:
    """Everything that is chosen, defaults too, and the page's settings, as the parameters of a link."""
    chosen = current()
    params = {"b": chosen.bundle, "prompt": chosen.prompt}
    if page == "layers":
        params["cell"] = f"{chosen.layer}.{chosen.baseline_layer}"
    else:
        params["layer"] = str(chosen.layer)
    params |= {"stream": chosen.stream, "tok": str(chosen.token)}
    chosen_here = {n: value for n, value in params.items() if value and "-1" not in value.split(".")}
    return {**chosen_here, **more, "v": FORMAT}


def write_address(page: str, more: Mapping[str, str]) -> None:
    """Write the selection to the address bar, so that what stands there is a complete link."""
    written = address(page, more)
    if dict(st.query_params) != written:
        st.query_params.from_dict(written)
    before = [one for one in st.session_state.get(_WRITTEN, []) if one != written]
    st.session_state[_WRITTEN] = [*before, written][-_REMEMBERED:]


def settle(scene: Scene, prompt_of: Mapping[str, Prompt], notes: list[str]) -> list[str]:
    """Replace what does not exist by the nearest that does; returns the lines that say so."""
    chosen = current()
    settled, prompt_note = _prompt(chosen, prompt_of)
    prompt = prompt_of.get(settled.prompt)
    scene = offered(scene, prompt)
    settled, layer_notes = _layers(settled, scene)
    settled, stream_note = _stream(settled, scene)
    settled, token_note = _token(settled, scene, prompt)
    st.session_state[_KEY] = settled
    said = [*notes, *prompt_note, *layer_notes, *stream_note, *token_note]
    kept = st.session_state.get(_NOTES, [])
    st.session_state[_NOTES] = list(dict.fromkeys([*kept, *said]))
    rest()
    return list(st.session_state[_NOTES])


def _prompt(chosen: Selection, prompts: Mapping[str, Prompt]) -> tuple[Selection, list[str]]:
    if chosen.prompt in prompts or not prompts:
        return chosen, []
    fallback = next((name for name in prompts if not prompts[name].typed), next(iter(prompts)))
    near = get_close_matches(chosen.prompt, list(prompts), n=1, cutoff=0.7)
    name = near[0] if near and not chosen.prompt.startswith(TYPED) else fallback
    if not chosen.prompt:
        return replace(chosen, prompt=name), []
    why = shared.unknown(chosen.prompt) if chosen.prompt.startswith(TYPED) else "is not in this bundle"
    note = f"The prompt “{chosen.prompt}” {why}; “{name}” is shown instead."
    kept = {param: value for param, value in chosen.settings.items() if param not in _OF_PROMPT}
    return replace(chosen, prompt=name, token=-1, settings=kept), [note]


def _layers(chosen: Selection, scene: Scene) -> tuple[Selection, list[str]]:
    notes: list[str] = []
    first = scene.memory_layers[0] if scene.memory_layers else 0
    for name, count, what in (
        ("layer", scene.layers, "layer"),
        ("baseline_layer", scene.baseline_layers, "baseline layer"),
    ):
        value = getattr(chosen, name)
        if count and not 0 <= value < count:
            nearest = min(max(value, 0), count - 1)
            if value == -1:
                nearest = min(first if name == "layer" else chosen.layer, count - 1)
            else:
                notes.append(f"There is no {what} {value} among the {count}; layer {nearest} is shown.")
            chosen = replace(chosen, **{name: nearest})
    return chosen, notes


def _stream(chosen: Selection, scene: Scene) -> tuple[Selection, list[str]]:
    if chosen.stream in stream_choices(scene):
        return chosen, []
    return replace(chosen, stream="all"), [f"There is no stream “{chosen.stream}”; all streams are shown."]


def stream_choices(scene: Scene) -> list[str]:
    """All streams, their largest or mean gate, or one of them; with one stream there is no choice."""
    if scene.streams <= 1:
        return ["all"]
    return [*STREAMS, *(str(stream) for stream in range(scene.streams))]


def _token(chosen: Selection, scene: Scene, prompt: Prompt | None) -> tuple[Selection, list[str]]:
    if prompt is None or prompt.tokens is None:
        return chosen, []
    if chosen.token == -1:
        return replace(chosen, token=first_token(scene, prompt)), []
    nearest = min(max(chosen.token, 0), prompt.tokens - 1)
    if nearest == chosen.token:
        return chosen, []
    note = f"Token {chosen.token} is not among the {prompt.tokens} of this prompt; token {nearest} is shown."
    return replace(chosen, token=nearest), [note]
