"""What is known about one prompt, from the bundle or from a live run, in one form."""

from dataclasses import dataclass

import streamlit as st
import xarray as xr

from engram_interp.results import GateReading, LensTable, Result, SlotLookup
from explorer import bar, earlier, settings, shelf
from explorer.live import live
from explorer.live_results import Reading
from explorer.scene import Prompt, Scene
from explorer.states import State
from explorer.waiting import result_of


@dataclass(frozen=True, kw_only=True)
class Present:
    """One prompt: its tokens, and gates, slots and lens or why they are not there.

    Attributes:
        tokens: text by position.
        gate: gate[layer, stream, token].
        gates: the reading it comes from, for exports; None where only the slots carry it.
        prompt: its number in that reading.
        slots: which rows each token read.
        lens: what each layer would predict.
        origin: which model, and whether it ran now.
        live: whether it ran now.
        model: which model the numbers are of; empty where the bundle does not say.
        cut: what to say of a text that the model's context does not hold; None if it does.
        notes: words that the model that ran does not know, in a sentence; empty where there are none.
    """

    tokens: list[str]
    gate: xr.DataArray | State
    slots: SlotLookup | State
    lens: LensTable | State
    origin: str
    gates: GateReading | None = None
    prompt: int = 0
    live: bool = False
    model: str = ""
    cut: State | None = None
    notes: str = ""


def present(prompt: Prompt) -> Present | State | None:
    """What there is of `prompt`; None where the progress of a live run, or its failure, is shown instead."""
    if bar.runs_live(prompt):
        found = result_of(live().read(prompt.text), what=f"Running {live().name}", panel=earlier.READING)
        if found is not None and prompt.ran is None:
            st.rerun()  # the bar above was drawn before the run was done
        return None if found is None else _of_reading(found)
    return _of_bundle(bar.scene(), prompt)


def offer_live(prompt: Prompt, *, key: str) -> None:
    """A button that runs a prompt of the bundle on the live model."""
    if prompt.text and not live().missing:
        st.button(f"Run it with {live().name}", key=f"run {key}", on_click=settings.RUN.put, args=("live",))


def _of_reading(reading: Reading) -> Present:
    data = reading.gates.data.isel(prompt=0)
    return Present(
        tokens=[str(text) for text in data["token_text"].values],
        gate=data["gate"],
        slots=reading.slots,
        lens=reading.lens,
        origin=f"run now by {live().name}",
        gates=reading.gates,
        prompt=int(reading.gates.data["prompt"].values[0]),
        live=True,
        model=live().name,
        cut=_cut(reading),
        notes=reading.notes,
    )


def _cut(reading: Reading) -> State | None:
    if reading.given <= reading.analysed:
        return None
    return State(
        what=f"The text has {reading.given:,} tokens; the context holds {reading.analysed:,}.",
        why=f"The first {reading.analysed:,} were analysed, and all that is shown below is theirs.",
        todo="Shorten the text to have all of it analysed.",
    )


def _of_bundle(scene: Scene, prompt: Prompt) -> Present | State:
    gates = shelf.part(scene.bundle, "gates", what="gates")
    slots = _one(scene, "slots", prompt, what="slots")
    lens = _one(scene, "lens-table", prompt, what="lens table")
    gate: xr.DataArray | State
    whole, number = None, 0
    if isinstance(gates, GateReading) and prompt.row is not None:
        whole, number = gates, int(gates.data["prompt"].values[prompt.row])
        data = gates.data.isel(prompt=prompt.row, token=slice(0, prompt.tokens))
        gate, tokens = data["gate"], data["token_text"]
    elif isinstance(slots, SlotLookup):
        gate, tokens = slots.data["gate"].transpose("layer", "stream", "token"), slots.data["token_text"]
    elif isinstance(lens, LensTable):
        gate, tokens = gates if isinstance(gates, State) else _none("gates", prompt), lens.data["token_text"]
    else:
        return gates if isinstance(gates, State) else _none("gates", prompt)
    return Present(
        tokens=[str(text) for text in tokens.values.tolist()],
        gate=gate,
        slots=slots if isinstance(slots, SlotLookup | State) else _none("slots", prompt),
        lens=lens if isinstance(lens, LensTable | State) else _none("lens table", prompt),
        origin=f"from the bundle “{scene.bundle.name}”",
        gates=whole,
        prompt=number,
        model=next((m for found in (gates, slots, lens) if (m := _model(found))), ""),
    )


def _model(found: object) -> str:
    return str(found.data.attrs.get("model", "")) if isinstance(found, Result) else ""


def _one(scene: Scene, kind: str, prompt: Prompt, *, what: str) -> object:
    """The part of `kind` for `prompt`, or the state that says which prompts have one."""
    name = f"{kind}:{prompt.name}"
    if name in scene.bundle:
        return shelf.part(scene.bundle, name, what=what)
    having = [part.partition(":")[2] for part in scene.bundle if part.startswith(f"{kind}:")]
    if not having:
        return shelf.part(scene.bundle, name, what=f"{what} for this prompt")
    few = ", ".join(having[:6]) + (f" and {len(having) - 6} more" if len(having) > 6 else "")
    return State(
        what=f"No {what} for this prompt in this bundle.",
        why=f"The bundle keeps a {what.removesuffix('s')} for some prompts only: {few}.",
        todo="Pick one of these, or run this prompt with the live model.",
    )


def _none(what: str, prompt: Prompt) -> State:
    return State(
        what=f"No {what} for “{prompt.name}”.",
        why=f"The part of the bundle that would hold its {what} is of another kind.",
        todo="Pick another prompt in the bar above.",
    )


def of_live_model(present: Present) -> bool:
    """Whether what is shown is of the model that runs here, as far as it says so."""
    return present.model in {"", live().name}


def orders(present: Present) -> list[int]:
    """Lengths of the n-grams that were looked up; none where the slots are not there."""
    if isinstance(present.slots, SlotLookup):
        return [int(order) for order in present.slots.data["order_index"].values]
    return []


def parts(present: Present) -> dict[str, list[int]]:
    """What of the model an ablation can be limited to; what is not known is left out."""
    found: dict[str, list[int]] = {}
    if not isinstance(present.gate, State):
        found["layers"] = [int(layer) for layer in present.gate["layer"].values]
        found["streams"] = list(range(present.gate.sizes["stream"]))
    if isinstance(present.slots, SlotLookup):
        found["orders"] = orders(present)
        found["heads"] = sorted({int(head) for head in present.slots.data["head"].values})
    return found
