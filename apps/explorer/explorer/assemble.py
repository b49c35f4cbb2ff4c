"""What is open, as sections of one page that needs neither this tool nor a network."""

from collections.abc import Iterator, Mapping

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
        ("slots:chosen", "promotion:chosen", "attribution:chosen", "slot-load", "gate-selectivity",
         "gate-usefulness", "edits"),
    ),
    "ablate": ("Ablation", ("runs", "ablation", "retained")),
}  # fmt: skip
"""By chapter: its title and its parts; “chosen” is the prompt in the bar."""
WINDOW = 24


def results(scene: Scene, prompt: Prompt | None, chapters: list[str]) -> dict[str, Result]:
    """Every result of the chapters, by the name of its part; what is damaged or missing is left out."""
    found: dict[str, Result] = {}
    for chapter in chapters:
        for part in CHAPTERS[chapter][1]:
            found |= _of(scene, prompt, part)
    return found


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
    spec = parse(selection.current().settings.get("spec", ""))
    if spec is None:
        return {}
    done = {
        f"ablation · {run.label}": live().compared(prompt.text, run)
        for run in ablate_form.history(prompt, spec)
    }
    return {name: found for name, found in done.items() if isinstance(found, AblationComparison)}


def page(scene: Scene, prompt: Prompt | None, chapters: list[str], *, note: str, link: str) -> str:
    """The page as text.

    Args:
        scene: of the open bundle.
        prompt: the one in the bar.
        chapters: names of `CHAPTERS`, in order.
        note: a reader's own words, shown first.
        link: the address of what is open.
    """
    sections: list[Section] = []
    if note.strip():
        sections.append(Section(title="Note", parts=[line for line in note.splitlines() if line.strip()]))
    for chapter in chapters:
        title = CHAPTERS[chapter][0]
        for name, result in results(scene, prompt, [chapter]).items():
            sections.append(Section(title=f"{title}: {name}", parts=list(_parts(result, prompt))))
    manifest = {
        "bundle": scene.bundle.name,
        "link": link,
        **{str(name): value for name, value in scene.bundle.manifest.items() if name != "parts"},
    }
    lead = f"From the bundle “{scene.bundle.name}”, as it was open in the explorer."
    return html_page(
        title=f"Engram explorer: {scene.bundle.name}", lead=lead, sections=sections, manifest=manifest
    )


def _parts(result: Result, prompt: Prompt | None) -> Iterator[Part]:
    """The sentence of a result, its figure or strip, and its numbers."""
    token, layer = selection.current().token, selection.current().layer
    yield result.summary()
    if isinstance(result, GateReading):
        row = 0 if prompt is None or prompt.row is None else prompt.row
        yield gate_strip(result.data, prompt=int(result.data["prompt"].values[row]), rows="all")
        return
    if isinstance(result, LensTable):
        last = result.data.sizes["token"]
        start = max(0, min(token - WINDOW // 2, last - WINDOW))
        yield lens_window(result.data, start=start, stop=min(last, start + WINDOW))
        return
    if isinstance(result, SlotLookup):
        layers = [int(one) for one in result.data["layer"].values]
        nearest = min(layers, key=lambda one: abs(one - layer))
        yield tables.slot_table(result.data, token=min(token, result.data.sizes["token"] - 1), layer=nearest)
        return
    if isinstance(result, AblationComparison):
        yield tables.prediction_table(result.data)
    if isinstance(result, MemoryPromotion | MemoryAttribution):
        yield f"Of token {int(result.data['token_index'])}."
    yield result.plot()
