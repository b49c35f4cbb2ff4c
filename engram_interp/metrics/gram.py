"""Gram matrices of one batch without their diagonal, half of each, and the traces of all their pairs.

With K = XXᵀ, its diagonal dropped and the rest U-centred (Székely & Rizzo 2014),

    A_ij = K_ij − r_i/(b−2) − r_j/(b−2) + Σr/((b−1)(b−2)),  r_i = Σ_{j≠i} K_ij,  A_ii = 0,

the estimator of Song et al. 2012 is HSIC₁ = Σ_ij A_ij B_ij / (b(b−3)), and with t the sums of L

    Σ A_ij B_ij = Σ_{i≠j} K_ij L_ij + Σr·Σt/((b−1)(b−2)) − 2/(b−2)·Σ r_i t_i.

A does not change when a constant row is added to X, so a mean in float32, taken off before the
product, is exact enough. What then cancels on the right is small unless a few rows outweigh the rest;
that is measured, and such a Gram is made again, U-centred entry by entry, in float64.

A Gram is symmetric: four blocks on its diagonal are kept whole, and of every pair of blocks beside it
one, times √2. That is 5/8 of the operations, of the memory and of the work of the traces, and a sum
of products stays a plain sum. Layers of equal width go through one batched product, a few at a time so
that they stay in the cache. All pairs of layers are then one matrix product of flattened Grams
[layer, entry] × [entry, baseline_layer], in chunks of 2,048 entries whose results are added in float64.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engram_interp.metrics.arrays import Floats
from engram_interp.metrics.centring import centre
from engram_interp.metrics.u_centring import u_centre, u_share, u_term

CHUNK = 2048

# Blocks along the diagonal; a power of two. More would mean fewer operations in smaller products.
PARTS = 4
_ENTRIES = PARTS * (PARTS + 1) // 2
_ROOT = math.sqrt(2)

# Layers are stacked up to this size.
_STACK_BYTES = 2 << 20

# A rounding error of K is relative to tr K, the signal is the norm of A. Beyond these ratios (one
# row hundreds of times longer than the rest) a Gram is made again in float64.
WORST_TRACE = {torch.float32: 100.0, torch.float64: 1e8}

# How often larger than ‖A‖² the sum Σ K_ij² may be from which it is taken.
WORST_LOSS = {torch.float32: 4.0, torch.float64: 1e6}
_NOTHING_LEFT = 1e-12
_SAFE_TRACE = (1e-6, 1e14)


@dataclass(frozen=True, kw_only=True)
class FlatGrams:
    """Gram matrices of several layers over the same rows.

    Attributes:
        entries: [layer, chunk, entry], float32 or float64, see `blocks`; zero padding after the last.
        sums: off-diagonal row sums of what `entries` hold, float64 [layer, row].
        exponents: [layer]; the Gram is ``entries * 4**exponent``.
        squares: sum of squared U-centred entries per layer in the layers' own unit, float64 [layer].
    """

    entries: Tensor
    sums: Tensor
    exponents: npt.NDArray[np.int64]
    squares: Floats


class Workspace:
    """Memory for the Grams of one side, used again by the next batch.

    Fresh pages would cost a fifth of the arithmetic. What an earlier batch left is overwritten.
    """

    def __init__(self) -> None:
        self._kept = torch.empty(0)
        self._stack = torch.empty(0)

    def room(self, n_layers: int, n_entries: int, *, like: Tensor) -> Tensor:
        """[layer, chunk, entry] in the type and on the device of `like`, zero after `n_entries`."""
        chunk = min(CHUNK, n_entries)
        shape = torch.Size((n_layers, -(-n_entries // chunk), chunk))
        kept = self._kept
        if (kept.shape, kept.dtype, kept.device) != (shape, like.dtype, like.device):
            self._kept = kept = like.new_empty(shape)
        kept.view(n_layers, -1)[:, n_entries:] = 0
        return kept

    def stack(self, shape: tuple[int, int, int], *, like: Tensor) -> Tensor:
        """[layer, row, d] in the type and on the device of `like`; a stack of equal shape is the same one."""
        if (self._stack.shape, self._stack.dtype, self._stack.device) != (shape, like.dtype, like.device):
            self._stack = like.new_empty(shape)
        return self._stack


def n_entries(size: int) -> int:
    """How many numbers are kept of a symmetric matrix of `size` rows, filled up to a multiple of PARTS."""
    return _ENTRIES * (-(-size // PARTS)) ** 2


def blocks(flat: Tensor) -> list[Tensor]:
    """The blocks in the kept entries of symmetric matrices.

    Args:
        flat: [..., entry], `n_entries` of them.

    Returns:
        Views [..., block, row, column]: the PARTS blocks on the diagonal, then the blocks beside it
        (which stand times √2), PARTS/2 of the same size, PARTS/4 twice as large, … and a single one.
    """
    side, count, stop = math.isqrt(flat.shape[-1] // _ENTRIES), PARTS // 2, PARTS
    stop *= side**2
    views = [flat[..., :stop].unflatten(-1, (PARTS, side, side))]
    while count:
        start, stop = stop, stop + count * side**2
        views.append(flat[..., start:stop].unflatten(-1, (count, side, side)))
        side, count = 2 * side, count // 2
    return views


def write_blocks(stack: Tensor, *, out: Tensor) -> None:
    """Write XXᵀ of layers [layer, row, d] into `out` [layer, entry] as `blocks` has it.

    Their rows are a multiple of PARTS; rows of zeros fill up.
    """
    diagonal, *levels = blocks(out)
    pieces = stack.unflatten(1, (PARTS, -1)).flatten(0, 1)
    diagonal.copy_(torch.bmm(pieces, pieces.mT).view(diagonal.shape))
    for level in levels:
        pieces = stack.unflatten(1, (level.shape[1], 2, -1)).flatten(0, 1)
        torch.mul(torch.bmm(pieces[:, 0], pieces[:, 1].mT).view(level.shape), _ROOT, out=level)


def filled(stack: Tensor) -> Tensor:
    """[layer, row, d] with rows of zeros up to a multiple of PARTS."""
    missing = -stack.shape[1] % PARTS
    return torch.nn.functional.pad(stack, (0, 0, 0, missing)) if missing else stack


def _pack(gram: Tensor, *, out: Tensor) -> None:
    """Write a whole symmetric [row, row] into `out` [entry]."""
    missing = -len(gram) % PARTS
    gram = torch.nn.functional.pad(gram, (0, missing, 0, missing))
    diagonal, *levels = blocks(out)
    tiles = gram.unflatten(1, (PARTS, -1)).unflatten(0, (PARTS, -1))
    diagonal.copy_(tiles.diagonal(dim1=0, dim2=2).permute(2, 0, 1))
    for level in levels:
        parts = 2 * len(level)
        tiles = gram.unflatten(1, (parts, -1)).unflatten(0, (parts, -1))[::2, :, 1::2]
        level.copy_(tiles.diagonal(dim1=0, dim2=2).permute(2, 0, 1) * _ROOT)


def _row_sums(flat: Tensor, size: int) -> Tensor:
    """Row sums of symmetric matrices kept as [layer, entry], float64 [layer, row]."""
    diagonal, *levels = blocks(flat)
    total = diagonal.sum(3).flatten(1).double()
    for level in levels:
        total += torch.stack([level.sum(3), level.sum(2)], dim=2).flatten(1) / _ROOT
    return total[:, :size]


def square_sums(entries: Tensor) -> Tensor:
    """Sum of squared entries per layer, float64 [layer]; within a chunk in the entries' own type."""
    norms: Tensor = torch.linalg.vector_norm(entries, dim=2)
    return norms.double().square().sum(1)


