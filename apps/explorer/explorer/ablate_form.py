"""What is to be switched off, put together from controls; and the runs of this visit."""

from collections.abc import Mapping, Sequence

import streamlit as st

from engram_interp.numbering import numbers, runs_of
from engram_interp.results import wording
from explorer import selection, settings, states, waiting
from explorer.live import live
from explorer.scene import Prompt
from explorer.spec import BY_ROWS, KINDS, Kind, Spec, fitted, parse

ABOUT_DRAW = "Which random rows and directions the two controls take; every number gives eight others."
_RUNS = "ablations run"
_DRAWN_FOR = "ablation the form shows"
_OFFERED = "parts the form offers"
_KEPT = 20
WHERE = {"this": "only this token", "some": "chosen tokens", "every": "every token"}
_PARTS = {"ab layers": "layers", "ab orders": "orders", "ab heads": "heads", "ab streams": "streams"}
"""By control: what of a model it limits the ablation to."""


def show(
    run: Spec | None, *, text: str, token: int, tokens: int, offered: Mapping[str, Sequence[int]]
) -> None:
    """The controls, as `run` set them where there is one; Run makes a link's ablation of them.

    Args:
        run: what is shown below.
        text: of the prompt.
        token: the chosen token, whose prediction Run looks at.
        tokens: how many there are.
        offered: layers, orders, heads and streams to choose from; none where they are not known, and Run
            takes them all.
    """
    parts = {key: list(offered.get(name, ())) for key, name in _PARTS.items()}
    _adopt(run, parts, token=token)
    state = st.session_state
    form = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="ablation form")
    kind = form.selectbox("Switch off or change", list(KINDS), format_func=_named, key="ab kind", width=290)
    form.segmented_control("At", list(WHERE), format_func=WHERE.__getitem__, key="ab where", required=True)
    if state["ab where"] == "some":
        _some(form, token=token)
    asked = {key: options for key, options in parts.items() if key in _of_kind(kind) and len(options) > 1}
    for key, options in asked.items():
        label = {"ab layers": "Memory layers", "ab orders": "n-grams"}.get(key, _PARTS[key].capitalize())
        form.pills(label, options, selection_mode="multi", key=key)
    if kind == "ngram_swap":
        form.number_input("Reads of token", 0, max(tokens - 1, 0), key="ab swap", width=130)
    form.number_input("Draw of the controls", 0, 999, key="ab seed", width=150, help=ABOUT_DRAW)
    wrong = _wrong(parts, token=token, tokens=tokens)
    form.button(
        f"Run at token {token}" if state["ab where"] == "this" else f"Run, seen at token {token}",
        type="primary",
        key="run ablation",
        on_click=_run,
        args=(text, token, tokens, parts),
        disabled=bool(wrong),
    )
    if wrong:
        states.say(wrong)


def _named(kind: Kind) -> str:
    """A kind as it is called here, and as figures and the package call it."""
    return f"{KINDS[kind]} ({kind})"


def _of_kind(kind: str) -> tuple[str, ...]:
    """The controls of parts that a kind can be limited to."""
    return ("ab layers", "ab orders", "ab heads") if kind in BY_ROWS else ("ab layers", "ab streams")


def _some(form: "st.delta_generator.DeltaGenerator", *, token: int) -> None:
    """The tokens that are chosen, and a button that adds the one that is looked at."""
    form.text_input("Tokens", key="ab tokens", placeholder="such as 3, 7-9", width=170)
    chosen = numbers(st.session_state["ab tokens"]) or ()

    def add() -> None:
        st.session_state["ab tokens"] = ", ".join(runs_of([*chosen, token]))

    form.button(f"Add token {token}", key="add token", on_click=add, disabled=token in chosen)


