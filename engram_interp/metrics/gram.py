"""Gram matrices of batches without their diagonal, half of each, and the traces of all their pairs.

With K = XXᵀ, its diagonal dropped and the rest U-centred (Székely & Rizzo 2014),

    A_ij = K_ij − r_i/(b−2) − r_j/(b−2) + Σr/((b−1)(b−2)),  r_i = Σ_{j≠i} K_ij,  A_ii = 0,

the estimator of Song et al. 2012 is HSIC₁ = Σ_ij A_ij B_ij / (b(b−3)), and with t the sums of L

    Σ A_ij B_ij = Σ_{i≠j} K_ij L_ij + Σr·Σt/((b−1)(b−2)) − 2/(b−2)·Σ r_i t_i.

A does not change when a constant row is added to X. Where the mean is short beside the rows they are
taken as they are; otherwise a mean in float32, taken off before the product, is exact enough. What then
cancels on the right is small unless a few rows outweigh the rest; that is measured. A Gram that lost too
much is made again, about the mean and then U-centred entry by entry in float64.

A Gram is symmetric and kept by half (`half_grams`).
"""

from collections.abc import Sequence
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

# A mean whose squared length is this share of the rows' is taken off before the product.
FAR_MEAN = 0.05
_FEW_ROWS = 8

# A rounding error of K is relative to tr K, the signal is the norm of A. Beyond these ratios (one
# row hundreds of times longer than the rest) a Gram is made again in float64.
WORST_TRACE = {torch.float32: 100.0, torch.float64: 1e8}

# How often larger than ‖A‖² the sum Σ K_ij² may be from which it is taken.
WORST_LOSS = {torch.float32: 4.0, torch.float64: 1e6}
# As many rows of equal length would have this tr(K)² / Σ K_ii². Of fewer that decide a Gram, the float32
# errors do not average out, and sums of what stands beside them are rounded one way.
_FEWEST_ROWS = 16
_NOTHING_LEFT = 1e-12
_SAFE_TRACE = (1e-6, 1e14)


