"""HSIC₁ between layers, and per-group terms from which CKA can be bootstrapped without activations.

Linear kernels K = XXᵀ, L = YYᵀ over n samples, tilde = diagonal set to zero:

    HSIC₁(K,L) = [ tr(K̃L̃) + (1ᵀK̃1)(1ᵀL̃1)/((n−1)(n−2)) − 2/(n−2)·1ᵀK̃L̃1 ] / (n(n−3)),  n ≥ 4

(Song et al. 2012). It is unbiased: for independent X and Y its mean is 0 and single values may be
negative. HSIC₁(K,K) is never negative. Its unit is that of X² Y².
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from engram_interp.errors import InputError
from engram_interp.metrics import exact, gram
from engram_interp.metrics.arrays import (
    MIN_SAMPLES,
    Array,
    Floats,
    check_layers,
    take,
    to_float64,
    working_dtype,
)

# A larger batch goes through tiles instead of one Gram per layer in memory.
LARGEST_GRAM = 1024


@dataclass(frozen=True, kw_only=True)
class Terms:
    """HSIC₁ of groups of samples (minibatches, or groups of whole documents).

    Attributes:
        xy: [group, layer, baseline_layer], of every pair of layers.
        xx: [group, layer], of each layer with itself.
        yy: [group, baseline_layer], the same for the other model.
    """

    xy: Floats
    xx: Floats
    yy: Floats

    def __post_init__(self) -> None:
        wanted = (self.xy.shape[:2], self.xy.shape[::2])
        if self.xy.ndim != 3 or (self.xx.shape, self.yy.shape) != wanted:
            raise InputError(
                "Terms wants xy [group, layer, baseline_layer], xx [group, layer] and yy [group, "
                f"baseline_layer], got {self.xy.shape}, {self.xx.shape} and {self.yy.shape}."
            )


def hsic1(x: Float[Array, "_sample _d_model"], y: Float[Array, "_sample _d_model"]) -> float:
    """HSIC₁ of two layers over all samples, exact.

    Args:
        x: [sample, d].
        y: [sample, d'], the same samples.

    Returns:
        The estimate; may be slightly negative.

    Raises:
        InputError: fewer than 4 samples, sample counts that differ, NaN or infinity.
    """
    n = check_layers([x], [y], caller="hsic1")
    return float(exact.traces([x], [y], diagonal="dropped").xy[0, 0]) / (n * (n - 3))


def batch_terms(
    xs: Sequence[Array],
    ys: Sequence[Array],
    samples: range | npt.NDArray[np.int64],
    workspace: gram.Workspace,
    *,
    n_batches: int = 1,
) -> Terms:
    """HSIC₁ terms of one batch or a few: all layers of both sides at some rows.

    Args:
        xs: layers [sample, d], already checked with `check_layers`.
        ys: layers of the other model. Passing `xs` itself again costs half.
        samples: the rows, at least 4 a batch, one batch after the other; consecutive numbers as a range.
        workspace: memory of the Grams, the same from call to call.
        n_batches: how many batches of equal size these rows are; `together` says how many are best.

    Returns:
        Terms of as many groups.

    Raises:
        InputError: NaN or infinity among these rows; names layer and sample.
    """
    size = len(samples) // n_batches
    if size > LARGEST_GRAM and n_batches > 1:
        pieces = [samples[start : start + size] for start in range(0, len(samples), size)]
        return _joined([batch_terms(xs, ys, piece, workspace) for piece in pieces])
    index = slice(samples.start, samples.stop) if isinstance(samples, range) else samples
    left = [take(layer, index) for layer in xs]
    right = left if ys is xs else [take(layer, index) for layer in ys]
    if size > LARGEST_GRAM:
        found = exact.traces(left, right, diagonal="dropped", samples=samples)
        xy, xx, yy = found.xy[None], found.xx[None], found.yy[None]
    else:
        names = [f"xs[{layer}]" for layer in range(len(xs))]
        if right is not left:
            names += [f"ys[{layer}]" for layer in range(len(ys))]
        both = gram.batch_grams(
            left if right is left else left + right,
            n_batches=n_batches,
            names=names,
            samples=samples,
            dtype=working_dtype(*xs, *ys, n_samples=size),
            workspace=workspace,
        )
        grams = both.part(slice(0, len(xs)))
        others = grams if right is left else both.part(slice(len(xs), None))
        xy, xx, yy = gram.pair_traces(grams, others), grams.squares.T, others.squares.T
    scale = 1 / (size * (size - 3))
    return Terms(xy=xy * scale, xx=xx * scale, yy=yy * scale)


def together(count: int) -> list[slice]:
    """Runs of batches to take at once: two, and what is left over."""
    return [slice(start, min(start + 2, count)) for start in range(0, count, 2)]


def _joined(parts: Sequence[Terms]) -> Terms:
    return Terms(
        xy=np.concatenate([part.xy for part in parts]),
        xx=np.concatenate([part.xx for part in parts]),
        yy=np.concatenate([part.yy for part in parts]),
    )


def group_terms(
    xs: Sequence[Float[Array, "_sample _d_model"]],
    ys: Sequence[Float[Array, "_sample _d_model"]],
    groups: Sequence[Int[np.ndarray, " _row"]],
) -> Terms:
    """HSIC₁ terms of each group of samples.

    Put whole documents into disjoint groups of equal size and shuffle the rows of each: a bootstrap
    over groups then needs nothing but these terms (`cka_from_terms` with `bootstrap.group_weights`).
    One document per group would bias CKA, since the rows of a document are alike.

    Args:
        xs: layers [sample, d], any d per layer.
        ys: layers [sample, d] of the other model, over the same samples.
        groups: row numbers of each group; all groups the same length, at least 4.

    Returns:
        The terms, in the order of `groups`.

    Raises:
        InputError: no group, unequal or too short groups, row numbers out of range, sample counts
            that differ, NaN or infinity (names layer and sample).
    """
    n_samples = check_layers(xs, ys, caller="group_terms")
    _check_groups(groups, n_samples)
    room = gram.Workspace()
    parts = []
    for run in together(len(groups)):
        rows = np.concatenate([np.asarray(group, dtype=np.int64) for group in groups[run]])
        parts.append(batch_terms(xs, ys, rows, room, n_batches=len(groups[run])))
    return _joined(parts)


def _check_groups(groups: Sequence[npt.NDArray[np.integer]], n_samples: int) -> None:
    if len(groups) == 0:
        raise InputError("group_terms needs at least one group of row numbers, got none.")
    size = len(groups[0])
    if size < MIN_SAMPLES:
        raise InputError(
            f"group_terms needs groups of at least {MIN_SAMPLES} samples, got {size}; make larger groups."
        )
    for number, group in enumerate(groups):
        if len(group) != size:
            raise InputError(
                f"group {number} has {len(group)} samples but group 0 has {size}; "
                "cut all groups to the same length, so that each term estimates the same."
            )
        if group.min() < 0 or group.max() >= n_samples:
            raise InputError(
                f"group {number} asks for rows {group.min()} to {group.max()}, "
                f"but the layers have rows 0 to {n_samples - 1}."
            )


def cka_from_terms(
    terms: Terms, weights: Float[Array, "*boot group"] | None = None
) -> Float[np.ndarray, "*boot layer baseline_layer"]:
    """CKA from stored terms, each of the three averaged over groups before the ratio.

    Args:
        terms: from `group_terms`.
        weights: how often each group counts, [group] or [boot, group] (`bootstrap.group_weights`);
            once each if not given.

    Returns:
        float64 [layer, baseline_layer], or [boot, layer, baseline_layer] for weights with a leading
        axis. Not clamped: at most about 1, and slightly negative where nothing is shared. NaN where
        a layer does not vary within the weighted groups.

    Raises:
        InputError: weights for another number of groups.
    """
    n_groups, n_layers, n_others = terms.xy.shape
    given = np.ones(n_groups) if weights is None else to_float64(weights, "weights")
    if given.ndim == 0 or given.shape[-1] != n_groups:
        raise InputError(
            f"weights must end in an axis of {n_groups} groups, got shape {given.shape}; "
            "make them with group_weights(n_groups, ...)."
        )
    xy = (given @ terms.xy.reshape(n_groups, -1)).reshape(*given.shape[:-1], n_layers, n_others)
    xx, yy = given @ terms.xx, given @ terms.yy
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(xy / (np.sqrt(xx)[..., :, None] * np.sqrt(yy)[..., None, :]))
