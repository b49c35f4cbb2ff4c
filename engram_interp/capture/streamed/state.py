"""What is carried from layer to layer for every prompt, in memory and on the disk at layer boundaries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from engram_interp.capture.durable import durably
from engram_interp.capture.encode import Encoded
from engram_interp.checkpoints.tensor_files import Reader, read_header, write_tensors
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.shared import Shared

FILE = "state.safetensors"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive prompts that are run together, padded to the longest of them.

    Attributes:
        tokens: Ids.
        alive: True at real tokens.
        lengths: Tokens of each prompt.
        rows: Its tokens among those of all prompts.
        prompts: Its prompts.
    """

    tokens: Int64[Tensor, "batch token"]
    alive: Bool[Tensor, "batch token"]
    lengths: tuple[int, ...]
    rows: slice
    prompts: slice

    def padded(self, packed: Tensor) -> Tensor:
        """This batch's part of a packed tensor `[token …]`, zero at padding `[batch token …]`."""
        return self.spread(packed[self.rows])

    def spread(self, part: Tensor) -> Tensor:
        """This batch's tokens `[token …]`, padded with zeros to `[batch token …]`."""
        if len(self.lengths) == 1:
            return part[None]
        out = part.new_zeros(*self.alive.shape, *part.shape[1:])
        out[self.alive] = part
        return out

    def packed(self, padded: Tensor) -> Tensor:
        """The real tokens of a padded tensor, one after the other."""
        return padded[0] if len(self.lengths) == 1 else padded[self.alive]


def batches(encoded: Encoded, *, most_prompts: int, most_tokens: int) -> list[Batch]:
    """Consecutive prompts in batches of at most so many prompts and tokens, padding included.

    One prompt that is longer is a batch by itself.
    """
    lengths: list[int] = encoded.mask.sum(1).tolist()
    out, first, start = list[Batch](), 0, 0
    while first < len(lengths):
        last = first + 1
        while (
            last < len(lengths)
            and last - first < most_prompts
            and max(lengths[first : last + 1]) * (last + 1 - first) <= most_tokens
        ):
            last += 1
        mine = tuple(lengths[first:last])
        width, stop = max(mine), start + sum(mine)
        out.append(
            Batch(
                tokens=encoded.tokens[first:last, :width],
                alive=encoded.mask[first:last, :width],
                lengths=mine,
                rows=slice(start, stop),
                prompts=slice(first, last),
            )
        )
        first, start = last, stop
    return out


@dataclass(kw_only=True)
class State:
    """All prompts after some layers, their tokens one after the other.

    Attributes:
        layer: How many layers they have passed.
        resid: Residual streams.
        pre: The mix by which the next sublayer reads them.
        shared: Of each prompt, what attention hands on.
        marks: By shard, what tells whether its weights are still those that were used.
    """

    layer: int
    resid: Float[Tensor, "token stream d_model"]
    pre: Float[Tensor, "token stream"]
    shared: list[Shared]
    marks: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, cfg: V41Config, *, tokens: int, prompts: int, marks: Mapping[str, str] | None = None
    ) -> "State":
        """Room for so many tokens."""
        return cls(
            layer=0,
            resid=torch.zeros(tokens, cfg.n_streams, cfg.d_model),
            pre=torch.zeros(tokens, cfg.n_streams),
            shared=[Shared() for _ in range(prompts)],
            marks=marks or {},
        )

    def save(self, folder: Path, *, digest: str) -> None:
        """Write it in place of an earlier one: at any moment the one or the other is there, whole."""
        tensors = {"resid": self.resid, "pre": self.pre}
        tensors["passed"] = torch.tensor([self.layer, len(self.shared)])
        for name, text in (("digest", digest), ("marks", json.dumps(self.marks))):
            tensors[name] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        for name in (f.name for f in fields(Shared)):
            parts = [getattr(shared, name) for shared in self.shared]
            if parts and parts[0] is not None:
                tensors[name] = torch.cat([part.reshape(-1) for part in parts])
                tensors[f"{name}.shape"] = torch.tensor([list(part.shape) for part in parts])
        with durably(folder / FILE) as temporary:
            write_tensors(temporary, tensors)

    @classmethod
    def load(cls, folder: Path, *, digest: str) -> "State | None":
        """What `save` wrote for the same capture; None if there is none.

        Raises:
            DamagedFileError: If the file is cut short, or another capture's.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            places = read_header(path)
            with Reader() as reader:
                found = {name: reader.tensor(place) for name, place in places.items()}
            marks = json.loads(bytes(found["marks"].numpy()))
        except (InputError, KeyError, ValueError) as cause:
            raise DamagedFileError(f"{path} is damaged; delete {folder} and capture again.") from cause
        if bytes(found["digest"].numpy()).decode() != digest:
            raise DamagedFileError(f"{path} belongs to another capture; delete {folder} and capture again.")
        shapes = {name.removesuffix(".shape"): v.tolist() for name, v in found.items() if "." in name}
        split = {name: _split(found[name], shape) for name, shape in shapes.items()}
        layer, count = found["passed"].tolist()
        shared = [Shared(**{name: parts[i] for name, parts in split.items()}) for i in range(count)]
        return cls(layer=layer, resid=found["resid"], pre=found["pre"], shared=shared, marks=marks)

    def refuse_changed(self, marks: Mapping[str, str], *, folder: Path) -> None:
        """Raise if the weights are no longer those that the first layers were computed with.

        Args:
            marks: Of the weights now.
            folder: Where the state is kept.

        Raises:
            InputError: Names the shards.
        """
        changed = sorted(file for file in {*marks, *self.marks} if marks.get(file) != self.marks.get(file))
        if changed:
            raise InputError(
                f"{', '.join(changed[:3])} changed since this capture was begun (header, size or time of the "
                f"last writing); put back what was there, or delete {folder} and capture again."
            )


def _split(flat: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Tensors of these shapes that lie one after the other."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    return [part.clone().view(*shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]


def state_bytes(cfg: V41Config, lengths: Sequence[int]) -> int:
    """What is held for all prompts while a layer runs: the state, and the feed-forward's input and sum."""
    per_token = 4 * (cfg.n_streams * cfg.d_model + 2 * cfg.d_model + 3 * cfg.n_streams + cfg.n_streams**2)
    per_token += 12 * cfg.experts_per_token
    least = min((ratio for ratio in cfg.ratios if ratio), default=0)
    if not least:
        return sum(lengths) * per_token
    entries = [length // least for length in lengths]
    held = 4 * sum(entries) * (cfg.d_head + cfg.d_index)
    choices = sum(length * count for length, count in zip(lengths, entries, strict=True))
    return sum(lengths) * per_token + held + choices * (1 if cfg.candidate_source is None else 2)
