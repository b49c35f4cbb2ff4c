"""What is drawn at random: generators of passed seeds, and another row of the same head."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _mixed(parts: tuple[int, ...]) -> np.random.SeedSequence:
    if not all(isinstance(part, int | np.integer) and part >= 0 for part in parts):
        raise InputError(f"A seed wants to be a whole number from 0 on, got {parts[0]!r}.")
    return np.random.SeedSequence([int(part) for part in parts])


def another(seed: int, draw: int) -> int:
    """The seed of the n-th further draw of a control that was drawn with `seed`: the draws of no two overlap.

    Raises:
        InputError: If one of them is negative or no whole number.
    """
    return int(_mixed((seed, draw)).generate_state(1)[0]) if draw else seed


def seeded(*parts: int) -> torch.Generator:
    """A generator of these numbers: torch's own keeps 32 bits of a seed, so they are mixed first.

    Raises:
        InputError: If one of them is negative or no whole number.
    """
    return torch.Generator().manual_seed(int(_mixed(parts).generate_state(1)[0]))


def fixed_uniform(addresses: Int64[Tensor, "*shape"], *parts: int) -> Float[Tensor, "*shape"]:
    """A number in [0, 1) that depends on the address and these numbers alone (SplitMix64), float64."""
    key = _mixed(parts).generate_state(1, np.uint64)[0]
    x = (addresses.cpu().numpy().astype(np.uint64) + np.uint64(1)) * _WEYL + key
    for shift, factor in _MIXERS:
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    return torch.from_numpy((x >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def directions(shape: Sequence[int], *parts: int, first: int = 0) -> Float[Tensor, "batch *axes d_model"]:
    """A random unit vector at every place of every prompt, float32.

    What a prompt gets depends on its number and these parts alone: not on which prompts share its batch,
    nor on how far it is padded.

    Args:
        shape: Prompts first, vectors last.
        parts: Whole numbers from 0 on, such as a seed and a layer.
        first: Number of the first prompt.
    """
    made = [
        np.random.default_rng(_mixed((*parts, first + row))).standard_normal(shape[1:], np.float32)
        for row in range(shape[0])
    ]
    drawn = torch.from_numpy(np.stack(made))
    unit: Tensor = drawn / drawn.norm(dim=-1, keepdim=True)
    return unit


def drawn_by(model: SubjectModel) -> str:
    """How `OtherRows` draws from this model's heads, in words, for provenance."""
    known = sum(layer in model.hits for layer in model.memory_layers)
    if known == len(model.memory_layers):
        return "another row of the same head, weighted by training hits"
    return "another row of the same head, every row alike" + (
        " where training hits are not known, else weighted by them" if known else ""
    )


@dataclass(frozen=True, kw_only=True)
class OtherRows:
    """Draws another row of the same head, never the row itself.

    Rows are weighted by their training hits where the model knows them, as text reads them; all rows alike
    where it does not, or where no other row of the head was ever read.

    Attributes:
        sizes: Rows of each column's head.
        offsets: Its first address.
        reads: Hits up to and including each row of the table; None if not known.
    """

    sizes: Int64[Tensor, " column"]
    offsets: Int64[Tensor, " column"]
    reads: Int64[Tensor, " row"] | None

    @classmethod
    def of(cls, model: SubjectModel, layer: int) -> "OtherRows":
        """Those of one memory layer of a model whose layout is known."""
        assert model.layout is not None
        index = model.layout.layer_ids.index(layer)
        hits = model.hits.get(layer)
        return cls(
            sizes=torch.from_numpy(model.layout.primes[index].reshape(-1)),
            offsets=torch.from_numpy(model.layout.offsets[index]),
            reads=None if hits is None else torch.from_numpy(np.cumsum(hits, dtype=np.int64)),
        )

    def __call__(
        self, rows: Int64[Tensor, "*token column"], chance: Float[Tensor, "*draw column"]
    ) -> Int64[Tensor, "*draw column"]:
        """Addresses in place of `rows`.

        Args:
            rows: Addresses, broadcast against `chance`.
            chance: Numbers in [0, 1) that choose the rows.
        """
        own = rows - self.offsets
        step = (chance * (self.sizes - 1)).long()
        alike = self.offsets + step + (step >= own)
        if self.reads is None:
            return alike
        before = torch.cat([self.reads.new_zeros(1), self.reads])
        start, end = before[self.offsets], before[self.offsets + self.sizes]
        others = end - start - (before[rows + 1] - before[rows])
        # The row's own hits are left out of the head's: what lies beyond them moves up by as many.
        read = start + (chance * others).long()
        read = read + torch.where(read >= before[rows], before[rows + 1] - before[rows], 0)
        chosen = torch.searchsorted(self.reads, read, right=True)
        return torch.where(others > 0, chosen, alike)
