"""A capture that was written to disk, read in the place of the model it is of."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Shaped
from safetensors import safe_open
from torch import Tensor

from engram_interp.capture import shards
from engram_interp.capture.encode import Encoded
from engram_interp.capture.shards import Part, SiteShape
from engram_interp.checkpoints.digests import weights_digest
from engram_interp.checkpoints.loading import load_model
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import DamagedFileError, InputError

FACTS = (
    "name",
    "family",
    "digest",
    "n_layers",
    "d_model",
    "d_vocab",
    "n_streams",
    "n_ctx",
    "memory_layers",
    "separator_id",
    "weights_dtype",
    "notes",
)
"""What a capture knows of its model, as `SubjectModel` names it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """Sites of a model at every token of a corpus, on disk.

    What the model is called and shaped is here under the names that `SubjectModel` has.

    Attributes:
        folders: The parts.
        parts: What each holds.
        encoded: The prompts of all parts, in order.
        sites: What is stored of each site.
    """

    folders: tuple[Path, ...]
    parts: tuple[Part, ...]
    encoded: Encoded
    sites: Mapping[str, SiteShape]
    name: str
    family: str
    digest: str
    n_layers: int
    d_model: int
    d_vocab: int
    n_streams: int
    n_ctx: int | None
    memory_layers: tuple[int, ...]
    separator_id: int | None
    weights_dtype: str
    notes: tuple[str, ...]
    given: SubjectModel | None = None

    @cached_property
    def model(self) -> SubjectModel:
        """The model itself: for its final norm and unembedding, which no capture holds.

        Raises:
            InputError: It cannot be opened, or is another one.
        """
        source = self.parts[0].source
        if self.given is None and not source:
            raise InputError(
                f"The capture of {self.name} does not know where the model is; give it: "
                "open_capture(…, model=…)."
            )
        found = self.given or load_model(source, name=self.name)
        if weights_digest(found) != self.digest:
            raise InputError(
                f"{source or found.name} is not the model that was captured (its weights have another "
                "digest); give that one: open_capture(…, model=…)."
            )
        return found

    def read(self, site: str, rows: slice) -> Shaped[Tensor, "row ..."]:
        """What passed a site at some tokens, in the order of tokens.parquet and of the parts.

        Args:
            site: Its name.
            rows: Consecutive tokens, counted over all parts.

        Returns:
            The rows `[row, …]` in the type they are stored in.

        Raises:
            InputError: The site was not captured.
            DamagedFileError: A file cannot be read.
        """
        if site not in self.sites:
            raise InputError(f"{site!r} was not captured; captured were {', '.join(self.sites)}.")
        pieces = []
        for path, first, count in self._files:
            start, stop = max(rows.start, first), min(rows.stop, first + count)
            if start < stop:
                pieces.append(_piece(path, site, slice(start - first, stop - first)))
        shape = self.sites[site]
        return torch.cat(pieces) if pieces else torch.empty((0, *shape.shape), dtype=shape.torch_dtype)

    @cached_property
    def _files(self) -> list[tuple[Path, int, int]]:
        """Every shard: its file, its first token, and how many it has."""
        files = [
            (shards.file_of(folder, number), shard.rows)
            for folder, part in zip(self.folders, self.parts, strict=True)
            for number, shard in enumerate(part.shards)
        ]
        starts = accumulate((count for _, count in files), initial=0)
        return [(path, start, count) for (path, count), start in zip(files, starts, strict=False)]


def _piece(path: Path, site: str, rows: slice) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            piece: Tensor = file.get_slice(site)[rows]
    except Exception as cause:  # safetensors raises its own for each way to be broken
        raise DamagedFileError(f"{path} cannot be read ({cause}); copy it again or capture again.") from cause
    return piece


