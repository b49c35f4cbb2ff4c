"""What is to be switched off, put together from controls; and the runs of this visit."""

from collections.abc import Sequence

import streamlit as st

from explorer import settings, states
from explorer.live import live
from explorer.scene import Prompt
from explorer.spec import BY_ROWS, KINDS, Spec

_RUNS = "ablations run"
_DRAWN_FOR = "ablation the form shows"
_OFFERED = "parts the form offers"
_KEPT = 20
WHERE = {False: "only this token", True: "every token"}


def show(
    run: Spec | None,
    *,
    token: int,
    tokens: int,
    layers: Sequence[int],
    orders: Sequence[int],
    heads: Sequence[int],
) -> None:
    """The controls, as `run` set them where there is one; Run makes a link's ablation of them.

    Args:
        run: what is shown below.
        token: the chosen token, which Run takes.
        tokens: how many there are.
        layers: memory layers; empty where they are not known, and Run takes them all.
        orders: lengths of the n-grams; as `layers`.
        heads: heads of each order; as `layers`.
    """
    _adopt(run, layers=layers, orders=orders, heads=heads)
    form = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="ablation form")
    kind = form.selectbox("Switch off", list(KINDS), format_func=KINDS.__getitem__, key="ab kind", width=230)
    form.segmented_control("At", list(WHERE), format_func=WHERE.__getitem__, key="ab where", required=True)
    _parts(form, "Memory layers", layers, "ab layers")
    if kind in BY_ROWS:
        _parts(form, "n-grams", orders, "ab orders")
        _parts(form, "Heads", heads, "ab heads")
    if kind == "ngram_swap":
        form.number_input("Reads of token", 0, max(tokens - 1, 0), key="ab swap", width=130)
    form.number_input("Draw of the controls", 0, 999, key="ab seed", width=150)
    parts = {"ab layers": layers, **({"ab orders": orders, "ab heads": heads} if kind in BY_ROWS else {})}
    whole = all(st.session_state[key] for key, options in parts.items() if len(options) > 1)
    form.button(
        f"Run at token {token}",
        type="primary",
        key="run ablation",
        on_click=_run,
        args=(token, list(layers), list(orders), list(heads)),
        disabled=not whole,
    )
    if not whole:
        states.say("Choose at least one layer, order and head; nothing would be switched off.")


def _parts(form: "st.delta_generator.DeltaGenerator", label: str, options: Sequence[int], key: str) -> None:
    """Which of several parts; with one there is no choice."""
    if len(options) > 1:
        form.pills(label, list(options), selection_mode="multi", key=key)


def _adopt(run: Spec | None, *, layers: Sequence[int], orders: Sequence[int], heads: Sequence[int]) -> None:
    """Set the controls to what is shown, once for each ablation that is shown; then they are the reader's."""
    shown = "" if run is None else run.text
    parts = {
        "ab kind": "rows_zero" if run is None else run.kind,
        "ab where": False if run is None else run.everywhere,
        "ab layers": list(layers if run is None or run.layers is None else run.layers),
        "ab orders": list(orders if run is None or run.orders is None else run.orders),
        "ab heads": list(heads if run is None or run.heads is None else run.heads),
        "ab swap": 0 if run is None or run.swap is None else run.swap,
        "ab seed": 0 if run is None else run.seed,
    }
    anew = st.session_state.get(_DRAWN_FOR) != shown
    offered = {"ab layers": list(layers), "ab orders": list(orders), "ab heads": list(heads)}
    before = st.session_state.get(_OFFERED, {})
    for key, value in parts.items():
        kept = not anew and before.get(key) == offered.get(key)
        st.session_state[key] = st.session_state.get(key, value) if kept else value
    for key, allowed in offered.items():
        st.session_state[key] = [one for one in st.session_state[key] if one in allowed]
    st.session_state[_DRAWN_FOR], st.session_state[_OFFERED] = shown, offered


def _run(token: int, layers: list[int], orders: list[int], heads: list[int]) -> None:
    """Take the controls as the ablation that is shown from now on."""
    state = st.session_state
    by_rows = state["ab kind"] in BY_ROWS

    def limited(key: str, every: list[int]) -> tuple[int, ...] | None:
        chosen = sorted(state[key])
        return None if len(every) < 2 or chosen == every else tuple(chosen)

    spec = Spec(
        kind=state["ab kind"],
        token=token,
        everywhere=bool(state["ab where"]),
        layers=limited("ab layers", layers),
        orders=limited("ab orders", orders) if by_rows else None,
        heads=limited("ab heads", heads) if by_rows else None,
        swap=int(state["ab swap"]) if state["ab kind"] == "ngram_swap" else None,
        seed=int(state["ab seed"]),
    )
    settings.SPEC.put(spec.text)


def history(prompt: Prompt, shown: Sequence[Spec]) -> list[Spec]:
    """The ablations of a prompt run in this visit, those that are `shown` among them, the latest first."""
    every: dict[tuple[str, str], list[Spec]] = st.session_state.setdefault(_RUNS, {})
    runs = every.setdefault((live().name, prompt.name), [])
    for spec in reversed(shown):
        if spec not in runs:
            runs.insert(0, spec)
    del runs[_KEPT:]
    return list(runs)