def products(entries: Tensor, others: Tensor) -> Tensor:
    """Sum of products of entries for every pair of layers, float64 [layer, baseline_layer]."""
    return torch.bmm(entries.transpose(0, 1), others.permute(1, 2, 0)).sum(0, dtype=torch.float64)


def pair_traces(grams: FlatGrams, others: FlatGrams) -> Floats:
    """Σ_ij A_ij B_ij for every pair of layers.

    Args:
        grams: of the first model.
        others: of the second, over the same rows, in the same dtype.

    Returns:
        float64 [layer, baseline_layer].
    """
    traces = products(grams.entries, others.entries) + u_term(grams.sums, others.sums)
    powers = 2 * (grams.exponents[:, None] + others.exponents[None, :])
    return np.asarray(np.ldexp(traces.cpu().numpy(), powers))


def batch_grams(
    batch: Sequence[Tensor],
    *,
    side: str,
    samples: range | npt.NDArray[np.int64],
    dtype: torch.dtype,
    workspace: Workspace,
) -> FlatGrams:
    """Grams of one batch of rows.

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
    size, kept = len(batch[0]), n_entries(len(batch[0]))
    like = torch.empty(0, dtype=dtype, device=batch[0].device)
    entries = workspace.room(len(batch), kept, like=like)
    flat = entries.view(len(batch), -1)[:, :kept]
    for layers in _alike(batch, like.itemsize):
        write_blocks(_centred(batch[layers], like, workspace), out=flat[layers])
    diagonal = blocks(flat)[0].diagonal(dim1=2, dim2=3)
    traces = diagonal.sum((1, 2), dtype=torch.float64)
    diagonal.zero_()
    sums = _row_sums(flat, size)
    whole, squares = _square_sums(entries, sums)
    sound = (traces > _SAFE_TRACE[0]) & (traces < _SAFE_TRACE[1]) & (whole < WORST_LOSS[dtype] * squares)
    sound &= traces < WORST_TRACE[dtype] * squares.sqrt()
    exponents = np.zeros(len(batch), dtype=np.int64)
    for layer, good in enumerate(sound.tolist()):
        if not good:
            name = f"{side}[{layer}]"
            exponents[layer] = _write_gram_slowly(batch[layer], name, samples, out=flat[layer])
            sums[layer] = 0
    if not bool(sound.all()):
        _, squares = _square_sums(entries, sums)
    own = np.ldexp(squares.cpu().numpy(), 4 * exponents)
    return FlatGrams(entries=entries, sums=sums, exponents=exponents, squares=own)


def _alike(batch: Sequence[Tensor], itemsize: int) -> Iterator[slice]:
    """Consecutive layers of one width, few enough for one stack."""
    start = 0
    for _, same in groupby(batch, key=lambda rows: rows.shape[1]):
        stop = start + len(list(same))
        step = max(1, _STACK_BYTES // (itemsize * batch[start].numel()))
        for first in range(start, stop, step):
            yield slice(first, min(first + step, stop))
        start = stop


def _centred(layers: Sequence[Tensor], like: Tensor, workspace: Workspace) -> Tensor:
    """Rows less their mean [layer, row, d], filled up with zeros; good until the next call."""
    size, width = layers[0].shape
    out = workspace.stack((len(layers), size + -size % PARTS, width), like=like)
    rows = out[:, :size]
    for kept, layer in zip(rows, layers, strict=True):
        kept.copy_(layer)
    rows -= rows.mean(1, keepdim=True)
    out[:, size:] = 0
    return out


def _square_sums(entries: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_{i≠j} K_ij² and Σ_ij A_ij² per layer, float64 [layer]."""
    size, whole = sums.shape[1], square_sums(entries)
    change = sums.sum(1).square() / ((size - 1) * (size - 2)) - 2 / (size - 2) * sums.square().sum(1)
    return whole, whole + change


def _write_gram_slowly(
    rows: Tensor, name: str, samples: range | npt.NDArray[np.int64], *, out: Tensor
) -> int:
    """Write the U-centred Gram itself, in float64 with a scale; returns the exponent."""
    layer = centre(rows, name=name, samples=samples)
    centred = layer.rows(slice(0, len(rows)), torch.float64)
    gram = centred @ centred.T
    trace = gram.trace()
    gram.fill_diagonal_(0)
    sums = gram.sum(1)
    share = u_share(sums, sums.sum())
    u_centre(gram, share, share)
    gram.fill_diagonal_(0)
    if gram.norm() <= _NOTHING_LEFT * trace:
        gram.zero_()  # rows all equal, or all but one: what is left is rounding
    _pack(gram, out=out)
    return layer.exponent