def open_capture(path: str | Path, *, model: SubjectModel | None = None, check: str = "sizes") -> Capture:
    """Open what `store.capture` wrote, all parts of it.

    Args:
        path: The capture's directory.
        model: The model it is of, for the lenses; by default it is opened from where it was.
        check: "sizes" looks whether every file is there whole, "checksums" reads every byte as well.

    Raises:
        InputError: There is no capture, a part is missing or unfinished, or parts do not belong together.
        DamagedFileError: A file is missing, cut short or changed.
    """
    if check not in ("sizes", "checksums"):
        raise InputError(f'check wants to be "sizes" or "checksums", got {check!r}.')
    folders = shards.part_folders(Path(path))
    parts = [Part.read(folder) for folder in folders]
    for folder, part in zip(folders, parts, strict=True):
        if folder != shards.folder_of(Path(path), part.number, part.parts):
            raise InputError(f"{folder} holds part {part.number} of {part.parts}; give it its name again.")
        _check_alike(folder, part, parts[0])
        lines = shards.listed(folder, part)
        if len(lines) < len(part.shards):
            raise InputError(
                f"{folder} is unfinished: {len(lines)} of {len(part.shards)} shards are there; go on with "
                "engram-interp capture … --resume."
            )
        for line in lines:
            shards.check_shard(folder, line, sums=check == "checksums")
    encoded = _encoded(folders, parts)
    if encoded.digest != parts[0].text_digest:
        raise DamagedFileError(
            f"The token table of {path} is not what was written; capture again with --resume, which "
            "writes it anew."
        )
    facts: dict[str, Any] = {name: parts[0].model[name] for name in FACTS}
    facts |= {name: tuple(facts[name]) for name in ("memory_layers", "notes")}
    return Capture(
        folders=tuple(folders),
        parts=tuple(parts),
        encoded=encoded,
        sites=parts[0].sites,
        given=model,
        **facts,
    )


def _check_alike(folder: Path, part: Part, first: Part) -> None:
    names = ("model", "sites", "width", "batch_size", "text_digest", "prompt_digest", "tokenizer")
    others = [name for name in names if getattr(part, name) != getattr(first, name)]
    if others:
        raise InputError(
            f"{folder} is a part of another capture than part 1: it differs in {', '.join(others)}; capture "
            "it again as the others were."
        )


def _encoded(folders: Sequence[Path], parts: Sequence[Part]) -> Encoded:
    """The prompts of all parts, as they were encoded."""
    width = parts[0].width
    tokens, ends, entities = list[Tensor](), list[tuple[int, ...]](), list[tuple[int, ...]]()
    for folder, part in zip(folders, parts, strict=True):
        prompt, position, token_id, entity = _columns(folder / shards.TOKENS, part.rows)
        ids = torch.full((len(part.names), width), -1, dtype=torch.int64)
        ids[prompt, position] = torch.from_numpy(token_id)
        tokens.append(ids)
        marked = np.flatnonzero(entity >= 0)
        for found, values in ((ends, position), (entities, entity)):
            cuts = np.searchsorted(prompt[marked], np.arange(1, len(part.names)))
            found += [tuple(of_prompt.tolist()) for of_prompt in np.split(values[marked], cuts)]
    every = torch.cat(tokens)
    return Encoded(
        tokens=every.clamp_min(0),
        mask=every >= 0,
        entity_ends=tuple(ends),
        entities=tuple(entities),
        names=tuple(name for part in parts for name in part.names),
        notes=parts[0].notes,
        source=parts[0].prompt_digest,
        tokenizer=parts[0].tokenizer,
    )


def _columns(path: Path, rows: int) -> list[np.ndarray]:
    """Prompt, position, token id and entity of every token, int64."""
    try:
        table = pq.read_table(path)
        found = [
            table[name].to_numpy().astype(np.int64) for name in ("prompt", "position", "token_id", "entity")
        ]
    except (OSError, KeyError, pa.ArrowException) as cause:
        raise DamagedFileError(
            f"{path} cannot be read ({cause}); capture again with --resume, which writes it anew."
        ) from cause
    if len(found[0]) != rows:
        raise DamagedFileError(
            f"{path} has {len(found[0]):,} tokens, {shards.HEADER} says {rows:,}; capture again with "
            "--resume, which writes it anew."
        )
    return found


def batches(
    capture: Capture, encoded: Encoded, sites: Sequence[str], *, batch_size: int
) -> Generator[tuple[None, dict[str, Tensor]], None, None]:
    """Sites of consecutive prompts, padded with 0, in the type that passed the site, where the model is.

    Args:
        capture: What to read.
        encoded: Its prompts, perhaps cropped.
        sites: Names.
        batch_size: Prompts at a time.

    Yields:
        None in place of logits, and `{site: [batch, token, …]}`.
    """
    whole, width = capture.encoded.mask, encoded.tokens.shape[1]
    starts = np.concatenate([[0], whole.sum(1).numpy().cumsum()])
    for first in range(0, len(encoded), batch_size):
        mask = whole[first : first + batch_size]
        rows = slice(int(starts[first]), int(starts[first + len(mask)]))
        seen = {}
        for site in sites:
            values = capture.read(site, rows).to(capture.sites[site].torch_passed)
            padded = values.new_zeros((*mask.shape, *values.shape[1:]))
            padded[mask] = values
            cut = padded[:, :width]
            seen[site] = cut if capture.given is None else cut.to(capture.given.device)
        yield None, seen
