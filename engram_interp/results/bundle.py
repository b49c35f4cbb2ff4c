"""Bundles: a folder ``NAME.engram/`` with a manifest and one file per result.

`open_bundle` reads the manifest alone. A part is read, and its checksum compared, when it is asked
for; a damaged part fails with one sentence and the others stay readable.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import manifest as manifests
from engram_interp.results import registry, wording
from engram_interp.results.base import Result

_REMEDY = "Copy the bundle again or make it anew."


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """An opened bundle; made by `open_bundle`.

    Attributes:
        path: the folder.
        manifest: what ``manifest.json`` says.
        names: the parts that this version can read, in the order they were written.
        notes: one sentence for each part that was passed over.
    """

    path: Path
    manifest: Mapping[str, Any]
    names: tuple[str, ...]
    notes: tuple[str, ...]
    _read: dict[str, Result] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """The folder's name without ``.engram``."""
        return wording.encodable(self.path.name.removesuffix(".engram"))

    @property
    def meta(self) -> dict[str, Any]:
        """What the maker of the bundle wrote about it: command, models, seed, ..."""
        meta = self.manifest.get("meta", {})
        return dict(meta) if isinstance(meta, dict) else {}

    def __getitem__(self, name: str) -> Result:
        """The result called `name`, read and checked on first use.

        Raises:
            InputError: there is no such part, or this machine cannot read its file.
            DamagedFileError: its file is missing, cut short, altered, or not what the manifest says.
        """
        if name not in self.names:
            there = ", ".join(self.names) or "none that this version reads"
            raise InputError(f"{self.path.name} has no part {name!r}; its parts: {there}.")
        if name not in self._read:
            part = manifests.part(name, self.manifest["parts"][name])
            try:
                found = _load(self.path, part)
                object.__setattr__(found, "origin", (self.name, name))
                self._read[name] = found
            except OSError as error:
                raise InputError(
                    f"Part {name!r}: {part.file} cannot be read ({error.strerror or error}); see who may "
                    "read it and whether its disk answers."
                ) from error
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def kind(self, name: str) -> str:
        """The kind of result a part holds, without reading it; empty if the manifest does not say."""
        return manifests.kind_of(self.manifest["parts"].get(name))

    def problems(self, *, read: bool = True) -> dict[str, str]:
        """By name the sentence for each part that cannot be used.

        Args:
            read: whether every part is read and its checksum taken; without, files are only looked for and
                their sizes compared, which takes no time.
        """
        found: dict[str, str] = {}
        for name in self.names:
            try:
                if read:
                    self[name]
                else:
                    _whole(self.path, manifests.part(name, self.manifest["parts"][name]))
            except (InputError, OSError) as error:
                found[name] = str(error)
        return found


def open_bundle(path: str | Path) -> Bundle:
    """Open ``NAME.engram``; parts are read when asked for, and neither torch nor a network is needed.

    Raises:
        InputError: there is no such folder, or it was made with a newer format.
        DamagedFileError: the manifest is missing or is none.
    """
    folder = Path(path)
    manifest = manifests.read(folder)
    names: list[str] = []
    notes: list[str] = []
    for name, entry in manifest["parts"].items():
        kind = manifests.kind_of(entry)
        if name != wording.encodable(name):
            notes.append(f"Part {name!r} has a name that is no text; it is ignored.")
        elif kind and registry.find(kind) is None:
            notes.append(
                f"Part {name!r} is of the kind {kind!r}, which this version does not know; it is ignored."
            )
        else:
            names.append(name)
    return Bundle(path=folder, manifest=manifest, names=tuple(names), notes=tuple(notes))


def _whole(folder: Path, part: manifests.Part) -> Path:
    """The part's file, which is there and as long as the manifest says."""
    path = _inside(folder, part)
    size = path.stat().st_size
    if size != part.size:
        raise DamagedFileError(
            f"Part {part.name!r}: {part.file} has {size:,} bytes, the manifest says {part.size:,}; it was "
            f"cut short or replaced. {_REMEDY}"
        )
    return path


def _load(folder: Path, part: manifests.Part) -> Result:
    path = _whole(folder, part)
    if manifests.checksum(path) != part.xxh3:
        raise DamagedFileError(
            f"Part {part.name!r}: {part.file} does not have the checksum that the manifest gives; it was "
            f"altered. {_REMEDY}"
        )
    result = Result.load(path)
    shapes = {str(dim): size for dim, size in result.data.sizes.items()}
    if result.kind != part.kind or shapes != dict(part.shapes):
        raise DamagedFileError(
            f"Part {part.name!r}: {part.file} is a {result.kind} of shape {shapes}, the manifest says "
            f"{part.kind} of {dict(part.shapes)}. {_REMEDY}"
        )
    return result


def _inside(folder: Path, part: manifests.Part) -> Path:
    """The part's file, which must lie in the bundle even after links are followed."""
    path = folder / part.file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DamagedFileError(f"Part {part.name!r}: {part.file} leads out of the bundle; it was not opened.")
    if not path.is_file():
        raise DamagedFileError(
            f"Part {part.name!r}: {part.file} is missing; the other parts can still be read. {_REMEDY}"
        )
    return path
