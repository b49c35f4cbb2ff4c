"""What is open: the results that a report takes, gathered from the bundle and from this visit's runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from engram_interp.results import (
    AblationComparison,
    EditReport,
    GateReading,
    Result,
    SlotLookup,
)
from engram_interp.views import comparing
from engram_interp.views.page import Section
from engram_interp.views.tokens import shortened, visible
from explorer import ablate_form, bar, contexts, data_choice, neighbours, selection, settings, shelf
from explorer.live import attributed, live
from explorer.scene import Prompt, Scene, model_of
from explorer.spec import parse

CHAPTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "layers": (
        "Layers",
        ("depth", "lens-engram", "lens-baseline", "stitching", "lens-depth", "lens-depth-tuned",
         "second-opinions"),
    ),
    "tokens": ("Tokens", ("gates:chosen", "gate-statistics", "lens-table:chosen")),
    "memory": (
        "Memory",
        ("slots:chosen", "row", "promotion:chosen", "attribution:chosen", "slot-load", "gate-selectivity",
         "gate-usefulness", "gate-information", "edits"),
    ),
    "ablate": ("Ablation", ("runs", "ablation", "retained")),
    "others": ("Also in this bundle", ("others",)),
}  # fmt: skip
"""By chapter: its title and its parts; “chosen” is the prompt in the bar, “row” the row on Memory."""
_RUN = "ablation · "


@dataclass(frozen=True, kw_only=True)
class Open:
    """What is open, read from the visit once: a download is made after the page, outside of the visit.

    Attributes:
        bundle: its name.
        model: the model with memory that it is of; empty where it does not say.
        made: what its manifest says, without the list of parts.
        chapters: by title of the chapter, results by the name of their part.
        more: by title of the chapter, sections that are made of several results.
        left_out: by part that the bundle names, why it is not here.
        ngram: the one that read the chosen row, in canonical tokens; empty where that is not known.
        prompt: the name of the chosen prompt.
        called: what headings call it.
        token: the chosen token.
        layer: the chosen layer.
        stream: the chosen stream.
        set: what is set on the pages, by its name in links.
        link: the address of all this.
    """

    bundle: str
    model: str
    made: Mapping[str, Any]
    chapters: Mapping[str, Mapping[str, Result]]
    more: Mapping[str, Sequence[Callable[[], Section]]]
    left_out: Mapping[str, str]
    ngram: str
    prompt: str
    called: str
    token: int
    layer: int
    stream: str
    set: Mapping[str, str]
    link: str

    @property
    def results(self) -> dict[str, Result]:
        """Every result, by the name of its part."""
        return {name: one for found in self.chapters.values() for name, one in found.items()}


def opened(scene: Scene, prompt: Prompt | None, chapters: Sequence[str], *, link: str) -> Open:
    """What is open of the chapters that are named; what is damaged or missing is left out."""
    chosen = selection.current()
    found = {
        CHAPTERS[chapter][0]: {
            name: one for part in CHAPTERS[chapter][1] for name, one in _of(scene, prompt, part).items()
        }
        for chapter in chapters
    }
    return Open(
        bundle=scene.bundle.name,
        model=model_of(scene.bundle),
        made={str(name): value for name, value in scene.bundle.manifest.items() if name != "parts"},
        chapters=found,
        more={} if prompt is None else _more(scene, prompt, found),
        left_out=left_out(scene, prompt, chapters),
        ngram="" if prompt is None or (row := row_of(scene, prompt)) is None else row.ngram,
        prompt="" if prompt is None else prompt.name,
        called="" if prompt is None else (prompt.label if prompt.typed else prompt.name),
        token=max(chosen.token, 0),
        layer=chosen.layer,
        stream=chosen.stream,
        set={setting.param: setting.value for setting in settings.OF_PAGE["report"]},
        link=link,
    )


def _of(scene: Scene, prompt: Prompt | None, part: str) -> dict[str, Result]:
    """The results that a name of a part stands for."""
    if part == "runs":
        return {} if prompt is None else _runs(prompt)
    if part == "row":
        row = None if prompt is None else row_of(scene, prompt)
        return {} if row is None else _shared(scene, row)
    kind, _, chosen = part.partition(":")
    if chosen:
        found = None if prompt is None else _of_prompt(scene, prompt, kind)
        return {} if prompt is None or found is None else {f"{kind}:{prompt.name}": found}
    return {name: one for name in _names(scene, part) if (one := _read(scene, name)) is not None}


def _names(scene: Scene, part: str) -> list[str]:
    """The parts of the bundle that one name of a chapter's stands for."""
    if part == data_choice.MAIN:
        return data_choice.parts(scene.bundle)
    return {"edits": _edits, "others": _others}.get(part, lambda _: [part])(scene)


def _edits(scene: Scene) -> list[str]:
    return [name for name in scene.bundle if scene.bundle.kind(name) == EditReport.kind]


def _others(scene: Scene) -> list[str]:
    """What no chapter names: neither a page's own part nor one of a single prompt."""
    named = {part.partition(":")[0] for _, parts in CHAPTERS.values() for part in parts}
    known = {*named, "slot-census", *_edits(scene)}
    return [name for name in scene.bundle if name.partition(":")[0] not in known and name not in known]


