"""How a capture lies on disk.

    DIR/part-1-of-1/
        tokens.parquet      one row per token: prompt, position, token id, entity that ends there or -1
        part.json           what is captured: model, sites, shapes, prompts; tokens.parquet is there before it
        000000.safetensors  every site at the tokens of consecutive prompts, about 32 MB
        manifest.jsonl      one line per finished shard: file, rows, bytes, xxh3, digest of part.json
        streamed/           only while a model is streamed from the disk: its state, and rows site by site

Row i of a site belongs to row i of tokens.parquet; the shards follow each other. A shard is written under
another name, synced and renamed before the manifest lists it, so what the manifest lists is whole
whenever the writer was killed. Nothing in these files depends on when or how often it was interrupted.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from engram_interp.capture.durable import checksum, durably
from engram_interp.checkpoints.files import read_json
from engram_interp.errors import DamagedFileError, InputError

FORMAT = 1
HEADER, TOKENS, MANIFEST = "part.json", "tokens.parquet", "manifest.jsonl"
SCRATCH = "streamed"

_PART = re.compile(r"part-(\d+)-of-(\d+)")
_OURS = re.compile(
    r"(part\.json|tokens\.parquet|manifest\.jsonl|\d{6}\.safetensors)(\.tmp)?|streamed"
    r"|\.tmp\w{6}"  # what safetensors leaves when it is killed; swept by `durable.alone`
)


@dataclass(frozen=True, kw_only=True)
class SiteShape:
    """What is stored of a site.

    Attributes:
        shape: Axes of one token.
        dtype: Type on disk, as torch names it.
        passed: Type that passed the site, in which it is read again.
    """

    shape: tuple[int, ...]
    dtype: str
    passed: str

    @property
    def bytes(self) -> int:
        """Of one token."""
        return math.prod(self.shape) * self.torch_dtype.itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type on disk."""
        return _type(self.dtype)

    @property
    def torch_passed(self) -> torch.dtype:
        """The type that passed the site."""
        return _type(self.passed)