@dataclass(frozen=True, kw_only=True)
class Grams:
    """Gram matrices of several layers over the same batches of rows.

    Attributes:
        levels: their halves [layer, batch, block, row, column], float32 or float64, see `half_grams`.
        sums: off-diagonal row sums of what `levels` hold, float64 [layer, batch, row].
        exponents: [layer, batch]; the Gram is what `levels` hold times 4**exponent.
        squares: sum of squared U-centred entries in the layers' own unit, float64 [layer, batch].
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
    """Memory for the Grams of a few batches, used again by the next ones.

    Fresh pages would cost a fifth of the arithmetic. What an earlier batch left is overwritten.
    """

    def __init__(self) -> None:
        self._kept: list[Tensor] = []
        self._rows = torch.empty(0)

    def room(self, shapes: Sequence[tuple[int, ...]], *, like: Tensor) -> list[Tensor]:
        """Tensors of these shapes, in the type and on the device of `like`; equal shapes, the same ones."""
        if [_kind(kept) for kept in self._kept] != [(shape, *_kind(like)[1:]) for shape in shapes]:
            self._kept = [like.new_empty(shape) for shape in shapes]
        return self._kept

    def rows(self, shape: tuple[int, int, int], *, like: Tensor) -> Tensor:
        """[batch, row, d] in the type and on the device of `like`; for equal shapes the same ones."""
        if _kind(self._rows) != (shape, *_kind(like)[1:]):
            self._rows = like.new_empty(shape)
        return self._rows


def _kind(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def pair_traces(grams: Grams, others: Grams) -> Floats:
    """Σ_ij A_ij B_ij for every pair of layers.

    Args:
        grams: of the first model.
        others: of the second, over the same rows, in the same dtype.

    Returns:
        float64 [batch, layer, baseline_layer].
    """
    traces = half_grams.products(grams.levels, others.levels)
    traces += u_term(grams.sums.transpose(0, 1), others.sums.transpose(0, 1))
    powers = 2 * (grams.exponents.T[:, :, None] + others.exponents.T[:, None, :])
    return np.asarray(np.ldexp(traces.cpu().numpy(), powers))


def batch_grams(
    layers: Sequence[Tensor],
    *,
    n_batches: int,
    names: Sequence[str],
    samples: range | npt.NDArray[np.int64],
    dtype: torch.dtype,
    workspace: Workspace,
) -> Grams:
    """Grams of a few batches of rows at once.

    With two, each of two threads has a batch, and rows that stay in its own cache.

    Args:
        layers: [n_batches · b, d], one batch after the other, b ≥ 4.
        n_batches: how many batches.
        names: what each layer is called, for errors.
        samples: the caller's number of each row, for errors.
        dtype: torch.float32 or torch.float64, of the products; float64 also where a few rows decide.
        workspace: where the Grams go.

    Returns:
        One Gram per layer and batch, good until the workspace is used again.

    Raises:
        InputError: NaN or infinity; names layer and sample.
    """
    size = len(samples) // n_batches
    like = torch.empty(0, dtype=dtype, device=layers[0].device)
    levels = workspace.room(half_grams.level_shapes(len(layers), n_batches, size), like=like)
    batches = [rows.unflatten(0, (n_batches, size)) for rows in layers]
    moved = [far or rows.dtype != dtype for far, rows in zip(_have_far_means(layers), layers, strict=True)]
    for layer, rows in enumerate(batches):
        near = _centred(rows, like, workspace) if moved[layer] else half_grams.filled(rows)
        half_grams.write(near, out=half_grams.of_layer(levels, layer))
    if dtype == torch.float32 and bool(few_rows_decide(half_grams.diagonals(levels).flatten(2)).any()):
        return batch_grams(
            layers,
            n_batches=n_batches,
            names=names,
            samples=samples,
            dtype=torch.float64,
            workspace=workspace,
        )
    sums, squares, sound = _measured(levels, size)
    exponents = np.zeros(sound.shape, dtype=np.int64)
    for layer in torch.nonzero(~sound.all(1)).flatten().tolist():
        this = slice(layer, layer + 1)
        own, alone = half_grams.of_layer(levels, layer), [level[this] for level in levels]
        if not moved[layer]:
            half_grams.write(_centred(batches[layer], like, workspace), out=own)
            sums[this], squares[this], sound[this] = _measured(alone, size)
        for batch in torch.nonzero(~sound[layer]).flatten().tolist():
            rows, out = batches[layer][batch], [level[batch] for level in own]
            which = samples[batch * size : (batch + 1) * size]
            exponents[layer, batch] = _write_gram_slowly(rows, names[layer], which, out=out)
            sums[layer, batch] = 0
        squares[this] = _square_sums(alone, sums[this])[1]
    in_own_units = np.ldexp(squares.cpu().numpy(), 4 * exponents)
    return Grams(levels=levels, sums=sums, exponents=exponents, squares=in_own_units)


def few_rows_decide(norms: Tensor) -> Tensor:
    """Whether a Gram with these squared row norms [*, row] is made by so few rows that float32 would show."""
    k = norms.double()
    return k.sum(-1).square() < _FEWEST_ROWS * k.square().sum(-1)


def _have_far_means(batch: Sequence[Tensor]) -> list[bool]:
    """Whether each layer's mean looks long beside its rows.

    A few rows tell, since this decides only which way is tried first: what rounding does is measured after.
    """
    far: list[bool] = []
    for _, same in groupby(batch, key=lambda rows: (rows.shape[1], rows.dtype)):
        few = torch.stack([rows[:: max(1, len(rows) // _FEW_ROWS)] for rows in same]).float()
        squares = few.square().sum((1, 2))
        between = few.sum(1).square().sum(1) - squares  # (k−1) Σ|x|² times the share of the mean
        far += (between > FAR_MEAN * (few.shape[1] - 1) * squares).tolist()
    return far


def _centred(rows: Tensor, like: Tensor, workspace: Workspace) -> Tensor:
    """Rows less their batch's mean [batch, row, d], filled up with zeros; good until the next call."""
    count, size, width = rows.shape
    out = workspace.rows((count, size + half_grams.missing(size), width), like=like)
    kept = out[:, :size]
    kept.copy_(rows)
    kept -= kept.mean(1, keepdim=True)
    out[:, size:] = 0
    return out


def _measured(levels: Sequence[Tensor], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """By layer and batch: row sums, Σ A_ij², whether rounding cannot show; sets the diagonals to zero."""
    diagonals, dtype = half_grams.diagonals(levels), levels[0].dtype
    traces = diagonals.sum((2, 3), dtype=torch.float64)
    diagonals.zero_()
    sums = half_grams.row_sums(levels, size)
    whole, squares = _square_sums(levels, sums)
    sound = (traces > _SAFE_TRACE[0]) & (traces < _SAFE_TRACE[1]) & (whole < WORST_LOSS[dtype] * squares)
    return sums, squares, sound & (traces < WORST_TRACE[dtype] * squares.sqrt())


def _square_sums(levels: Sequence[Tensor], sums: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_{i≠j} K_ij² and Σ_ij A_ij², float64 [layer, batch]."""
    size, whole = sums.shape[2], half_grams.square_sums(levels)
    change = sums.sum(2).square() / ((size - 1) * (size - 2)) - 2 / (size - 2) * sums.square().sum(2)
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
