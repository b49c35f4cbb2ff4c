"""The directory of a report: ``index.html``, ``NAME.engram/`` and a mark that says it is ours.

Everything is made first and put in place last, each piece by one rename, so that an interrupted run
leaves what was there before.
"""

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import engram_interp
from engram_interp.errors import InputError
from engram_interp.report.analyses import Findings
from engram_interp.report.page import page
from engram_interp.results import manifest as manifests
from engram_interp.results import storage, write_bundle

MARK = "report.json"
PAGE = "index.html"
_MADE_BY = "engram-interp report"


def check(out: str | Path) -> Path:
    """The directory, if a report may be written there: it is new, empty, or holds an earlier report.

    Raises:
        InputError: If it is something else, or cannot be written; nothing is changed.
    """
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} exists and is not a directory; give another --out.")
    if path.is_dir() and any(path.iterdir()) and _mark(path) is None:
        raise InputError(
            f"{path} exists and was not made by engram-interp report; nothing in it was changed. Give a new "
            "or empty directory as --out."
        )
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"{path} cannot be made: {nearest} cannot be written to; give another --out.")
    return path


def write(found: Findings, out: str | Path) -> Path:
    """Write page and bundle into a directory and return the path of the page.

    An earlier report there is replaced; files that are not the report's own stay as they are, and so does
    an earlier bundle of another name that holds such files, of which a warning tells.

    Raises:
        InputError: If the directory is not the report's, or its bundle holds foreign files.
    """
    path = check(out)
    html = page(found)
    before = _mark(path) or {}
    path.mkdir(parents=True, exist_ok=True)
    bundle = f"{found.name}.engram"
    _replace(path / MARK, json.dumps(_facts(found, bundle), indent=1))
    write_bundle(path / bundle, found.parts, meta=found.meta, overwrite=True)
    _replace(path / PAGE, html)
    earlier = path / str(before.get("bundle", bundle))
    if earlier.name != bundle and earlier.parent == path and (earlier / manifests.NAME).is_file():
        _remove(earlier)
    return path / PAGE


def _remove(earlier: Path) -> None:
    """Remove the bundle of the report before, unless it holds anything but its own files."""
    try:
        entries = manifests.read(earlier)["parts"].items()
        own = {manifests.NAME, *(manifests.part(name, entry).file for name, entry in entries)}
    except InputError:
        own = set()
    inside = [p for p in earlier.rglob("*") if p.is_symlink() or not p.is_dir()]
    foreign = sorted(n for p in inside if (n := p.relative_to(earlier).as_posix()) not in own)
    if foreign or earlier.is_symlink():
        warnings.warn(
            f"{earlier} of the report before stays, because it is not ours alone: it holds "
            f"{', '.join(foreign[:3]) or 'a link'}; delete it by hand if you want it gone.",
            stacklevel=3,
        )
        return
    shutil.rmtree(earlier)


def _mark(path: Path) -> dict[str, Any] | None:
    """What the mark in a directory says; None if there is none of ours."""
    try:
        facts = json.loads((path / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("made_by") == _MADE_BY else None


def _facts(found: Findings, bundle: str) -> dict[str, Any]:
    return {
        "made_by": _MADE_BY,
        "version": engram_interp.__version__,
        "created": found.created,
        "page": PAGE,
        "bundle": bundle,
    }


def _replace(path: Path, text: str) -> None:
    with storage.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
