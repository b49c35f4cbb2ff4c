"""Uncertainty by resampling documents, never tokens: the tokens of a document are alike.

Intervals are percentile intervals of n_boot resamples, expanded for the number of documents. They
speak of these models on more text of the same kind, not of another training run. With fewer than 20
documents (or document groups) no interval is honest: the bounds are then NaN, and the caller says so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Shaped
from scipy import special

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, to_float64

MIN_GROUPS = 20
"""Fewer resampled units than this give no interval."""

MOST_UNDEFINED = 0.05
"""Resamples in which a statistic is undefined are left out, up to this share of them."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic with its interval.

    Attributes:
        value: over all documents, [*rest].
        low: lower bound, [*rest]; NaN without an interval.
        high: upper bound, [*rest]; NaN without an interval.
        n_documents: documents that had a value, [*rest].
    """

    value: Floats
    low: Floats
    high: Floats
    n_documents: npt.NDArray[np.int64]


def named(name: str, estimate: Estimate) -> dict[str, Floats]:
    """An estimate as the variables of a result: ``name``, ``name_low`` and ``name_high``."""
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def group_weights(
    n_groups: int, n_boot: int, seed: int | np.random.Generator
) -> Float[np.ndarray, "boot group"]:
    """How often each group is drawn in each resample (with replacement, n_groups draws).

    Args:
        n_groups: number of groups.
        n_boot: number of resamples.
        seed: of numpy's default generator, or a generator.

    Returns:
        float64 [boot, group], whole numbers, each row summing to n_groups.

    Raises:
        InputError: n_groups or n_boot below 1.
    """
    if n_groups < 1 or n_boot < 1:
        raise InputError(f"a bootstrap needs groups and resamples, got {n_groups} and {n_boot}.")
    shares = np.full(n_groups, 1 / n_groups)
    return np.random.default_rng(seed).multinomial(n_groups, shares, size=n_boot).astype(np.float64)


def interval(
    samples: Float[Array, " boot *rest"], level: float = 0.95, *, n_groups: int | None = None
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Percentile interval of bootstrap resamples.

    With `n_groups` the percentiles lie a little further out (Hesterberg 2015, the expanded percentile
    interval): the plain ones are too narrow by √((n−1)/n) and by normal instead of t quantiles.

    Args:
        samples: the statistic in each resample, first axis the resamples.
        level: coverage aimed at, between 0 and 1.
        n_groups: how many groups were resampled; fewer than 20 give NaN bounds.

    Returns:
        Lower and upper bounds, float64 [*rest]. NaN where more than 5 % of the resamples are NaN;
        fewer are left out.

    Raises:
        InputError: a level outside (0, 1), or no resamples.
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}.")
    values = to_float64(samples, "samples")
    if values.ndim == 0 or len(values) == 0:
        raise InputError("interval needs at least one resample, got none.")
    missing = np.isnan(values)
    undefined = missing.mean(axis=0) > MOST_UNDEFINED
    if n_groups is not None and n_groups < MIN_GROUPS:
        undefined = np.ones_like(undefined)
    usable = np.where(undefined, 0.0, values)
    take = np.nanquantile if missing.any() else np.quantile
    tail = (1 - level) / 2 if n_groups is None or n_groups < MIN_GROUPS else _expanded(level, n_groups)
    low, high = take(usable, [tail, 1 - tail], axis=0)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def reach(level: float, n_groups: int) -> float:
    """Half-width of an expanded percentile interval, in standard deviations of the resamples."""
    return float(math.sqrt(n_groups / (n_groups - 1)) * special.stdtrit(n_groups - 1, (1 + level) / 2))


def _expanded(level: float, n_groups: int) -> float:
    """Share of resamples on either side of an expanded percentile interval."""
    return float(special.ndtr(-reach(level, n_groups)))


def mean_interval(
    values: Float[Array, " _sample *rest"],
    documents: Shaped[np.ndarray, " _sample"],
    *,
    mask: Bool[Array, " _sample"] | None = None,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> Estimate:
    """Mean over tokens, with an interval from resampled documents.

    Each resample is a ratio of sums, Σ tokens' values / Σ tokens, so documents of unequal length are
    weighed as they are in the mean itself.

    Args:
        values: one row per token, [token, ...]; NaN entries are left out.
        documents: which document each token is of: numbers or names, [token].
        mask: tokens to use, [token]; all if not given.
        n_boot: number of resamples.
        seed: of numpy's default generator, or a generator.
        level: coverage aimed at.

    Returns:
        Mean and expanded bounds (see `interval`) over the remaining axes; bounds NaN where fewer than 20
        documents have a value, the mean NaN where none has.

    Raises:
        InputError: documents or mask of another length than values.
    """
    return _estimate(values, documents, mask, _mean, n_boot=n_boot, seed=seed, level=level)


def sd_interval(
    values: Float[Array, " _sample *rest"],
    documents: Shaped[np.ndarray, " _sample"],
    *,
    mask: Bool[Array, " _sample"] | None = None,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> Estimate:
    """Standard deviation over tokens (divisor: their number), with an interval from documents.

    Arguments, rules and errors are those of `mean_interval`.
    """
    return _estimate(values, documents, mask, _sd, n_boot=n_boot, seed=seed, level=level)


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """Sums per document or per resample, about a middle that keeps them small."""

    middle: Floats
    counts: Floats
    sums: Floats
    squares: Floats

    def weighted(self, weights: Floats) -> "_Moments":
        """Moments of documents drawn with these weights, [document] or [boot, document]."""
        counts, sums, squares = (weights @ part for part in (self.counts, self.sums, self.squares))
        return _Moments(middle=self.middle, counts=counts, sums=sums, squares=squares)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return np.where(counts > 0, sums / np.where(counts > 0, counts, 1.0), np.nan)


def _mean(moments: _Moments) -> Floats:
    return moments.middle + _ratio(moments.sums, moments.counts)


def _sd(moments: _Moments) -> Floats:
    variance = _ratio(moments.squares, moments.counts) - _ratio(moments.sums, moments.counts) ** 2
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _estimate(
    values: Array,
    documents: npt.NDArray[np.generic],
    mask: Array | None,
    statistic: Callable[[_Moments], Floats],
    *,
    n_boot: int,
    seed: int | np.random.Generator,
    level: float,
) -> Estimate:
    table = to_float64(values, "values")
    used = _checked_mask(table, documents, mask)
    moments = _document_moments(table[used], documents[used])
    n_documents = (moments.counts > 0).sum(axis=0)
    n_names = len(moments.counts)
    value = statistic(moments.weighted(np.ones(n_names)))
    low, high = np.full((2, *value.shape), np.nan)
    if n_names >= MIN_GROUPS:
        resamples = statistic(moments.weighted(group_weights(n_names, n_boot, seed)))
        for count in np.unique(n_documents[n_documents >= MIN_GROUPS]):
            alike = n_documents == count
            low[alike], high[alike] = interval(resamples[:, alike], level, n_groups=int(count))
    rest = table.shape[1:]
    return Estimate(
        value=value.reshape(rest),
        low=low.reshape(rest),
        high=high.reshape(rest),
        n_documents=n_documents.reshape(rest),
    )


def _document_moments(rows: Floats, documents: npt.NDArray[np.generic]) -> _Moments:
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    names, owner = np.unique(documents, return_inverse=True)
    present = ~np.isnan(flat)
    filled = np.where(present, flat, 0.0)
    middle = filled.sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    off = np.where(present, filled - middle, 0.0)
    counts, sums, squares = (_per_document(part, owner, len(names)) for part in (present, off, off**2))
    return _Moments(middle=middle, counts=counts, sums=sums, squares=squares)


def _checked_mask(
    table: Floats, documents: npt.NDArray[np.generic], mask: Array | None
) -> npt.NDArray[np.bool_]:
    n = len(table) if table.ndim else 0
    if documents.shape != (n,):
        raise InputError(
            f"documents must name the document of each of the {n} tokens, got shape {documents.shape}."
        )
    used = np.ones(n, dtype=bool) if mask is None else to_float64(mask, "mask").astype(bool)
    if used.shape != (n,):
        raise InputError(f"mask must be true or false for each of the {n} tokens, got shape {used.shape}.")
    return used


def _per_document(columns: npt.NDArray[np.generic], owner: npt.NDArray[np.int64], n_documents: int) -> Floats:
    """Sum the rows of each document: [token, column] to [document, column]."""
    sums = np.zeros((n_documents, columns.shape[1]))
    for column in range(columns.shape[1]):
        sums[:, column] = np.bincount(owner, weights=columns[:, column], minlength=n_documents)
    return sums
