"""What is open, as sections of one page that needs neither this tool nor a network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engram_interp.results import (
    AblationComparison,
    EditReport,
    GateReading,
    LensTable,
    MemoryAttribution,
    MemoryPromotion,
    Result,
    SlotLookup,
)
from engram_interp.views import tables
from engram_interp.views.page import Part, Section, html_page
from engram_interp.views.strips import gate_strip, lens_window
from explorer import ablate_form, selection, shelf
from explorer.live import live
from explorer.scene import Prompt, Scene

CHAPTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "layers": (
        "Layers",
        ("depth", "lens-engram", "lens-baseline", "stitching", "lens-depth", "lens-depth-tuned",
         "second-opinions"),
    ),
    "tokens": ("Tokens", ("gates:chosen", "gate-statistics", "lens-table:chosen")),
    "memory": (
        "Memory",
        ("slots:chosen", "promotion:chosen", "attribution:chosen", "slot-load", "gate-selectivity",
         "gate-usefulness", "gate-information", "edits"),
    ),
    "ablate": ("Ablation", ("runs", "ablation", "retained")),
}  # fmt: skip
"""By chapter: its title and its parts; “chosen” is the prompt in the bar."""
WINDOW = 24


@dataclass(frozen=True, kw_only=True)
class Open:
    """What is open, read from the visit once: a download is made after the page, outside of the visit.

    Attributes:
        bundle: its name.
        made: what its manifest says, without the list of parts.
        chapters: by title of the chapter, results by the name of their part.
        prompt: the number of the chosen prompt in the gate reading.
        token: the chosen token.
        layer: the chosen layer.
        link: the address of all this.
    """

    bundle: str
    made: Mapping[str, Any]
    chapters: Mapping[str, Mapping[str, Result]]
    prompt: int
    token: int
    layer: int
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
        made={str(name): value for name, value in scene.bundle.manifest.items() if name != "parts"},
        chapters=found,
        prompt=0 if prompt is None or prompt.row is None else prompt.row,
        token=max(chosen.token, 0),
        layer=chosen.layer,
        link=link,
    )


def _of(scene: Scene, prompt: Prompt | None, part: str) -> dict[str, Result]:
    """The results that a name of a part stands for."""
    if part == "runs":
        return {} if prompt is None else _runs(prompt)
    kind, _, chosen = part.partition(":")
    reading = None if prompt is None else live().finished(prompt.text)
    if chosen and prompt is not None and reading is not None and prompt.typed:
        ran: dict[str, Result] = {"gates": reading.gates, "slots": reading.slots, "lens-table": reading.lens}
        return {f"{kind}:{prompt.name}": ran[kind]} if kind in ran else {}
    if part == "edits":
        names = [name for name in scene.bundle if scene.bundle.kind(name) == EditReport.kind]
    elif kind == "gates":
        names = ["gates"]
    else:
        names = [part if not chosen else f"{kind}:{'' if prompt is None else prompt.name}"]
    read = {name: shelf.part(scene.bundle, name, what=name) for name in names if name in scene.bundle}
    return {name: one for name, one in read.items() if isinstance(one, Result)}


def _runs(prompt: Prompt) -> dict[str, Result]:
    """The ablations of this prompt that were run in this visit and are done."""
    done = {
        f"ablation · {run.label}": live().compared(prompt.text, run)
        for run in ablate_form.history(prompt, [])
    }
    return {name: found for name, found in done.items() if isinstance(found, AblationComparison)}


def page(shown: Open, *, note: str) -> str:
    """The page as text; `note` are a reader's own words, shown first."""
    sections: list[Section] = []
    if note.strip():
        sections.append(Section(title="Note", parts=[line for line in note.splitlines() if line.strip()]))
    for title, found in shown.chapters.items():
        for name, result in found.items():
            sections.append(Section(title=f"{title}: {name}", parts=list(_parts(result, shown))))
    return html_page(
        title=f"Engram explorer: {shown.bundle}",
        lead=f"From the bundle “{shown.bundle}”, as it was open in the explorer.",
        sections=sections,
        manifest={"bundle": shown.bundle, "link": shown.link, **shown.made},
    )


def _parts(result: Result, shown: Open) -> Iterator[Part]:
    """The sentence of a result, its figure or strip, and its numbers."""
    yield result.summary()
    if isinstance(result, GateReading):
        prompts = result.data["prompt"].values
        yield gate_strip(result.data, prompt=int(prompts[min(shown.prompt, len(prompts) - 1)]), rows="all")
        return
    if isinstance(result, LensTable):
        last = result.data.sizes["token"]
        start = max(0, min(shown.token - WINDOW // 2, last - WINDOW))
        yield lens_window(result.data, start=start, stop=min(last, start + WINDOW))
        return
    if isinstance(result, SlotLookup):
        layers = [int(one) for one in result.data["layer"].values]
        nearest = min(layers, key=lambda one: abs(one - shown.layer))
        token = min(shown.token, result.data.sizes["token"] - 1)
        yield tables.slot_table(result.data, token=token, layer=nearest)
        return
    if isinstance(result, AblationComparison):
        yield tables.prediction_table(result.data)
    if isinstance(result, MemoryPromotion | MemoryAttribution):
        yield f"Of token {int(result.data['token_index'])}."
    yield result.plot()
    if isinstance(result, AblationComparison) and not result.unread:
        yield result.plot(view="lens")