def _wrong(parts: Mapping[str, list[int]], *, token: int, tokens: int) -> str:
    """Why the controls as they are now switch nothing off; empty where they do."""
    state = st.session_state
    asked = [key for key in _of_kind(state["ab kind"]) if len(parts[key]) > 1]
    missing = [_PARTS[key].removesuffix("s") for key in asked if not state[key]]
    if missing:
        return f"Choose at least one {' and one '.join(missing)}; nothing would be switched off."
    if state["ab where"] != "some":
        return ""
    chosen = numbers(state["ab tokens"])
    if chosen is None:
        return "Name the tokens by their positions, such as 3, 7-9; or pick one above and add it."
    if chosen[-1] >= tokens:
        return f"There is no token {chosen[-1]} among the {tokens:,} of this text."
    if chosen[0] > token:
        return (
            f"All these tokens come after token {token}, whose prediction they cannot change; pick a later "
            "token above."
        )
    return ""


def _adopt(run: Spec | None, parts: Mapping[str, list[int]], *, token: int) -> None:
    """Set the controls to what is shown, once for each ablation that is shown; then they are the reader's."""
    shown = "" if run is None else run.text
    chosen = [token] if run is None or not run.tokens else run.tokens
    values = {
        "ab kind": "rows_zero" if run is None else run.kind,
        "ab where": _where(run),
        "ab tokens": ", ".join(runs_of(chosen)),
        "ab swap": 0 if run is None or run.swap is None else run.swap,
        "ab seed": 0 if run is None else run.seed,
    }
    for key, options in parts.items():
        limited = None if run is None else getattr(run, _PARTS[key])
        values[key] = list(options if limited is None else limited)
    anew = st.session_state.get(_DRAWN_FOR) != shown
    before = st.session_state.get(_OFFERED, {})
    for key, value in values.items():
        kept = not anew and before.get(key) == parts.get(key)
        st.session_state[key] = st.session_state.get(key, value) if kept else value
    for key, options in parts.items():
        st.session_state[key] = [one for one in st.session_state[key] if one in options]
    if st.session_state["ab where"] != "some":
        st.session_state["ab tokens"] = str(token)  # where a choice of several begins
    st.session_state[_DRAWN_FOR], st.session_state[_OFFERED] = shown, dict(parts)


def _where(run: Spec | None) -> str:
    if run is None:
        return "this"
    return "every" if run.everywhere else "this" if run.tokens is None else "some"


def _run(text: str, token: int, tokens: int, parts: Mapping[str, list[int]]) -> None:
    """Take the controls as the ablation that is shown from now on; not where what was typed last is wrong."""
    if _wrong(parts, token=token, tokens=tokens):
        return  # the form says why
    state = st.session_state
    kind = state["ab kind"]
    limits: dict[str, tuple[int, ...]] = {}
    for key in _of_kind(kind):
        chosen, every = sorted(state[key]), parts[key]
        if len(every) > 1 and chosen != every:
            limits[_PARTS[key]] = tuple(chosen)
    some = numbers(state["ab tokens"]) if state["ab where"] == "some" else None
    spec = Spec(
        kind=kind,
        token=token,
        tokens=None if some == (token,) else some,
        everywhere=state["ab where"] == "every",
        layers=limits.get("layers"),
        orders=limits.get("orders"),
        heads=limits.get("heads"),
        streams=limits.get("streams"),
        swap=int(state["ab swap"]) if kind == "ngram_swap" else None,
        seed=int(state["ab seed"]),
    )
    settings.SPEC.put(spec.text)
    waiting.take_up(live().compare(text, spec))


def set_right(setting: settings.Setting, *, tokens: int, offered: Mapping[str, Sequence[int]]) -> None:
    """Take what a setting switches off as far as this text and model have it; a line says what they lack."""
    asked = parse(setting.value)
    found, missing = (None, []) if asked is None else fitted(asked, tokens=tokens, offered=offered)
    if asked is not None and found is not None and missing:
        setting.put(found.text)
        selection.note(
            f"The ablation {asked.text} names {wording.listed(dict.fromkeys(missing))}, which this "
            f"text or model does not have; {found.text} is shown."
        )


def history(prompt: Prompt, shown: Sequence[Spec]) -> list[Spec]:
    """The ablations of a prompt run in this visit, those that are `shown` among them, the latest first."""
    every: dict[tuple[str, str], list[Spec]] = st.session_state.setdefault(_RUNS, {})
    runs = every.setdefault((live().key, prompt.name), [])
    for spec in reversed(shown):
        if spec not in runs:
            runs.insert(0, spec)
    del runs[_KEPT:]
    return list(runs)
