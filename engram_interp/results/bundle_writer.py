"""Writing a bundle: complete beside its final place, then renamed into it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import engram_interp
from engram_interp.errors import InputError
from engram_interp.results import manifest as manifests
from engram_interp.results import provenance, storage
from engram_interp.results.base import Result


def write_bundle(
    path: str | Path,
    parts: Mapping[str, Result],
    *,
    meta: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write results as one bundle and return its path.

    Killed at any moment, `path` is either what it was before or the whole new bundle.

    Args:
        path: the folder, by custom ``NAME.engram``.
        parts: results by free names, e.g. ``"depth"``, ``"slots:<prompt>"``.
        meta: whatever JSON can hold: command, models and their digests, seed, ...
        overwrite: replace an earlier bundle; any other folder or file is never touched.

    Raises:
        InputError: `path` exists and may not be replaced, or a name or `meta` cannot be stored.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"There is no folder {target.parent} to write {target.name} into; make it first.")
    _refuse_foreign(target, overwrite=overwrite)
    mark = uuid4().hex[:8]
    temporary = target.with_name(f".{target.name}.{mark}.tmp")
    temporary.mkdir()
    try:
        _fill(temporary, parts, meta=meta or {})
        _swap(temporary, target, aside=target.with_name(f".{target.name}.{mark}.old"))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _refuse_foreign(target: Path, *, overwrite: bool) -> None:
    """Let only a free name pass, or with `overwrite` a bundle that holds nothing but its own files."""
    if not target.exists() and not target.is_symlink():
        return
    foreign = _foreign_files(target)
    if foreign is None:
        raise InputError(f"{target} exists and is not ours; choose another name.")
    if not overwrite:
        raise InputError(f"{target} exists; choose another name or pass overwrite=True.")
    if foreign:
        raise InputError(
            f"{target} exists and is not ours alone: it also holds {', '.join(foreign[:3])}; "
            "move that away or choose another name."
        )


def _foreign_files(target: Path) -> list[str] | None:
    """What lies in the bundle `target` beside its own files; None if it is no bundle at all."""
    try:
        if target.is_symlink():
            return None
        manifest = json.loads((target / manifests.NAME).read_text(encoding="utf-8"))
        if manifest["format"]["name"] != manifests.FORMAT_NAME:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    inside = (
        file.relative_to(target) for file in target.rglob("*") if not file.is_dir() or file.is_symlink()
    )
    own = {manifests.NAME, *(_file_of(entry) for entry in _entries(manifest))}
    return sorted(str(file) for file in inside if file.as_posix() not in own)


def _entries(manifest: Mapping[str, Any]) -> list[object]:
    parts = manifest.get("parts")
    return list(parts.values()) if isinstance(parts, dict) else []


def _file_of(entry: object) -> str:
    return str(entry.get("file", "")) if isinstance(entry, dict) else ""


def _fill(folder: Path, parts: Mapping[str, Result], *, meta: Mapping[str, Any]) -> None:
    (folder / manifests.PARTS).mkdir()
    written = {name: _write_part(folder, name, result).entry() for name, result in parts.items()}
    manifest = {
        "format": {"name": manifests.FORMAT_NAME, "version": manifests.FORMAT},
        "tool": provenance.TOOL,
        "version": engram_interp.__version__,
        "created": provenance.now(),
        "layer_convention": manifests.LAYER_CONVENTION,
        "packages": provenance.package_versions(),
        "meta": dict(meta),
        "parts": written,
    }
    try:
        text = json.dumps(manifest, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The bundle's meta cannot be written as JSON: {error}; give text and numbers."
        ) from error
    path = folder / manifests.NAME
    path.write_text(text + "\n", encoding="utf-8")
    for made in (path, folder / manifests.PARTS, folder):
        storage.flush(made)


def _write_part(folder: Path, name: str, result: Result) -> manifests.Part:
    if not name:
        raise InputError("A part of a bundle wants a name, got an empty one; name it after what it holds.")
    file = manifests.file_name(name)
    path = folder / file
    storage.write(result.data, path)
    return manifests.Part(
        name=name,
        kind=result.kind,
        file=file,
        size=path.stat().st_size,
        xxh3=manifests.checksum(path),
        shapes={str(dim): size for dim, size in result.data.sizes.items()},
    )


def _swap(temporary: Path, target: Path, *, aside: Path) -> None:
    """Give the finished bundle its name; an earlier one steps aside first and comes back on failure."""
    replaced = target.exists()
    if replaced:
        target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        if replaced:
            aside.rename(target)
        raise
    storage.flush(target.parent)
    if replaced:
        shutil.rmtree(aside)
