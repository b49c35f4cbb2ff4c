"""A layer with its column means taken off, handed out in row tiles.

An uncentred float32 Gram matrix loses everything to a constant offset, so nothing downstream sees
raw values. The means are float64; a float32 tile subtracts them as a sum of two float32 numbers,
each subtraction being correctly rounded, so the error is relative to what is left, not to the
offset. A power of two brings the rows to about unit root-mean-square norm: that is exact, and CKA
does not feel it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, check_finite, take

# Rows at a time: small enough that their float64 copy stays in the cache.
ROW_TILE = 512

# float32 reaches 2**±126; beyond this, scale before leaving float64.
SAFE_EXPONENT = 100

# The fourth power must stay within float64.
LARGEST = 1e70

# Rows this near their mean may all be equal: look.
SUSPICIOUS = 1e-10


def tiles(n_rows: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


Samples = range | npt.NDArray[np.int64] | None
"""The caller's number of each row; None for 0, 1, 2, …"""


@dataclass(frozen=True, kw_only=True)
class CentredLayer:
    """One layer [sample, d], centred and scaled on demand.

    Attributes:
        values: the layer as given.
        mean: its column means, float64 [d].
        exponent: rows are divided by 2**exponent.
        norms: squared norm of each centred, scaled row, float64 [sample].
    """

    values: Array
    mean: Tensor
    exponent: int
    norms: Tensor

    def rows(self, index: slice, dtype: torch.dtype) -> Tensor:
        """Centred, scaled rows [row, d] in `dtype`."""
        values = take(self.values, index)
        return self.write(index, out=torch.empty(values.shape, dtype=dtype, device=values.device))

    def write(self, index: slice, *, out: Tensor) -> Tensor:
        """Write centred, scaled rows to `out` [row, d], in its type; returns it."""
        values, scale = take(self.values, index), 2.0**-self.exponent
        if out.dtype == torch.float64 or abs(self.exponent) > SAFE_EXPONENT:
            return out.copy_((values.double() - self.mean) * scale)
        high = self.mean.to(out.dtype)
        torch.sub(values.to(out.dtype), high, out=out)
        out -= (self.mean - high.double()).to(out.dtype)
        return out.mul_(scale)

    @property
    def square_norms(self) -> Floats:
        """Squared norm of each centred row in the layer's own unit, float64 [sample]."""
        norms: Floats = self.norms.cpu().numpy()
        return norms * 4.0**self.exponent


def centre(values: Array, *, name: str, samples: Samples = None) -> CentredLayer:
    """Measure a layer's means, scale and row norms in float64, one row tile at a time.

    Args:
        values: [sample, d], torch or numpy, any float type.
        name: the layer, for errors.
        samples: the caller's number of each row, for errors; 0, 1, 2, … if not given.

    Returns:
        The layer, ready to hand out centred rows. Rows that are all equal have norms of exactly 0.

    Raises:
        InputError: NaN, infinity (names the sample), or rows longer than 1e70.
    """
    n_rows = len(values)
    pieces = list(tiles(n_rows, ROW_TILE))
    sums = [take(values, index).sum(0, dtype=torch.float64) for index in pieces]
    mean = torch.stack(sums).sum(0) / n_rows
    lengths = torch.cat([torch.linalg.vector_norm(_less(values, index, mean), dim=1) for index in pieces])
    longest = float(lengths.max())
    if not longest < LARGEST:
        numbers = range(n_rows) if samples is None else samples
        check_finite(take(values, slice(None)), name=name, samples=numbers)
        raise InputError(f"{name} holds rows of length {longest:.1e}; divide it by a constant first.")
    if longest <= SUSPICIOUS * float(mean.norm()) and _is_constant(values, pieces):
        mean, lengths = take(values, slice(0, 1))[0].double(), torch.zeros_like(lengths)
    exponent = math.frexp(float(lengths.square().mean().sqrt()))[1]
    norms = (lengths * 0.5**exponent).square()
    return CentredLayer(values=values, mean=mean, exponent=exponent, norms=norms)


def _less(values: Array, index: slice, mean: Tensor) -> Tensor:
    rows = take(values, index)
    return rows - mean if rows.dtype == torch.float64 else rows.double().sub_(mean)


def _is_constant(values: Array, pieces: list[slice]) -> bool:
    first = take(values, slice(0, 1))
    return all(bool((take(values, index) == first).all()) for index in pieces)
