"""Switching the memory off at one token, beside two controls, and watching the predictions move."""

from collections.abc import Mapping

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engram_interp.results import AblationComparison
from engram_interp.views import predictions, tables
from engram_interp.views.markup import element
from explorer import export, readings, settings, states, style
from explorer.live import live
from explorer.scene import Prompt, Scene
from explorer.spec import BY_ROWS, KINDS, Spec, parse
from explorer.waiting import result_of

_NO_ORDERS = "none"
CHOICES: Mapping[str, str] = {"on": "on"} | {str(kind): said for kind, said in KINDS.items()}


def show(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int, orders: list[int]) -> None:
    """The switches, and what they do to the prediction after `token`."""
    st.html(element("h2", "Would it predict the same without?", class_="engram-title"))
    if not possible(prompt, present):
        return
    switches = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="switches")
    kind = settings.segmented(switches, "Memory", settings.MEMORY, say=CHOICES.__getitem__)
    where = {"here": f"at token {token}", "everywhere": "at every token"}
    everywhere = settings.segmented(switches, "Where", settings.WHERE, say=where.__getitem__) == "everywhere"
    by_order = kind in BY_ROWS and len(orders) > 1
    chosen = orders
    if by_order:
        chosen = _orders(switches, orders)
    if kind == "on":
        states.say(
            "The memory is on. Choose “rows → 0”, “gate → 0” or “output off” to see what the prediction "
            f"after token {token} loses; two controls of the same size run beside it."
        )
        _before(scene, prompt, present, token=token)
        return
    if by_order and not chosen:
        states.say("No n-grams are switched off; choose at least one order.")
        return
    spec = parse(f"{kind}:t{token}")
    assert spec is not None
    limited = tuple(sorted(chosen)) if by_order and set(chosen) != set(orders) else None
    seed = _seed()
    spec = Spec(kind=spec.kind, token=token, everywhere=everywhere, orders=limited, seed=seed)
    found = result_of(live().compare(prompt.text, spec), what="Switching off")
    if found is not None:
        _compared(found, prompt, spec)


def _orders(place: DeltaGenerator, orders: list[int]) -> list[int]:
    """Which lengths of n-grams are switched off: all of them until somebody chooses."""
    setting, asked = settings.ORDERS, settings.ORDERS.value
    chosen = [order for order in orders if str(order) in asked.split(",")]
    if not chosen and asked != _NO_ORDERS:
        if asked:
            states.say(f"The link names n-grams of “{asked}” tokens, which were not looked up; all are off.")
        chosen = list(orders)
    st.session_state[setting.key] = chosen
    place.pills(
        "n-grams",
        orders,
        selection_mode="multi",
        format_func=lambda n: f"{n}-grams",
        key=setting.key,
        on_change=lambda: setting.put(
            ",".join(map(str, sorted(st.session_state[setting.key]))) or _NO_ORDERS
        ),
    )
    return chosen


def _seed() -> int:
    """Which draw of the controls is shown."""
    drawn = settings.DRAW.value
    return int(drawn) if drawn.isascii() and drawn.isdigit() and len(drawn) < 10 else 0


def possible(prompt: Prompt, present: readings.Present) -> bool:
    """Whether `prompt` can be run here; says why not, or that another model would run it."""
    if live().missing or not prompt.text:
        states.show(
            states.State(
                what="Nothing can be switched off here.",
                why=live().missing or "The bundle does not hold the text of this prompt.",
                todo="Pick a prompt whose text is known, or type one on the Tokens page.",
            )
        )
        return False
    if present.model not in {"", live().name}:
        states.say(f"These results are of {present.model}; the switches run {live().name}.")
    return True


def _before(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """What the model predicts with its memory on, from the lens at the last layer."""
    if isinstance(present.lens, states.State):
        return
    shown = predictions.intact(present.lens.data, token=token)
    style.html(shown)
    export.tools(
        present.lens,
        bundle=None if present.live else scene.bundle,
        part=f"lens-table:{prompt.name}",
        call="",
        views=[f"predictions.intact(result.data, token={token})"],
        code=export.ran(live().source, "lens", f"table(model, {prompt.text!r})"),
        parts=lambda: [shown],
    )


def code(text: str, spec: Spec) -> str:
    """The lines that run an ablation again."""
    return export.ran(live().source, "ablation", _call(text, spec))


def code_of_both(text: str, one: Spec, other: Spec) -> str:
    """The lines that run two ablations of one text again and set them side by side."""
    first = export.ran(live().source, "ablation", _call(text, one)).replace("result = ", "a = ")
    return (
        f"{first}\nb = ablation.{_call(text, other)}\n\n"
        "from engram_interp.views import comparing\n\n"
        f"runs = {{{'A: ' + one.label!r}: a.data, {'B: ' + other.label!r}: b.data}}\n"
        "display(comparing.runs_table(runs))\ncomparing.runs_by_token(runs)"
    )


def _call(text: str, spec: Spec) -> str:
    given = {
        "layers": spec.layers,
        "orders": spec.orders,
        "heads": spec.heads,
        "swap": spec.swap,
        "everywhere": spec.everywhere or None,
        "seed": spec.seed or None,
    }
    more = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
    return f"compare(model, {text!r}, kind={spec.kind!r}, token={spec.token}{more})"


def _compared(found: AblationComparison, prompt: Prompt, spec: Spec) -> None:
    shown = predictions.columns(found.data)
    style.html(shown)
    lines = code(prompt.text, spec)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Draw the controls again", type="tertiary", key="redraw"):
            settings.DRAW.put(str(_seed() + 1))
            st.rerun()
        export.tools(
            found,
            bundle=None,
            part="switch-off",
            call="",
            views=["predictions.columns(result.data)"],
            code=lines,
            parts=lambda: [shown],
        )
    with st.expander("Every number, and the effect by token"):
        table = tables.prediction_table(found.data)
        style.html(table)
        style.figure(found.plot(theme=style.theme()), key="effect by token", alt=found.summary())
        states.say(found.summary())
        export.tools(
            found,
            bundle=None,
            part="switch-off",
            call="plot()",
            views=["tables.prediction_table(result.data)"],
            code=lines,
            parts=lambda: [table, found.plot()],
            drawn="effect by token",
        )
