"""The manifest of a bundle: what it says, and reading it without believing it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from engram_interp.errors import DamagedFileError, InputError

FORMAT_NAME = "engram-interp bundle"
FORMAT = 1
NAME = "manifest.json"
PARTS = "parts"
LAYER_CONVENTION = "layers are counted from 0; layer l is blocks.l.hook_resid_post"

_SAFE_FILE = re.compile(r"parts/[A-Za-z0-9][A-Za-z0-9._-]*\.nc")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a bundle, as the manifest describes it."""

    name: str
    kind: str
    file: str
    size: int
    xxh3: str
    shapes: Mapping[str, int]

    def entry(self) -> dict[str, Any]:
        """What the manifest holds under the part's name."""
        return {"file": self.file, "kind": self.kind, "bytes": self.size, "xxh3": self.xxh3,
                "shapes": dict(self.shapes)}  # fmt: skip


def part(name: str, entry: object) -> Part:
    """Read one entry.

    Raises:
        DamagedFileError: something is missing or of the wrong type, or the file would lie outside ``parts/``.
    """
    wanted = {"file": str, "kind": str, "bytes": int, "xxh3": str, "shapes": dict}
    if not isinstance(entry, dict) or any(
        not isinstance(entry.get(key), kind) for key, kind in wanted.items()
    ):
        raise DamagedFileError(
            f"The manifest does not describe part {name!r} properly (it wants {', '.join(wanted)}); "
            "make the bundle anew."
        )
    if not _SAFE_FILE.fullmatch(entry["file"]):
        raise DamagedFileError(
            f"Part {name!r} names the file {entry['file']!r}, which is not inside parts/; it was not opened. "
            "Use a bundle from a source you trust, or make it anew."
        )
    return Part(name=name, kind=entry["kind"], file=entry["file"], size=entry["bytes"], xxh3=entry["xxh3"],
                shapes=entry["shapes"])  # fmt: skip


def kind_of(entry: object) -> str:
    """The kind an entry names, or an empty string."""
    kind = entry.get("kind") if isinstance(entry, dict) else None
    return kind if isinstance(kind, str) else ""


def read(bundle: Path) -> dict[str, Any]:
    """The manifest of the bundle in the folder `bundle`.

    Raises:
        InputError: there is no such folder, its format is newer than this version reads, or this
            machine cannot read its manifest.
        DamagedFileError: there is no manifest, or it is none of ours.
    """
    if not bundle.is_dir():
        raise InputError(
            f"There is no bundle {bundle}; give the path of a folder NAME.engram "
            "(pairs.bundle_path() is the packaged one)."
        )
    path = bundle / NAME
    if not path.is_file():
        raise DamagedFileError(f"{bundle} has no {NAME}, so it is no bundle or was cut short; make it anew.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); see who may read it and whether its disk "
            "answers."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{path} is not JSON ({error}); copy the bundle again or make it anew."
        ) from error
    stated = manifest.get("format") if isinstance(manifest, dict) else None
    version = stated.get("version") if isinstance(stated, dict) else None
    if not isinstance(stated, dict) or stated.get("name") != FORMAT_NAME or not isinstance(version, int):
        raise DamagedFileError(f"{path} is not the manifest of an engram-interp bundle; open another folder.")
    if version > FORMAT:
        raise InputError(
            f"{bundle} was made with bundle format {version}, this version reads up to {FORMAT}; "
            "upgrade with `pip install --upgrade engram-interp`."
        )
    if not isinstance(manifest.get("parts"), dict):
        raise DamagedFileError(f"{path} lists no parts; copy the bundle again or make it anew.")
    return dict(manifest)


def file_name(part_name: str) -> str:
    """A file name for a part, safe on every system and distinct for distinct names.

    >>> file_name("depth")
    'parts/depth.nc'
    """
    plain = re.sub(r"[^a-z0-9-]+", "-", part_name.lower()).strip("-")[:40]
    if plain == part_name:
        return f"{PARTS}/{plain}.nc"
    mark = xxhash.xxh3_64_hexdigest(part_name.encode("utf-8", "surrogatepass"))
    return f"{PARTS}/{plain or 'part'}-{mark}.nc"


def checksum(path: Path) -> str:
    """XXH3 (128 bits) of a file as hexadecimal text."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
