"""What there is to choose from in a bundle: prompts, layers, streams."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from engram_interp.errors import InputError
from engram_interp.results import Bundle, GateReading, wording
from engram_interp.views.tokens import shortened, unhidden
from explorer import shared

TYPED = "typed-"
_MOST = 100_000
"""Layers or tokens that a list can offer; a manifest that says more is not believed."""
_MINE = "prompts this visitor typed"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a live run of a prompt says of the model that ran."""

    layers: int
    memory_layers: tuple[int, ...]
    streams: int


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One text to look at.

    Attributes:
        name: its name in links.
        text: the text itself; empty where the bundle does not hold it.
        row: its number in the gate reading; None if that has none of it.
        tokens: how many tokens it has; None while nobody has counted.
        start: the token to look at first, where the bundle's maker named one.
        whole: whether the bundle holds its slots and its lens table.
        typed: whether a reader typed it here.
        ran: the model of its live run, where that is shown and was done when the bar was drawn.
    """

    name: str
    text: str = ""
    row: int | None = None
    tokens: int | None = None
    start: int | None = None
    whole: bool = False
    typed: bool = False
    ran: Ran | None = None

    @property
    def label(self) -> str:
        """How the prompt is called in a list."""
        if self.typed:
            return f"typed: {unhidden(shortened(self.text, most=200))}"
        return f"{self.name} · with slots and lens" if self.whole else self.name


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What can be chosen; sizes are 0 where no part of the bundle tells them."""

    bundle: Bundle
    prompts: Mapping[str, Prompt]
    layers: int
    baseline_layers: int
    memory_layers: tuple[int, ...]
    streams: int


def scene_of(bundle: Bundle, *, also: str = "") -> Scene:
    """The choices that `bundle` offers, with the prompts typed in this session and the one named `also`."""
    prompts = _prompts(bundle)
    gates = _gates(bundle)
    lens = [name for name in bundle if bundle.kind(name) in {"lens_convergence", "lens_table"}]
    layers = _size(bundle, ["depth", *lens], "layer")
    return Scene(
        bundle=bundle,
        prompts={**{prompt.name: prompt for prompt in typed_prompts(also=also)}, **prompts},
        layers=layers,
        baseline_layers=_size(bundle, ["depth", "lens-baseline"], ("baseline_layer", "layer")),
        memory_layers=_stated(bundle) if gates is None else tuple(map(int, gates.data["layer"].values)),
        streams=0 if gates is None else gates.data.sizes["stream"],
    )


def offered(scene: Scene, prompt: Prompt | None) -> Scene:
    """What can be chosen for `prompt`: of a live run, the layers and streams of the model that ran."""
    if prompt is None or prompt.ran is None:
        return scene
    ran = prompt.ran
    return replace(scene, layers=ran.layers, memory_layers=ran.memory_layers, streams=ran.streams)


def _size(bundle: Bundle, parts: list[str], dims: str | tuple[str, ...]) -> int:
    """The first size of one of `dims` that the manifest gives for one of `parts`."""
    for name in parts:
        entry = bundle.manifest["parts"].get(name) if name in bundle else None
        shapes = entry.get("shapes") if isinstance(entry, dict) else None
        for dim in (dims,) if isinstance(dims, str) else dims:
            size = shapes.get(dim) if isinstance(shapes, dict) else None
            if isinstance(size, int) and 0 < size <= _MOST:
                return size
    return 0


def _gates(bundle: Bundle) -> GateReading | None:
    """The gates, or None where they are missing or damaged; the page that shows them says why."""
    try:
        found = bundle["gates"]
    except InputError:
        return None
    return found if isinstance(found, GateReading) else None


def _prompts(bundle: Bundle) -> dict[str, Prompt]:
    found: dict[str, Prompt] = {}
    gates = _gates(bundle)
    if gates is not None:
        data = gates.data
        names = data["prompt_id"] if "prompt_id" in data else data["prompt"]
        counts = (data["token_id"].values >= 0).sum(axis=1)
        for row, (name, text) in enumerate(zip(names.values, data["prompt_text"].values, strict=True)):
            called = wording.encodable(str(name))
            found[called] = Prompt(name=called, text=str(text), row=row, tokens=int(counts[row]))
    for part in bundle:
        kind, _, name = part.partition(":")
        if name and kind in {"lens-table", "slots"} and name not in found:
            found[name] = Prompt(name=name, tokens=_size(bundle, [part], "token") or None)
    starts = _starts(bundle)
    for name, prompt in found.items():
        whole = f"slots:{name}" in bundle and f"lens-table:{name}" in bundle
        found[name] = replace(prompt, start=starts.get(name), whole=whole)
    return dict(sorted(found.items(), key=lambda item: not item[1].whole))


def _stated(bundle: Bundle) -> tuple[int, ...]:
    """The memory layers that the bundle's maker noted of the model."""
    models = bundle.meta.get("models")
    one = models.get("engram") if isinstance(models, dict) else None
    layers = one.get("memory_layers") if isinstance(one, dict) else None
    whole = [layer for layer in layers if type(layer) is int] if isinstance(layers, list) else []
    return tuple(layer for layer in whole if 0 <= layer < _MOST)


def model_of(bundle: Bundle) -> str:
    """The name of the model with memory that the bundle is of; empty where it does not say."""
    models = bundle.meta.get("models")
    one = models.get("engram") if isinstance(models, dict) else None
    return str(one.get("name", "")) if isinstance(one, dict) else ""


def _starts(bundle: Bundle) -> dict[str, int]:
    """The token to look at first, by prompt, as the bundle's maker noted it."""
    noted = bundle.meta.get("examples")
    found = [entry for entry in noted if isinstance(entry, dict)] if isinstance(noted, list) else []
    return {
        str(one["id"]): one["token"] for one in found if "id" in one and isinstance(one.get("token"), int)
    }


def typed_prompts(*, also: str = "") -> list[Prompt]:
    """What this visitor typed, the latest first; another's text only where a link names it (`also`)."""
    names = dict.fromkeys([*reversed(st.session_state.get(_MINE, [])), *([also] if also else [])])
    texts = {name: shared.text_of(name) for name in names if name.startswith(TYPED)}
    return [Prompt(name=name, text=text, typed=True) for name, text in texts.items() if text]


def remember(text: str) -> Prompt:
    """Keep a typed text under a name that a link can carry; the link never carries the text."""
    name = shared.remember("typed", text)
    mine: list[str] = st.session_state.setdefault(_MINE, [])
    mine[:] = [*(one for one in mine if one != name), name]
    return Prompt(name=name, text=text, typed=True)


def first_token(scene: Scene, prompt: Prompt) -> int:
    """The token its bundle names; else where a gate is widest open; of a typed prompt the last."""
    last = (prompt.tokens or 1) - 1
    if prompt.start is not None and 0 <= prompt.start <= last:
        return prompt.start
    gates = _gates(scene.bundle)
    if prompt.row is None or gates is None:
        return last
    gate = gates.data["gate"].values[prompt.row].max(axis=(0, 1))
    return last if np.isnan(gate).all() else min(int(np.nanargmax(gate)), last)
