"""A layer's rows relative to an origin near their mean, and what makes up for the rest.

HSIC does not change when all rows of a layer move together, so the origin only has to lie near enough
for rounding. With rows x_i relative to it and s their sum, the Gram's rows sum to Σ_j x_i·x_j = x_i·s, and
centring is what these sums say. In float32 a layer whose mean is short beside its rows is
taken as it is, without a copy; from any other the mean is taken off. In float64 it always is, exactly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engram_interp.metrics.arrays import Array, take
from engram_interp.metrics.centring import ROW_TILE, Samples, centre, tiles

# A mean of at most half the rows' length doubles no rounding error.
SHORT_MEAN = 0.5

# In float32 a spread this small beside the mean is made of few digits, or of rounding.
SMALL_SPREAD = 1e-5

# Mean and largest squared norm between which float32 neither loses nor overflows products of Grams.
SAFE_SQUARES = (1e-9, 1e11)


@dataclass(frozen=True, kw_only=True)
class NearMean:
    """One layer.

    Attributes:
        rows: [sample, d] relative to the origin, divided by 2**exponent.
        total: their sum, float64 [d].
        norms: their squared norms, float64 [sample].
        sums: row sums of their Gram with its diagonal, float64 [sample].
        exponent: 0 in float32.
        is_safe: whether float32 is enough for these rows; always in float64.
    """

    rows: Tensor
    total: Tensor
    norms: Tensor
    sums: Tensor
    exponent: int
    is_safe: bool

    @property
    def centred_norms(self) -> Tensor:
        """Squared norms about the mean itself, float64 [sample]."""
        mean = self.total / len(self.norms)
        return self.norms - 2 / len(self.norms) * self.sums + mean @ mean


def near_mean(values: Array, dtype: torch.dtype, *, name: str, samples: Samples) -> NearMean:
    """Move a layer's origin near its mean.

    Args:
        values: [sample, d].
        dtype: torch.float32 or torch.float64, of the rows.
        name: the layer, for errors.
        samples: the caller's number of each row, for errors; 0, 1, 2, … if None.

    Returns:
        The layer; `rows` may share memory with `values`.

    Raises:
        InputError: in float64: NaN or infinity (names the sample), or rows longer than 1e70. In float32
            such a layer is not safe.
    """
    return _exactly(values, name, samples) if dtype == torch.float64 else _nearly(values, dtype)


def _exactly(values: Array, name: str, samples: Samples) -> NearMean:
    layer = centre(values, name=name, samples=samples)
    rows = torch.empty(values.shape, dtype=torch.float64, device=layer.mean.device)
    for index in tiles(len(rows), ROW_TILE):
        layer.write(index, out=rows[index])
    nothing = torch.zeros_like(layer.norms)
    total = torch.zeros_like(layer.mean)
    return NearMean(
        rows=rows, total=total, norms=layer.norms, sums=nothing, exponent=layer.exponent, is_safe=True
    )


def _nearly(values: Array, dtype: torch.dtype) -> NearMean:
    total, norms = _measure(values, dtype)
    mean = total / len(values)
    size, square = float(mean.norm()), float(norms.mean())
    if size**2 <= SHORT_MEAN**2 * square:
        rows = take(values, slice(None)).to(dtype)
    else:
        rows, high = torch.empty(values.shape, dtype=dtype, device=mean.device), mean.to(dtype)
        for index in tiles(len(rows), ROW_TILE):
            torch.sub(take(values, index), high, out=rows[index])
        total, norms = _measure(rows, dtype)
        square = float(norms.mean())
    sums = (rows @ total.to(dtype)).double()
    is_safe = square >= SAFE_SQUARES[0] and float(norms.max()) <= SAFE_SQUARES[1]
    is_safe &= square > (SMALL_SPREAD * size) ** 2
    return NearMean(rows=rows, total=total, norms=norms, sums=sums, exponent=0, is_safe=is_safe)


def _measure(values: Array, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Sum of the rows [d] and squared norm of each [sample], float64 from tiles in `dtype`."""
    pieces = [take(values, index).to(dtype) for index in tiles(len(values), ROW_TILE)]
    total = torch.stack([piece.sum(0) for piece in pieces]).double().sum(0)
    norms = torch.cat([torch.linalg.vector_norm(piece, dim=1) for piece in pieces])
    return total, norms.double().square()
