"""Streaming chosen sites of a corpus to disk, and opening what was written.

Memory does not grow with the corpus (beyond its token ids): two buffers of one shard take turns, one
being filled by the forward passes, one being written by a thread. A forward pass stops at the last wanted
site. Killed at any moment, a capture goes on from its last whole shard and ends in the same bytes.
`depth.compare`, `opinions.compare`, `lens.convergence` and `lens_depth.compare` take what `open_capture`
gives in place of a model.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from engram_interp.capture import shards
from engram_interp.capture.captured import Capture, open_capture
from engram_interp.capture.durable import alone, durably, roomy
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.plan import plan
from engram_interp.capture.record import evaluating, watching
from engram_interp.capture.shards import Part
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

__all__ = ["Capture", "Progress", "capture", "open_capture"]

SHARD_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a capture is.

    Attributes:
        done: Tokens on the disk or in the buffers, of this part.
        tokens: Tokens of this part.
        bytes: What the part will take on the disk.
    """

    done: int
    tokens: int
    bytes: int


def capture(
    model: SubjectModel,
    texts: Any,
    *,
    sites: Sequence[str],
    out: str | Path,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 16,
    shard: tuple[int, int] = (1, 1),
    resume: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Run the model on texts and write what passes chosen sites to a directory.

    Args:
        model: The model; it is not changed.
        texts: Texts, a `PromptSet`, or token ids (see `encode`).
        sites: Site names or patterns such as ``blocks.*.hook_resid_post``.
        out: Directory: new or empty, or with `resume` that of the same capture, interrupted.
        dtype: Type of floating-point sites on disk, torch.float32 or torch.bfloat16.
        batch_size: Prompts per forward pass.
        shard: (i, n): of n machines this is the i-th, counted from 1; it captures the i-th share of the
            prompts. All n write to (copies of) one `out`, and together are one capture.
        resume: Go on with a capture in `out`; one that is complete is left as it is.
        shard_bytes: About the size of a file.
        progress: Called after each forward pass.

    Returns:
        `out`.

    Raises:
        InputError: A site is unknown, `out` holds something else or another capture, the disk is too
            small or full, or there is nothing to capture.
        DamagedFileError: With `resume`, a file is not what was written.
    """
    encoded = encode(model, texts)
    part, mine = plan(
        model, encoded, sites, dtype, batch_size=batch_size, shard=shard, shard_bytes=shard_bytes
    )
    folder = shards.folder_of(Path(out), *shard)
    check_room(folder, part)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder), roomy(folder):
        done = begun(folder, part, mine, resume=resume)
        if done < len(part.shards):
            _write(model, mine, part, folder, done=done, progress=progress)
    return Path(out)


def check_room(folder: Path, part: Part, *, besides: int = 0) -> None:
    """Raise before anything is written if a new capture cannot go there.

    Args:
        folder: Of the part.
        part: What it will hold.
        besides: Bytes that are taken there until the end.

    Raises:
        InputError: The folder holds something else, or the disk is too small.
    """
    shards.refuse_foreign(folder)
    free = shutil.disk_usage(next(p for p in (folder, *folder.absolute().parents) if p.exists())).free
    if part.bytes + besides > free and not (folder / shards.HEADER).is_file():
        until = f" and {shards.shown_bytes(besides)} until its end" if besides else ""
        raise InputError(
            f"The capture takes {shards.shown_bytes(part.bytes)}{until}, and {shards.shown_bytes(free)} are "
            f"free at {folder}; choose fewer sites, bfloat16, or another disk. Nothing was written."
        )


def begun(folder: Path, part: Part, mine: Encoded, *, resume: bool) -> int:
    """Prepare the folder; returns how many shards it already holds, whole."""
    there = (folder / shards.HEADER).is_file()
    if there:
        _check_same(folder, part, resume=resume)
    with durably(folder / shards.TOKENS) as temporary:
        pq.write_table(_token_table(mine), temporary)
    if not there:
        with durably(folder / shards.HEADER) as temporary:
            temporary.write_text(json.dumps(asdict(part), sort_keys=True), encoding="utf-8")
        return 0
    lines = shards.listed(folder, part)
    for line in lines:
        shards.check_shard(folder, line, sums=True)
    with durably(folder / shards.MANIFEST) as temporary:  # without a line that was torn
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return len(lines)


def _check_same(folder: Path, part: Part, *, resume: bool) -> None:
    there = Part.read(folder)
    if not resume:
        raise InputError(
            f"{folder} holds a capture; --resume (resume=True) goes on with it, or choose another --out."
        )
    if there.digest != part.digest:
        names = [field.name for field in fields(Part) if field.name != "source"]
        others = [name for name in names if getattr(there, name) != getattr(part, name)]
        raise InputError(
            f"{folder} holds another capture: it differs in {', '.join(others)}; give what that one was made "
            "with, or choose another --out."
        )


def _token_table(encoded: Encoded) -> pa.Table:
    prompt, position = encoded.mask.cpu().nonzero(as_tuple=True)
    entity = torch.full(encoded.mask.shape, -1, dtype=torch.int32)
    for row, (positions, numbers) in enumerate(zip(encoded.entity_ends, encoded.entities, strict=True)):
        entity[row, list(positions)] = torch.tensor(numbers, dtype=torch.int32)
    return pa.table(
        {
            "prompt": prompt.int().numpy(),
            "position": position.int().numpy(),
            "token_id": encoded.tokens.cpu()[prompt, position].int().numpy(),
            "entity": entity[prompt, position].numpy(),
        }
    )


class _Enough(Exception):
    """The last wanted site has been passed."""


def _write(
    model: SubjectModel,
    mine: Encoded,
    part: Part,
    folder: Path,
    *,
    done: int,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Fill and write the shards that are left, one being written while the next is filled."""
    most = max(shard.rows for shard in part.shards)
    rooms = [
        {name: torch.empty((most, *site.shape), dtype=site.torch_dtype) for name, site in part.sites.items()}
        for _ in range(min(2, len(part.shards) - done))
    ]
    finished, digest = sum(shard.rows for shard in part.shards[:done]), part.digest
    with ThreadPoolExecutor(1) as writer:
        pending: Future[None] | None = None
        for number in range(done, len(part.shards)):
            shard, room = part.shards[number], rooms[number % len(rooms)]
            prompts = mine.part(slice(shard.first_prompt, shard.first_prompt + shard.prompts))
            for rows in _filled(model, prompts, room, part):
                if progress is not None:
                    progress(Progress(done=finished + rows, tokens=part.rows, bytes=part.bytes))
            finished += shard.rows
            if pending is not None:
                pending.result()
            whole = {name: values[: shard.rows] for name, values in room.items()}
            pending = writer.submit(shards.write_shard, folder, number, whole, part_digest=digest)
        assert pending is not None
        pending.result()


def _filled(model: SubjectModel, prompts: Encoded, room: dict[str, Tensor], part: Part) -> Iterator[int]:
    """Run the prompts, their sites going into the buffers; yields the rows filled so far."""
    last, start = list(part.sites)[-1], 0

    def keep(name: str, value: Tensor) -> None:
        into = room[name][start : start + len(index)]
        if value.dtype == into.dtype and value.device == into.device:
            torch.index_select(value.flatten(0, 1), 0, index, out=into)
        else:
            into.copy_(value.flatten(0, 1)[index])
        if name == last:
            raise _Enough

    with evaluating(model.module), watching(model, list(part.sites), keep):
        for first in range(0, len(prompts), part.batch_size):
            batch = prompts.part(slice(first, first + part.batch_size))
            index = batch.mask.flatten().nonzero()[:, 0]
            with torch.inference_mode(), suppress(_Enough):
                model.logits(batch.tokens, batch.mask)
            start += len(index)
            yield start