def _type(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Tokens of consecutive prompts, in one file.

    Attributes:
        first_prompt: Counted within the part.
        prompts: How many.
        rows: Their tokens.
    """

    first_prompt: int
    prompts: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """What part.json says.

    Attributes:
        model: Facts of the model, as `SubjectModel` names them.
        sites: By name.
        shards: In order.
        names: Of the prompts.
        notes: Of the prompts, such as those that did not fit the context.
        width: Tokens of the longest prompt of all parts.
        batch_size: Prompts per forward pass.
        text_digest: Of the tokens of all parts.
        prompt_digest: Of the texts (or ids) they were made from.
        tokenizer: Digest of it.
        number: Of this part, counted from 1.
        parts: How many there are.
        version: Of this tool.
        torch: Version.
        source: What opens the model again; empty if nothing does. It may move, so it is in no digest.
        format: Of the files.
    """

    model: Mapping[str, Any]
    sites: Mapping[str, SiteShape]
    shards: tuple[Shard, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]
    width: int
    batch_size: int
    text_digest: str
    prompt_digest: str
    tokenizer: str
    number: int
    parts: int
    version: str
    torch: str
    source: str = ""
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 over all but the source."""
        values = json.dumps(asdict(replace(self, source="")), sort_keys=True)
        return hashlib.sha256(values.encode()).hexdigest()

    @property
    def rows(self) -> int:
        """Tokens."""
        return sum(shard.rows for shard in self.shards)

    @property
    def bytes(self) -> int:
        """What the shards hold, without their headers."""
        return self.rows * sum(site.bytes for site in self.sites.values())

    @classmethod
    def read(cls, folder: Path) -> "Part":
        """The part in a folder.

        Raises:
            InputError: There is none, or it is of another format.
            DamagedFileError: It is not what this tool writes.
        """
        values = read_json(folder / HEADER)
        if values.get("format") != FORMAT:
            raise InputError(
                f"{folder} is a capture of format {values.get('format')!r} and this version reads {FORMAT}; "
                "upgrade engram-interp or capture again."
            )
        try:
            sites = {n: SiteShape(**s | {"shape": tuple(s["shape"])}) for n, s in values["sites"].items()}
            shards = tuple(Shard(**shard) for shard in values["shards"])
            names, notes = tuple(values["names"]), tuple(values["notes"])
            return cls(**values | {"sites": sites, "shards": shards, "names": names, "notes": notes})
        except (KeyError, TypeError, AttributeError) as cause:
            raise DamagedFileError(f"{folder / HEADER} is damaged ({cause}); capture again.") from cause


def folder_of(out: Path, number: int, parts: int) -> Path:
    """Where a part lies."""
    return out / f"part-{number}-of-{parts}"


def file_of(folder: Path, number: int) -> Path:
    """A shard's file."""
    return folder / f"{number:06d}.safetensors"


def part_folders(out: Path) -> list[Path]:
    """The parts in a directory, in order.

    Raises:
        InputError: There are none, some are missing, or they are of several captures.
    """
    found = sorted(
        (int(m[2]), int(m[1]), path) for path in out.glob("part-*-of-*") if (m := _PART.fullmatch(path.name))
    )
    if not found:
        raise InputError(f"{out} holds no capture; make one with engram-interp capture … --out {out}.")
    parts = {of for of, _, _ in found}
    if len(parts) > 1:
        raise InputError(f"{out} holds parts of several captures ({sorted(parts)}); keep one set of them.")
    missing = sorted(set(range(1, found[0][0] + 1)) - {number for _, number, _ in found})
    if missing:
        absent = ", ".join(f"{number}/{found[0][0]}" for number in missing)
        raise InputError(f"{out} lacks part {absent} of the capture; make it with --shard {absent}.")
    return [path for _, _, path in found]


def refuse_foreign(folder: Path) -> None:
    """Let only a folder pass that is new or holds nothing but files of a capture.

    Raises:
        InputError: It holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a directory for the capture.")
    strangers = sorted(p.name for p in folder.glob("*") if not _OURS.fullmatch(p.name))
    if strangers:
        raise InputError(
            f"{folder} holds {', '.join(strangers[:3])}, which no capture wrote; give another directory."
        )


def shown_bytes(count: int) -> str:
    """``"840 bytes"``, ``"0.03 MB"``, ``"101.40 GB"``; an MB is a million bytes."""
    if count < 1e4:
        return f"{count:,} bytes"
    return f"{count / 1e9:,.2f} GB" if count >= 1e7 else f"{count / 1e6:,.2f} MB"


def write_shard(folder: Path, number: int, sites: Mapping[str, Tensor], *, part_digest: str) -> None:
    """Write a shard, and list it once it is whole."""
    path = file_of(folder, number)
    with durably(path) as temporary:
        save_file(dict(sites), temporary)
        temporary.chmod(0o644)  # safetensors lets only the owner read
    line = {
        "file": path.name,
        "rows": len(next(iter(sites.values()))),
        "bytes": path.stat().st_size,
        "xxh3": checksum(path),
        "part": part_digest,
    }
    with (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
        manifest.write(json.dumps(line) + "\n")
        manifest.flush()
        os.fsync(manifest.fileno())


def listed(folder: Path, part: Part) -> list[dict[str, Any]]:
    """The manifest's lines, without one that was torn.

    Raises:
        DamagedFileError: It lists shards that the part does not have, or another part's.
    """
    path = folder / MANIFEST
    lines: list[dict[str, Any]] = []
    for raw in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []:
        try:
            line = json.loads(raw) if raw.endswith("\n") else None
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict):
            break
        number = len(lines)
        fits = number < len(part.shards) and line.get("rows") == part.shards[number].rows
        if not fits or line.get("file") != file_of(folder, number).name or line.get("part") != part.digest:
            raise DamagedFileError(
                f"{path} does not belong to {folder / HEADER} (line {number + 1}); capture again elsewhere."
            )
        lines.append(line)
    return lines


def check_shard(folder: Path, line: Mapping[str, Any], *, sums: bool) -> None:
    """Check a listed shard's size, and with `sums` every byte of it.

    Raises:
        DamagedFileError: It is missing, cut short, or other bytes than were written.
    """
    path = folder / str(line["file"])
    size = path.stat().st_size if path.is_file() else None
    if size != line["bytes"]:
        came = "is missing" if size is None else f"has {size:,} bytes"
        raise DamagedFileError(
            f"{path} {came}, the manifest says {line['bytes']:,}; copy it again, or delete {folder} and "
            "capture that part again."
        )
    if sums and checksum(path) != line["xxh3"]:
        raise DamagedFileError(
            f"{path} is not what was written (another xxh3); copy it again, or delete {folder} and capture "
            "that part again."
        )
