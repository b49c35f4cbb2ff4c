"""The guided tour: find the planted fact, in five steps over the pages, on a model with known answers."""

from dataclasses import dataclass

import streamlit as st

from engram_interp.views.markup import element
from explorer import selection, settings, shelf, style
from explorer.live import PLANTED

PROMPT = "fact-amri"
END = 4
SPEC = "rows_zero:t4"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One stop of the tour.

    Attributes:
        page: where it is.
        title: what to find.
        look: what to do and what should be seen.
        token: the token that is chosen there.
        chosen: settings of the page.
    """

    page: str
    title: str
    look: str
    token: int = END
    chosen: tuple[tuple[str, str], ...] = ()


STEPS = (
    Step(
        page="tokens",
        title="Which token?",
        look="The words mean nothing, but one fact was written into this model’s memory by hand. Walk the "
        "tokens with the arrow keys, Enter picks one: all gates stand at 0.5, neutral, until one opens. "
        "Which?",
        token=1,
    ),
    Step(
        page="tokens",
        title="“vel” after “zor”",
        look="At “vel” the gate of layer 1 is at 0.996, and the model predicts “amri”, which it did not one "
        "token before. An open gate is not yet a proof: the rows come next.",
    ),
    Step(
        page="memory",
        title="Which rows?",
        look="Three rows of the 2-gram “zor vel” hold the fact, with shares of 0.50, 0.25 and 0.25; all "
        "others give nothing. Beside them: who lives in the third, row 610? “kal dal” collides there, in "
        "one head of three, and so reads a quarter of a fact that is not its own.",
        chosen=(("slot", "2.2"),),
    ),
    Step(
        page="ablate",
        title="Does it matter?",
        look="The rows of this one token are set to zero, live: “amri” falls from 0.973 to 0.002. A change "
        "of the same size in a random direction leaves it at 0.690 (up to 0.840 in eight draws); other rows "
        "of the same heads, which do not hold the fact, take it to 0.002 as well. What mattered is what "
        "stood in these rows.",
        chosen=(("spec", SPEC),),
    ),
    Step(
        page="tokens",
        title="Now a model that learnt",
        look="You found the fact. The bundled pair learnt from text, so nobody knows its answers: gates, "
        "rows and ablations there stand beside their nulls and controls for that reason.",
    ),
)


def invite() -> None:
    """The way into the tour, on the first page."""
    if PLANTED not in shelf.shelf().bundles:
        return
    with st.container(border=True, key="tour invitation"):
        style.html(
            element(
                "p",
                element("b", "New here? Find the planted fact."),
                " Five steps, two minutes, on a model whose one right answer is known.",
                class_="engram-tour",
            )
        )
        if st.button("Start the tour", key="tour start", type="primary"):
            _go(1)


def show() -> None:
    """The step, below the bar, while the tour is on."""
    if not settings.TOUR.value:
        return
    number = int(settings.TOUR.value)
    step = STEPS[number - 1]
    with st.container(border=True, key="tour step"):
        style.html(
            element(
                "p",
                element("b", f"Tour {number} of {len(STEPS)} · {step.title}"),
                f" {step.look}",
                class_="engram-tour",
            )
        )
        with st.container(horizontal=True, gap="small"):
            if number > 1 and st.button("Back", key="tour back"):
                _go(number - 1)
            if number < len(STEPS):
                if st.button("Next", key="tour next", type="primary"):
                    _go(number + 1)
            elif _others() and st.button("Open the bundled pair", key="tour done", type="primary"):
                _leave()
            st.button("End the tour", key="tour end", on_click=lambda: settings.TOUR.put(""))


def _go(number: int) -> None:
    """Open a step: its page, with what is chosen there."""
    step = STEPS[number - 1]
    selection.choose(bundle=PLANTED)
    selection.choose(prompt=PROMPT)
    selection.choose(token=step.token, layer=1, stream="all")
    selection.set_to(tour=str(number), **dict(step.chosen))
    st.switch_page(st.session_state["pages"][step.page])


def _others() -> list[str]:
    """The bundles to go on to; none where the planted one was opened alone."""
    return [name for name in shelf.shelf().bundles if name != PLANTED]


def _leave() -> None:
    settings.TOUR.put("")
    selection.choose(bundle=_others()[0], prompt="", layer=-1)
    st.switch_page(st.session_state["pages"]["overview"])