def left_out(scene: Scene, prompt: Prompt | None, chapters: Sequence[str]) -> dict[str, str]:
    """By part of the chapters, why it is not in the report though the bundle names it."""
    torn: dict[str, str] = {}
    for part in [part for chapter in chapters for part in CHAPTERS[chapter][1]]:
        kind, _, chosen = part.partition(":")
        names = _names(scene, part)
        if chosen and prompt is not None:
            names = [kind if kind == "gates" else f"{kind}:{prompt.name}"]
        for name in [name for name in names if name in scene.bundle]:
            found = shelf.part(scene.bundle, name, what=name)
            torn |= {} if isinstance(found, Result) else {name: f"{found.what} {found.why}"}
    return torn


def _read(scene: Scene, name: str) -> Result | None:
    found = shelf.part(scene.bundle, name, what=name) if name in scene.bundle else None
    return found if isinstance(found, Result) else None


def _of_prompt(scene: Scene, prompt: Prompt, kind: str) -> Result | None:
    """What there is of the chosen prompt: of its live run where that is shown, else of the bundle."""
    if bar.runs_live(prompt):
        return _ran(prompt).get(kind)
    if kind in {"promotion", "attribution"}:
        return stored(scene, prompt, kind) or _attributed(prompt).get(kind)
    if kind != "gates":
        return _read(scene, f"{kind}:{prompt.name}")
    found = _read(scene, "gates")
    if prompt.row is None or not isinstance(found, GateReading):
        return None
    return GateReading(data=found.data.isel(prompt=[prompt.row], token=slice(0, prompt.tokens)))


def stored(scene: Scene, prompt: Prompt, kind: str) -> Result | None:
    """What the bundle holds of the chosen token: one of "promotion" and "attribution"."""
    found = _read(scene, f"{kind}:{prompt.name}")
    of_token = found is not None and int(found.data["token_index"]) == selection.current().token
    return found if of_token else None


def _ran(prompt: Prompt) -> dict[str, Result]:
    """What live runs found of the prompt and are done with, by kind."""
    reading = live().finished(prompt.text)
    found: dict[str, Result] = (
        {}
        if reading is None
        else {"gates": reading.gates, "slots": reading.slots, "lens-table": reading.lens}
    )
    return found | _attributed(prompt)


def _attributed(prompt: Prompt) -> dict[str, Result]:
    """What a live run found of the chosen token's reads, if it was asked for and is done."""
    found = attributed(prompt.text, token=selection.current().token) if settings.LIVE.value == "on" else None
    return {} if found is None else {"promotion": found.promotion, "attribution": found.memory}


def _runs(prompt: Prompt) -> dict[str, Result]:
    """The ablations of this prompt that were run in this visit and are done."""
    done = {
        f"{_RUN}{run.label}": live().compared(prompt.text, run) for run in ablate_form.history(prompt, [])
    }
    return {name: found for name, found in done.items() if isinstance(found, AblationComparison)}


@dataclass(frozen=True, kw_only=True)
class Row:
    """The row of the memory that is chosen: whose read it is, and which column of the slots."""

    slots: SlotLookup
    token: int
    layer: int
    order: int
    column: int

    @property
    def ngram(self) -> str:
        """The n-gram that read it, in canonical tokens."""
        return str(self.slots.data["ngram"].sel(token=self.token, order_index=self.order).item())


def row_of(scene: Scene, prompt: Prompt) -> Row | None:
    """The row that is chosen on Memory, the first where none is; None where the slots are not known."""
    slots = _of_prompt(scene, prompt, "slots")
    if not isinstance(slots, SlotLookup):
        return None
    token = max(min(selection.current().token, slots.data.sizes["token"] - 1), 0)
    layer = nearest(slots, selection.current().layer)
    names = list(neighbours.columns(slots, token=token, layer=layer))
    name = settings.SLOT.value if settings.SLOT.value in names else names[0]
    order = int(name.partition(".")[0])
    return Row(slots=slots, token=token, layer=layer, order=order, column=names.index(name))


def _shared(scene: Scene, row: Row) -> dict[str, Result]:
    """Who shares a row, as far as it is known."""
    found = neighbours.known(scene, row.slots, token=row.token, layer=row.layer, column=row.column)
    if found is None:
        return {}
    both = {"occupants": found.neighbours.occupants, "colliders": found.neighbours.colliders}
    return {
        f"{name} of “{shortened(visible(found.ngram))}”": one for name, one in both.items() if one is not None
    }


def _more(
    scene: Scene, prompt: Prompt, found: Mapping[str, Mapping[str, Result]]
) -> dict[str, list[Callable[[], Section]]]:
    """Where the chosen n-gram stands in the prompts; two runs beside each other."""
    made: dict[str, list[Callable[[], Section]]] = {}
    row = row_of(scene, prompt) if "Memory" in found else None
    if row is not None:
        stands = contexts.known(scene, row.slots, token=row.token, layer=row.layer, order=row.order)
        if stands is not None:
            made["Memory"] = [lambda: Section(title=f"Memory: {stands[0]}", parts=[stands[1]])]
    specs = [parse(settings.SPEC.value), parse(settings.BESIDE.value)]
    runs = {
        f"{title}: {spec.label}": one.data
        for title, spec in zip("AB", specs, strict=True)
        if spec and (one := found.get("Ablation", {}).get(f"{_RUN}{spec.label}"))
    }
    if len(runs) == 2:
        made["Ablation"] = [lambda: _beside(runs)]
    return made


def _beside(runs: Mapping[str, xr.Dataset]) -> Section:
    parts = [comparing.runs_table(runs), comparing.runs_by_token(runs)]
    return Section(title="Ablation: run A beside run B", parts=parts)


def nearest(result: Result, layer: int) -> int:
    """The layer of a result that is nearest to the chosen one."""
    return min((int(one) for one in result.data["layer"].values), key=lambda one: abs(one - layer))
