"""What is open, written as one page that needs neither this tool nor a network."""

import re
from collections.abc import Iterator, Mapping
from typing import cast

import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import (
    AblationComparison,
    ConvergenceResult,
    DepthResult,
    GateReading,
    LensDepthResult,
    LensTable,
    MemoryAttribution,
    MemoryPromotion,
    Result,
    RetainedPerformance,
    SlotLookup,
    SlotOccupants,
    StitchingResult,
    agreement,
)
from engram_interp.views import gate_here, similarity, tables
from engram_interp.views.curves import Quantity
from engram_interp.views.markup import Html, element
from engram_interp.views.page import Part, Section, html_page
from engram_interp.views.strips import Rows, gate_strip, lens_window
from explorer import settings, shelf
from explorer.assemble import Open, nearest
from explorer.attribution import View

WINDOW = 24


def page(shown: Open, *, note: str) -> str:
    """The page as text; `note` are a reader's own words, shown first."""
    sections = _sections(shown)
    if note.strip():
        words = [line for line in note.splitlines() if line.strip()]
        sections.insert(0, Section(title="Note", parts=words))
    if shown.left_out:
        parts = [f"{name}: {why}" for name, why in shown.left_out.items()]
        sections.append(Section(title="Left out", parts=parts))
    return html_page(
        title=f"Engram explorer: {shown.bundle}",
        lead=f"From the bundle “{shown.bundle}”, as it was open in the explorer.",
        sections=sections,
        manifest={"bundle": shown.bundle, "link": shown.link, **shown.made},
    )


def figures(shown: Open) -> dict[str, go.Figure]:
    """Every figure of the page, by a name for a file: its place, its chapter and its title."""
    found: dict[str, go.Figure] = {}
    for section in _sections(shown):
        for part in section.parts:
            if isinstance(part, go.Figure):
                said = f"{section.title.partition(':')[0]} {part.layout.title.text or ''}".lower()
                words = re.findall(r"[a-z0-9]+", said)[:12]
                found["-".join([f"{len(found) + 1:02d}", *words])] = part
    return found


def _sections(shown: Open) -> list[Section]:
    """Chapter by chapter, what the page shows."""
    sections: list[Section] = []
    for title, found in shown.chapters.items():
        sections += _agreement(title, found)
        for name, result in found.items():
            heading = f"{title}: {called(name, result, shown)}"
            sections.append(Section(title=heading, parts=list(_parts(result, shown))))
        sections += [make() for make in shown.more.get(title, ())]
    return sections


def verdict(shown: Open) -> str:
    """What all views of depth in it allow to say; empty without a depth map."""
    given = _views(shown.results)
    return "" if given is None else agreement.verdict(*given[:3], tuned=given[3])


def _views(
    found: Mapping[str, Result],
) -> tuple[DepthResult, LensDepthResult | None, StitchingResult | None, LensDepthResult | None] | None:
    """Depth map, lens depth, stitching, tuned lens depth, as far as they are there; None without the map."""
    depth, raw, tuned, stitching = map(found.get, ("depth", "lens-depth", "lens-depth-tuned", "stitching"))
    if not isinstance(depth, DepthResult):
        return None
    return (
        depth,
        raw if isinstance(raw, LensDepthResult) else None,
        stitching if isinstance(stitching, StitchingResult) else None,
        tuned if isinstance(tuned, LensDepthResult) else None,
    )


def _agreement(title: str, found: Mapping[str, Result]) -> list[Section]:
    """Whether the views of depth agree, before each of them; nothing in a chapter without the depth map."""
    given = _views(found)
    if given is None:
        return []
    views, tuned = given[:3], given[3]
    parts: list[Part] = [
        element("p", element("b", agreement.verdict(*views, tuned=tuned))),
        agreement.agreement(*views, tuned=tuned),
        agreement.plot(agreement.views(*views, tuned=tuned)),
    ]
    return [Section(title=f"{title}: do similarity, prediction and function agree?", parts=parts)]


def called(name: str, result: Result, shown: Open) -> str:
    """What a part is called in headings; one that speaks of a single text names it."""
    kind, _, prompt = name.partition(":")
    model = str(result.data.attrs.get("model", ""))
    by = f", run by {model}" if model and shown.model and model != shown.model else ""
    if isinstance(result, AblationComparison):
        return f"{name} in “{shown.called}”{by}"
    said = shelf.CALLED.get(kind, kind)
    if not prompt:
        return said
    return f"{said} of “{shown.called if prompt == shown.prompt else prompt}”{by}"


def said(result: Result, token: int) -> str:
    """The sentence of a result; of the chosen token where it speaks of one."""
    if isinstance(result, LensTable | SlotLookup):
        return result.said_of(min(token, int(result.data["token"].values[-1])))
    return result.summary()


def _parts(result: Result, shown: Open) -> Iterator[Part]:
    """The sentence of a result, its figures or strip, and its numbers."""
    yield said(result, shown.token)
    if isinstance(result, GateReading):
        yield _strip(result, shown.stream)
        gate = result.data["gate"].isel(prompt=0)
        yield gate_here.gates_here(
            gate, token=min(shown.token, gate.sizes["token"] - 1), statistics=_untrained(result, shown)
        )
        return
    if isinstance(result, LensTable):
        last = result.data.sizes["token"]
        start = max(0, min(shown.token - WINDOW // 2, last - WINDOW))
        yield lens_window(result.data, start=start, stop=min(last, start + WINDOW))
        return
    if isinstance(result, SlotLookup):
        token = min(shown.token, result.data.sizes["token"] - 1)
        there = set(result.data["order"].values.tolist())
        orders = [order for order in there if str(order) == shown.set["length"]]
        by = settings.SORTED.get(shown.set["sort"], "order")
        yield tables.slot_table(
            result.data.drop_vars("count", errors="ignore"),
            token=token,
            layer=nearest(result, shown.layer),
            by=by,
            orders=orders,
        )
        return
    if isinstance(result, AblationComparison):
        yield tables.prediction_table(result.data)
    if isinstance(result, SlotOccupants):
        yield result.plot(mark=shown.ngram)
        return
    if isinstance(result, MemoryPromotion | MemoryAttribution):
        yield f"Of token {int(result.data['token_index'])}."
    yield from _figures(result, shown)


def _untrained(gates: GateReading, shown: Open) -> xr.Dataset | None:
    """The distribution of untrained gates of the same model, where the report holds it."""
    found = shown.results.get("gate-statistics")
    same = found is not None and found.data.attrs.get("model") == gates.data.attrs.get("model")
    return found.data if found is not None and same else None


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
        soft = result.at_k(int(chosen["k"])) if chosen["k"] in map(str, result.ks) else result
        yield similarity.heat_map(
            (soft if chosen["align"] == "soft" else result).data,
            alignment=cast(similarity.Alignment, chosen["align"]),
            self_reference="shown" if chosen["self"] == "on" else "hidden",
        )
        shifted = soft if chosen["shift"] == "soft" else result
        yield shifted.plot(view="shift", alignment=cast(similarity.Alignment, chosen["shift"]))
    elif isinstance(result, ConvergenceResult):
        if result is shown.results.get("lens-baseline") and "lens-engram" in shown.results:
            return  # it is drawn there, beside the other
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
        yield result.plot(layer=nearest(result, shown.layer))
    elif isinstance(result, RetainedPerformance):
        sets = [str(name) for name in result.data["probe_set"].values]
        yield result.plot(probe_set=chosen["probes"] if chosen["probes"] in sets else sets[0])
    else:
        yield result.plot()
    if isinstance(result, AblationComparison) and not result.unread:
        yield result.plot(view="lens")
