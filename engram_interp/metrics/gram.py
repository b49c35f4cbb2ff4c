"""Gram matrices of one batch without their diagonal, half of each, and the traces of all their pairs.

With K = XXᵀ, its diagonal dropped and the rest U-centred (Székely & Rizzo 2014),

    A_ij = K_ij − r_i/(b−2) − r_j/(b−2) + Σr/((b−1)(b−2)),  r_i = Σ_{j≠i} K_ij,  A_ii = 0,

the estimator of Song et al. 2012 is HSIC₁ = Σ_ij A_ij B_ij / (b(b−3)), and with t the sums of L

    Σ A_ij B_ij = Σ_{i≠j} K_ij L_ij + Σr·Σt/((b−1)(b−2)) − 2/(b−2)·Σ r_i t_i.

A does not change when a constant row is added to X, so a mean in float32, taken off before the
product, is exact enough. What then cancels on the right is small unless a few rows outweigh the rest;
that is measured, and such a Gram is made again, U-centred entry by entry, in float64.

A Gram is symmetric and kept by half (`half_grams`). Layers of equal width go through one batched product, a
few at a time so that they stay in the cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engram_interp.metrics import half_grams
from engram_interp.metrics.arrays import Floats
from engram_interp.metrics.centring import centre
from engram_interp.metrics.u_centring import u_centre, u_share, u_term

# Layers are stacked up to this size, a quarter of a shared cache.
_STACK_BYTES = 8 << 20

# A rounding error of K is relative to tr K, the signal is the norm of A. Beyond these ratios (one
# row hundreds of times longer than the rest) a Gram is made again in float64.
WORST_TRACE = {torch.float32: 100.0, torch.float64: 1e8}

# How often larger than ‖A‖² the sum Σ K_ij² may be from which it is taken.
WORST_LOSS = {torch.float32: 4.0, torch.float64: 1e6}
_NOTHING_LEFT = 1e-12
_SAFE_TRACE = (1e-6, 1e14)


@dataclass(frozen=True, kw_only=True)
class Grams:
    """Gram matrices of several layers over the same rows.

    Attributes:
        levels: their halves [layer, block, row, column], float32 or float64, see `half_grams`.
        sums: off-diagonal row sums of what `levels` hold, float64 [layer, row].
        exponents: [layer]; the Gram is what `levels` hold times 4**exponent.
        squares: sum of squared U-centred entries per layer in the layers' own unit, float64 [layer].
    """

    levels: list[Tensor]
    sums: Tensor
    exponents: npt.NDArray[np.int64]
    squares: Floats

    def part(self, layers: slice) -> "Grams":
        """Some of the layers; shares their memory."""
        return Grams(
            levels=[level[layers] for level in self.levels],
            sums=self.sums[layers],
            exponents=self.exponents[layers],
            squares=self.squares[layers],
        )


class Workspace:
    """Memory for the Grams of one batch, used again by the next batch.

    Fresh pages would cost a fifth of the arithmetic. What an earlier batch left is overwritten.
    """

    def __init__(self) -> None:
        self._kept: list[Tensor] = []
        self._stack = torch.empty(0)

    def room(self, shapes: Sequence[tuple[int, ...]], *, like: Tensor) -> list[Tensor]:
        """Tensors of these shapes, in the type and on the device of `like`; equal shapes, the same ones."""
        if [_kind(kept) for kept in self._kept] != [(shape, *_kind(like)[1:]) for shape in shapes]:
            self._kept = [like.new_empty(shape) for shape in shapes]
        return self._kept

    def stack(self, shape: tuple[int, int, int], *, like: Tensor) -> Tensor:
        """[layer, row, d] in the type and on the device of `like`; a stack of equal shape is the same one."""
        if _kind(self._stack) != (shape, *_kind(like)[1:]):
            self._stack = like.new_empty(shape)
        return self._stack


def _kind(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def pair_traces(grams: Grams, others: Grams) -> Floats:
    """Σ_ij A_ij B_ij for every pair of layers.

    Args:
        grams: of the first model.
        others: of the second, over the same rows, in the same dtype.

    Returns:
        float64 [layer, baseline_layer].
    """
    traces = half_grams.products(grams.levels, others.levels) + u_term(grams.sums, others.sums)
    powers = 2 * (grams.exponents[:, None] + others.exponents[None, :])
    return np.asarray(np.ldexp(traces.cpu().numpy(), powers))


def batch_grams(
    batch: Sequence[Tensor],
    *,
    names: Sequence[str],
    samples: range | npt.NDArray[np.int64],
    dtype: torch.dtype,
    workspace: Workspace,
) -> Grams:
    """Grams of one batch of rows.

    Args:
        batch: layers [b, d], b ≥ 4.
        names: what each is called, for errors.
        samples: the caller's number of each row, for errors.
        dtype: torch.float32 or torch.float64, of the products.
        workspace: where the Grams go.

    Returns:
        One Gram per layer, good until the workspace is used again.

    Raises:
        InputError: NaN or infinity; names layer and sample.
    """
    size = len(batch[0])
    like = torch.empty(0, dtype=dtype, device=batch[0].device)
    levels = workspace.room(half_grams.level_shapes(len(batch), size), like=like)
    for layers in _alike(batch, like.itemsize):
        half_grams.write(_centred(batch[layers], like, workspace), out=[level[layers] for level in levels])
    diagonals = half_grams.diagonals(levels)
    traces = diagonals.sum((1, 2), dtype=torch.float64)
    diagonals.zero_()
    sums = half_grams.row_sums(levels, size)
    whole, squares = _square_sums(levels, sums)
    sound = (traces > _SAFE_TRACE[0]) & (traces < _SAFE_TRACE[1]) & (whole < WORST_LOSS[dtype] * squares)
    sound &= traces < WORST_TRACE[dtype] * squares.sqrt()
    exponents = np.zeros(len(batch), dtype=np.int64)
    for layer, good in enumerate(sound.tolist()):
        if not good:
            out = [level[layer] for level in levels]
            exponents[layer] = _write_gram_slowly(batch[layer], names[layer], samples, out=out)
            sums[layer] = 0
    if not bool(sound.all()):
        _, squares = _square_sums(levels, sums)
    own = np.ldexp(squares.cpu().numpy(), 4 * exponents)
    return Grams(levels=levels, sums=sums, exponents=exponents, squares=own)


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
    out = workspace.stack((len(layers), size + -size % half_grams.PARTS, width), like=like)
    rows = out[:, :size]
    for kept, layer in zip(rows, layers, strict=True):
        kept.copy_(layer)
    rows -= rows.mean(1, keepdim=True)
    out[:, size:] = 0
    return out


def _square_sums(levels: Sequence[Tensor], sums: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_{i≠j} K_ij² and Σ_ij A_ij² per layer, float64 [layer]."""
    size, whole = sums.shape[1], half_grams.square_sums(levels)
    change = sums.sum(1).square() / ((size - 1) * (size - 2)) - 2 / (size - 2) * sums.square().sum(1)
    return whole, whole + change


def _write_gram_slowly(
    rows: Tensor, name: str, samples: range | npt.NDArray[np.int64], *, out: Sequence[Tensor]
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
    half_grams.pack(gram, out=out)
    return layer.exponent
