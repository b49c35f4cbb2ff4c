"""Switching the memory off at one token, beside two controls, and watching the predictions move."""

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from engram_interp.results import AblationComparison, wording
from engram_interp.views import predictions, tables
from engram_interp.views.markup import element
from explorer import ablate_form, bar, earlier, export, readings, selection, settings, shelf, states, style
from explorer.live import live
from explorer.live_results import unknown_words
from explorer.scene import Prompt, Scene
from explorer.spec import BY_ROWS, KINDS, Spec, parse
from explorer.waiting import result_of

_NO_ORDERS = "none"
CHOICES: Mapping[str, str] = {"on": "on"} | {str(kind): said for kind, said in KINDS.items()}


def show(scene: Scene, prompt: Prompt, present: readings.Present, *, token: int) -> None:
    """The switches, and what they do to the prediction after `token`."""
    style.html(element("h2", "Would it predict the same without?", class_="engram-title"))
    if not possible(prompt, present):
        return
    switches = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="switches")
    kind = settings.segmented(switches, "Memory", settings.MEMORY, say=CHOICES.__getitem__)
    where = {"here": f"at token {token}", "everywhere": "at every token"}
    settings.segmented(switches, "Where", settings.WHERE, say=where.__getitem__)
    orders = _orders(present)
    _set_orders_right(orders)
    if kind in BY_ROWS and len(orders) > 1:
        _pick_orders(switches, orders)
    if kind == "on":
        states.say(
            "The memory is on. Choose “rows → 0”, “gate → 0” or “output off” to see what the prediction "
            f"after token {token} loses; two controls run beside it: other rows at the same place, and a "
            "change of the same size."
        )
        _before(scene, prompt, present, token=token)
        return
    spec = wanted(present, token=token)
    if spec is None:
        states.say("No n-grams are switched off; choose at least one order.")
        return
    found = result_of(live().compare(prompt.text, spec), what="Switching off", panel="switch-off")
    if found is not None:
        ablate_form.history(prompt, [spec])
        _compared(found, prompt, spec)


def wanted(present: readings.Present, *, token: int) -> Spec | None:
    """What the switches switch off; None where the memory is on, or no order is chosen."""
    spec = parse(f"{settings.MEMORY.value}:t{token}")
    if spec is None:
        return None
    everywhere = settings.WHERE.value == "everywhere"
    orders = _orders(present)
    chosen = _chosen(orders) if spec.kind in BY_ROWS and len(orders) > 1 else orders
    if orders and not chosen:
        return None
    limited = tuple(chosen) if chosen != orders else None
    return replace(spec, everywhere=everywhere, orders=limited, seed=_seed())


def _orders(present: readings.Present) -> list[int]:
    """Lengths of the n-grams of the model that runs; none where they are not known."""
    return sorted(readings.orders(present)) if readings.of_live_model(present) else []


def _chosen(orders: list[int]) -> list[int]:
    """Which lengths of n-grams are switched off: all of them until somebody chooses."""
    asked = settings.ORDERS.value
    chosen = [order for order in orders if str(order) in asked.split(",")]
    return chosen if chosen or asked == _NO_ORDERS else list(orders)


def _set_orders_right(orders: list[int]) -> None:
    """Take a link's lengths of n-grams only where the model has them, also while the memory is on."""
    asked = settings.ORDERS.value
    if not orders or asked in {"", _NO_ORDERS}:
        return
    wrong = [one for one in asked.split(",") if one not in map(str, orders)]
    if wrong:
        settings.ORDERS.put(",".join(one for one in asked.split(",") if one not in wrong))
        taken = settings.ORDERS.value or "all of them"
        selection.note(
            f"n={asked}: n-grams have {wording.listed(orders)} tokens here; "
            f"{taken} {'are' if taken == 'all of them' or ',' in taken else 'is'} taken."
        )


def _pick_orders(place: DeltaGenerator, orders: list[int]) -> None:
    setting = settings.ORDERS
    st.session_state[setting.key] = _chosen(orders)
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


def _seed() -> int:
    """Which draw of the controls is shown."""
    return int(settings.DRAW.value or 0)


def possible(prompt: Prompt, present: readings.Present) -> bool:
    """Whether `prompt` can be run here; says why not, or that another model would run it."""
    if live().missing or not prompt.text:
        states.show(
            states.State(
                what="Nothing can be switched off here.",
                why=live().missing or shelf.no_text(bar.scene().bundle),
                todo="Pick a prompt whose text is known, or type one above.",
            )
        )
        return False
    if not readings.of_live_model(present):
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
        said=present.lens.said_of(token),
        rows={"token": [token]},
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
        "streams": spec.streams,
        "tokens": spec.tokens,
        "swap": spec.swap,
        "everywhere": spec.everywhere or None,
        "seed": spec.seed or None,
    }
    more = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
    return f"compare(model, {text!r}, kind={spec.kind!r}, token={spec.token}{more})"


def _compared(found: AblationComparison, prompt: Prompt, spec: Spec) -> None:
    shown = predictions.columns(found.data)
    style.html(shown)
    if not prompt.typed and unknown_words(found):  # of a typed text the strip has said so
        states.say(unknown_words(found))
    earlier.keep("switch-off", of=f"{spec.label}, {prompt.label}", draw=lambda: style.html(shown))
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
    with settings.fold("Every number, and the effect by token", key="switch-off numbers"):
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
