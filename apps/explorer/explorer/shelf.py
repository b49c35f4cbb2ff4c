"""The bundles that may be opened: those on the command line, and those of the package.

A link carries a bundle's name, never a path. The name is looked up here and nowhere else.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import streamlit as st

from engram_interp import pairs
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import (
    AblationEffect,
    Bundle,
    ConvergenceResult,
    DepthResult,
    GateInformation,
    GateReading,
    GateSelectivity,
    GateStatistics,
    GateUsefulness,
    LensDepthResult,
    LensTable,
    MemoryAttribution,
    MemoryPromotion,
    Result,
    RetainedPerformance,
    SecondOpinions,
    SlotCensus,
    SlotLoad,
    SlotLookup,
    StitchingResult,
    manifest,
    open_bundle,
    wording,
)
from engram_interp.results.finding import Found, find_bundles
from explorer import remake
from explorer.arguments import arguments
from explorer.states import State

_PLANTED = "planted"
KINDS: Mapping[str, type[Result]] = {
    "depth": DepthResult,
    "lens-engram": ConvergenceResult,
    "lens-baseline": ConvergenceResult,
    "lens-depth": LensDepthResult,
    "lens-depth-tuned": LensDepthResult,
    "stitching": StitchingResult,
    "second-opinions": SecondOpinions,
    "gates": GateReading,
    "gate-statistics": GateStatistics,
    "gate-selectivity": GateSelectivity,
    "gate-usefulness": GateUsefulness,
    "gate-information": GateInformation,
    "ablation": AblationEffect,
    "retained": RetainedPerformance,
    "slot-load": SlotLoad,
    "slot-census": SlotCensus,
    "slots": SlotLookup,
    "lens-table": LensTable,
    "attribution": MemoryAttribution,
    "promotion": MemoryPromotion,
}
"""By the name of a part, without the prompt that follows a colon: the result that the pages look for."""


PARTS: Mapping[str, str] = {
    "depth": "depth map",
    "lens-engram": "lens curve, Engram",
    "lens-baseline": "lens curve, baseline",
    "gates": "gates",
    "gate-statistics": "gate statistics with nulls",
    "ablation": "ablation effects with controls",
    "gate-selectivity": "gate selectivity",
    "gate-usefulness": "gate usefulness",
    "gate-information": "gate information",
    "retained": "retained performance",
    "lens-depth": "lens depth",
    "lens-depth-tuned": "tuned lens depth",
    "stitching": "stitching",
    "second-opinions": "other measures",
}
"""What a bundle of a pair holds, as lists call it."""
CALLED: Mapping[str, str] = {
    **PARTS,
    "slots": "rows that were read",
    "lens-table": "lens table",
    "attribution": "what the memory gives the prediction",
    "promotion": "what the writes promote",
    "slot-load": "load of the tables",
}
"""What headings call a part, by its name without the prompt that follows a colon."""


def shelf() -> Found:
    """What can be opened now; folders are looked through again on every call."""
    given = find_bundles(_given())
    added = _added()
    return replace(find_bundles([*_given(), *added]), notes=given.notes) if added else given


def _given() -> Sequence[Path]:
    packaged = [path for name in (*pairs.available(), _PLANTED) if (path := pairs.bundle_path(name)).is_dir()]
    return arguments().bundles or packaged


@st.cache_resource(show_spinner=False)
def _opened_by_path() -> dict[Path, None]:
    """Where readers of this server, which serves this machine alone, looked for bundles by a path."""
    return {}


def _added() -> list[Path]:
    """Those of them that are still there."""
    return [place for place in list(_opened_by_path()) if place.is_dir()]


def add(place: Path) -> str:
    """Open what lies at `place` too; the name of its first bundle, empty if it has none."""
    inside = find_bundles([place]).bundles
    if not inside:
        return ""
    _opened_by_path()[place] = None
    wanted = next(iter(inside.values())).resolve()
    return next(name for name, path in shelf().bundles.items() if path.resolve() == wanted)


def holds_some(place: Path) -> bool:
    """Whether there is a bundle at `place`, or in it."""
    return bool(find_bundles([place]).bundles)


def by_path(name: str) -> Path | None:
    """Where a bundle lies that was opened by its path; None for one that the explorer was started with."""
    if not _added() or name in find_bundles(_given()).bundles:
        return None
    return shelf().bundles.get(name)


def opened(path: Path) -> Bundle | State:
    """The bundle at `path`, or why it cannot be opened."""
    try:
        stamp = (path / manifest.NAME).stat().st_mtime_ns
    except OSError:
        stamp = 0
    try:
        return _opened(os.fsencode(path), stamp)
    except DamagedFileError as error:
        return State(
            what="This bundle is damaged.",
            why=str(error),
            todo="Open another bundle in the bar above, or make this one anew:",
            command=remake.ANY,
            tone="error",
        )
    except InputError as error:
        if _is_newer(path):
            return State(
                what="This bundle was made by a newer version.",
                why=str(error),
                todo="Upgrade, or open another bundle in the bar above:",
                command="pip install --upgrade engram-interp",
                tone="error",
            )
        return State(
            what="This bundle cannot be opened.",
            why=str(error),
            todo="Open another bundle in the bar above, or make one:",
            command=remake.ANY,
            tone="error",
        )


@st.cache_resource(show_spinner=False, max_entries=16)
def _opened(path: bytes, stamp: int) -> Bundle:  # noqa: ARG001 - a rewritten bundle is read again
    return open_bundle(os.fsdecode(path))


def size(path: Path) -> str:
    """How large a bundle is on disk."""
    try:
        count = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    except OSError:
        return "size unknown"
    return f"{count / 1e6:.1f} MB"


def _is_newer(path: Path) -> bool:
    try:
        stated = json.loads((path / manifest.NAME).read_text(encoding="utf-8"))["format"]["version"]
        return bool(stated > manifest.FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def part(bundle: Bundle, name: str, *, what: str) -> Result | State:
    """A result of the bundle, of the kind its name says, or why it is not to be had; the rest stays."""
    kind = KINDS.get(name.partition(":")[0], Result)
    if name not in bundle:
        way = remake.makes(bundle, f"“{name}”")
        return State(
            what=f"No {what} in this bundle.",
            why=f"The bundle “{bundle.name}” has no part “{name}”.",
            todo=way.todo,
            command=way.command,
        )
    said = f"The {what} in this bundle cannot be read."
    try:
        found = bundle[name]
        if isinstance(found, kind):
            return found
        said = f"In place of its {what} this bundle has another result."
        why = f"Its part “{name}” is a {type(found).kind} result, and a {kind.kind} result is wanted."
        tone: Literal["note", "error"] = "note"
    except InputError as error:
        why, tone = str(error), "error"
    way = remake.anew(bundle, f", and “{name}” with it,")
    return State(
        what=said, why=why, todo=f"The other parts keep working. {way.todo}", command=way.command, tone=tone
    )


def torn(bundle: Bundle) -> list[State]:
    """Which files of the bundle are missing or cut short; no file is read for it."""
    found = bundle.problems(read=False)
    if not found:
        return []
    way = remake.anew(bundle)
    said = State(
        what=f"Damaged: {', '.join(found)}.",
        why=" ".join(found.values()),
        todo=f"The other parts keep working. {way.todo}",
        command=way.command,
        tone="error",
    )
    return [said]


def no_text(bundle: Bundle) -> str:
    """Why the text of a prompt is not known."""
    found = part(bundle, "gates", what="gates")
    why = f" {found.why}" if isinstance(found, State) else ""
    return f"The texts of prompts stand in the part “gates”, which does not give this one.{why}"


def absent(bundle: Bundle, parts: Sequence[str]) -> State:
    """Which parts, as the report calls them, are missing and, where the report noted it, why."""
    noted = bundle.meta.get("notes")
    reasons = [
        str(note)
        for note in (noted if isinstance(noted, list) else [])
        if str(note).startswith(tuple(f"The report is without {what}:" for what in parts))
    ]
    way = remake.makes(bundle, wording.listed(parts))
    return State(
        what=f"Not in this bundle: {wording.listed(parts)}.",
        why=" ".join(reasons) or f"The bundle “{bundle.name}” was made without them.",
        todo=way.todo,
        command=way.command,
    )
