"""What is open, as sections of one page that needs neither this tool nor a network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import plotly.graph_objects as go

from engram_interp.results import (
    AblationComparison,
    ConvergenceResult,
    DepthResult,
    EditReport,
    GateReading,
    LensTable,
    MemoryAttribution,
    MemoryPromotion,
    Result,
    RetainedPerformance,
    SlotLookup,
)
from engram_interp.views import similarity, tables
from engram_interp.views.curves import Quantity
from engram_interp.views.markup import Html
from engram_interp.views.page import Part, Section, html_page
from engram_interp.views.strips import Rows, gate_strip, lens_window
from explorer import ablate_form, bar, selection, settings, shelf
from explorer.attribution import View
from explorer.live import attributed, live
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
        prompt: the name of the chosen prompt.
        called: what headings call it.
        token: the chosen token.
        layer: the chosen layer.
        stream: the chosen stream.
        set: what is set on the pages, by its name in links.
        link: the address of all this.
    """

    bundle: str
    made: Mapping[str, Any]
    chapters: Mapping[str, Mapping[str, Result]]
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
        made={str(name): value for name, value in scene.bundle.manifest.items() if name != "parts"},
        chapters=found,
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
    kind, _, chosen = part.partition(":")
    if chosen:
        found = None if prompt is None else _of_prompt(scene, prompt, kind)
        return {} if prompt is None or found is None else {f"{kind}:{prompt.name}": found}
    edits = [name for name in scene.bundle if scene.bundle.kind(name) == EditReport.kind]
    read = {name: _read(scene, name) for name in (edits if part == "edits" else [part])}
    return {name: one for name, one in read.items() if one is not None}


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
            heading = f"{title}: {_called(name, result, shown)}"
            sections.append(Section(title=heading, parts=list(_parts(result, shown))))
    return html_page(
        title=f"Engram explorer: {shown.bundle}",
        lead=f"From the bundle “{shown.bundle}”, as it was open in the explorer.",
        sections=sections,
        manifest={"bundle": shown.bundle, "link": shown.link, **shown.made},
    )


def _called(name: str, result: Result, shown: Open) -> str:
    """The name of a part; one that speaks of a single text names it."""
    kind, _, prompt = name.partition(":")
    if isinstance(result, AblationComparison):
        return f"{name} in “{shown.called}”"
    return f"{kind} of “{shown.called}”" if prompt and prompt == shown.prompt else name


def _parts(result: Result, shown: Open) -> Iterator[Part]:
    """The sentence of a result, its figures or strip, and its numbers."""
    yield result.summary()
    if isinstance(result, GateReading):
        yield _strip(result, shown.stream)
        return
    if isinstance(result, LensTable):
        last = result.data.sizes["token"]
        start = max(0, min(shown.token - WINDOW // 2, last - WINDOW))
        yield lens_window(result.data, start=start, stop=min(last, start + WINDOW))
        return
    if isinstance(result, SlotLookup):
        token = min(shown.token, result.data.sizes["token"] - 1)
        yield tables.slot_table(result.data, token=token, layer=_nearest(result, shown.layer))
        return
    if isinstance(result, AblationComparison):
        yield tables.prediction_table(result.data)
    if isinstance(result, MemoryPromotion | MemoryAttribution):
        yield f"Of token {int(result.data['token_index'])}."
    yield from _figures(result, shown)


def _strip(gates: GateReading, stream: str) -> Html:
    """The gates of a reading's only prompt, in the streams that are chosen."""
    one = stream.isdigit() and int(stream) < gates.data.sizes["stream"]
    data = gates.data.isel(stream=[int(stream)]) if one else gates.data
    rows = cast(Rows, stream if stream in {"max", "mean"} else "all")
    return gate_strip(data, prompt=int(data["prompt"].values[0]), rows=rows)


def _figures(result: Result, shown: Open) -> Iterator[go.Figure]:
    """The figures of a result, as the pages are set."""
    chosen = shown.set
    if isinstance(result, DepthResult):
        yield similarity.heat_map(
            result.data,
            alignment=cast(similarity.Alignment, chosen["align"]),
            self_reference="shown" if chosen["self"] == "on" else "hidden",
        )
        yield result.plot(view="shift", alignment=cast(similarity.Alignment, chosen["shift"]))
    elif isinstance(result, ConvergenceResult):
        other = shown.results.get("lens-baseline")
        beside = result is shown.results.get("lens-engram") and isinstance(other, ConvergenceResult)
        yield result.plot(
            baseline=cast(ConvergenceResult, other) if beside else None,
            quantity=cast(Quantity, chosen["q"]),
            scale="log" if chosen["log"] == "on" and chosen["q"] != "agreement" else "linear",
        )
    elif isinstance(result, MemoryAttribution):
        yield result.plot(view=cast(View, chosen["view"]))
    elif isinstance(result, MemoryPromotion):
        yield result.plot(layer=_nearest(result, shown.layer))
    elif isinstance(result, RetainedPerformance):
        sets = [str(name) for name in result.data["probe_set"].values]
        yield result.plot(probe_set=chosen["probes"] if chosen["probes"] in sets else sets[0])
    else:
        yield result.plot()
    if isinstance(result, AblationComparison) and not result.unread:
        yield result.plot(view="lens")


def _nearest(result: Result, layer: int) -> int:
    """The layer of a result that is nearest to the chosen one."""
    return min((int(one) for one in result.data["layer"].values), key=lambda one: abs(one - layer))
