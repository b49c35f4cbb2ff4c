"""U-centred Gram matrices of one batch, flattened, and the traces of all their pairs.

With K = XXᵀ, its diagonal dropped and the rest U-centred (Székely & Rizzo 2014),

    A_ij = K_ij − r_i/(b−2) − r_j/(b−2) + Σr/((b−1)(b−2)),  r_i = Σ_{j≠i} K_ij,  A_ii = 0,

the estimator of Song et al. 2012 is simply HSIC₁ = Σ_ij A_ij B_ij / (b(b−3)): no large terms that
cancel. A does not change when a constant row is added to X, and an error ε_i + ε_j in A meets
rows of B that sum to zero. So centring and U-centring need only be *near* exact: a mean and row
sums in float32 cost accuracy in second order only, and an exact shift costs none.

All pairs of layers are then one matrix product of flattened Grams [layer, b²] × [b², baseline_layer].
It runs in chunks of 2,048 entries whose results are added in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engram_interp.metrics.arrays import Floats
from engram_interp.metrics.centring import centre

CHUNK = 2048

# A rounding error of K is relative to tr K, the signal is the norm of A. Beyond these ratios (one
# row hundreds of times longer than the rest) a Gram is made again in float64.
_WORST_RATIO = {torch.float32: 100.0, torch.float64: 1e8}
_NOTHING_LEFT = 1e-12
_SAFE_TRACE = (1e-6, 1e14)


@dataclass(frozen=True, kw_only=True)
class FlatGrams:
    """Gram matrices of several layers over the same rows.

    Attributes:
        entries: [layer, chunk, entry], float32 or float64; zero padding after the last entry.
        exponents: [layer]; the Gram is ``entries * 4**exponent``.
        squares: sum of squared entries per layer in the layers' own unit, float64 [layer].
    """

    entries: Tensor
    exponents: npt.NDArray[np.int64]
    squares: Floats


class Workspace:
    """Memory for the Grams of one side, used again by the next batch.

    Fresh pages would cost a fifth of the arithmetic. What an earlier batch left is overwritten.
    """

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def room(self, n_layers: int, n_entries: int, *, like: Tensor) -> Tensor:
        """[layer, chunk, entry] in the type and on the device of `like`, zero after `n_entries`."""
        chunk = min(CHUNK, n_entries)
        shape = torch.Size((n_layers, -(-n_entries // chunk), chunk))
        kept = self._kept
        if (kept.shape, kept.dtype, kept.device) != (shape, like.dtype, like.device):
            self._kept = kept = like.new_empty(shape)
        kept.view(n_layers, -1)[:, n_entries:] = 0
        return kept


def square_sums(entries: Tensor) -> Tensor:
    """Sum of squared entries per layer, float64 [layer]; within a chunk in the entries' own type."""
    norms: Tensor = torch.linalg.vector_norm(entries, dim=2)
    return norms.double().square().sum(1)


def pair_traces(grams: FlatGrams, others: FlatGrams) -> Floats:
    """Σ_ij A_ij B_ij for every pair of layers.

    Args:
        grams: of the first model.
        others: of the second, over the same rows, in the same dtype.

    Returns:
        float64 [layer, baseline_layer].
    """
    left = grams.entries.transpose(0, 1)
    right = others.entries.permute(1, 2, 0)
    traces = torch.bmm(left, right).sum(0, dtype=torch.float64).cpu().numpy()
    powers = 2 * (grams.exponents[:, None] + others.exponents[None, :])
    return np.asarray(np.ldexp(traces, powers))


def batch_grams(
    batch: Sequence[Tensor],
    *,
    side: str,
    samples: range | npt.NDArray[np.int64],
    dtype: torch.dtype,
    workspace: Workspace,
) -> FlatGrams:
    """U-centred Grams of one batch of rows.

    Args:
        batch: layers [b, d], b ≥ 4.
        side: ``xs`` or ``ys``, for errors.
        samples: the caller's number of each row, for errors.
        dtype: torch.float32 or torch.float64, of the products.
        workspace: where this side's Grams go.

    Returns:
        One flattened Gram per layer, good until the workspace is used again.

    Raises:
        InputError: NaN or infinity; names layer and sample.
    """
    size = len(batch[0])
    like = torch.empty(0, dtype=dtype, device=batch[0].device)
    entries = workspace.room(len(batch), size * size, like=like)
    room = entries.view(len(batch), -1)[:, : size * size].unflatten(1, (size, size))
    traces = torch.stack(
        [_write_gram(rows.to(dtype), out=gram) for rows, gram in zip(batch, room, strict=True)]
    ).double()
    squares = square_sums(entries)
    ratios = traces / squares.sqrt()
    sound = (traces > _SAFE_TRACE[0]) & (traces < _SAFE_TRACE[1]) & (ratios < _WORST_RATIO[dtype])
    exponents = np.zeros(len(batch), dtype=np.int64)
    for layer, good in enumerate(sound.tolist()):
        if not good:
            name = f"{side}[{layer}]"
            exponents[layer] = _write_gram_slowly(batch[layer], name, samples, out=room[layer])
    if not bool(sound.all()):
        squares = square_sums(entries)
    own = np.ldexp(squares.cpu().numpy(), 4 * exponents)
    return FlatGrams(entries=entries, exponents=exponents, squares=own)


def _write_gram(rows: Tensor, *, out: Tensor) -> Tensor:
    """Write the U-centred Gram of [b, d] rows into `out` [b, b]; returns tr K of the centred rows."""
    size = len(rows)
    mean = torch.full((size,), 1 / size, dtype=rows.dtype, device=rows.device) @ rows
    centred = rows - mean
    half = size // 2  # the upper right quarter is a copy: a Gram is symmetric
    torch.mm(centred[:half], centred[:half].T, out=out[:half, :half])
    torch.mm(centred[half:], centred.T, out=out[half:])
    out[:half, half:] = out[half:, :half].T
    diagonal = out.diagonal()
    trace = diagonal.sum()
    diagonal.zero_()
    sums = out.sum(1)
    share = u_share(sums, sums.sum())
    u_centre(out, share, share)
    diagonal.zero_()
    return trace


def u_share(sums: Tensor, total: Tensor) -> Tensor:
    """What U-centring adds to row and column i of a Gram whose off-diagonal rows sum to `sums`."""
    size = len(sums)
    return total / (2 * (size - 1) * (size - 2)) - sums / (size - 2)


def u_centre(gram: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add `rows` [row] and `columns` [column] to a Gram [row, column], as one rank-2 product."""
    left = torch.stack([rows, torch.ones_like(rows)], dim=1)
    gram.addmm_(left, torch.stack([torch.ones_like(columns), columns]))


def _write_gram_slowly(
    rows: Tensor, name: str, samples: range | npt.NDArray[np.int64], *, out: Tensor
) -> int:
    """The same in float64 with a scale, for rows float32 cannot hold; returns the exponent."""
    layer = centre(rows, name=name, samples=samples)
    gram = torch.zeros(out.shape, dtype=torch.float64, device=out.device)
    trace = _write_gram(layer.rows(slice(0, len(rows)), torch.float64), out=gram)
    if gram.norm() <= _NOTHING_LEFT * trace:
        gram.zero_()  # rows all equal, or all but one: what is left is rounding
    out.copy_(gram)
    return layer.exponent
