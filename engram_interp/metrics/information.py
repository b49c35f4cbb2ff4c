"""What one quantity tells about another, in nats, with the bias of few samples taken out by document.

Counts overstate mutual information: independent samples give about (bins - 1)(classes - 1) / 2n. The
jackknife over documents takes that out to first order and gives the standard error in the same pass.
"""

import numpy as np
from jaxtyping import Float, Int, Shaped

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, to_float64
from engram_interp.metrics.bootstrap import MIN_GROUPS, Estimate

_Z = 1.959963984540054


def quantile_bins(values: Float[Array, " sample"], *, count: int) -> Int[np.ndarray, " sample"]:
    """Which of `count` bins, each with about as many samples, a value falls into; equal values together.

    A value so frequent that several bins would end at it has a bin to itself.

    >>> import numpy as np
    >>> quantile_bins(np.array([0.1, 0.5, 0.5, 0.5, 0.5, 0.9]), count=3).tolist()
    [0, 1, 1, 1, 1, 2]
    """
    table = to_float64(values, "values")
    ends = np.quantile(table, np.arange(1, count) / count) if len(table) else np.zeros(0)
    edges, times = np.unique(ends, return_counts=True)
    return np.searchsorted(edges, table, "right") + np.searchsorted(edges[times > 1], table, "left")


def mutual_information(
    bins: Int[np.ndarray, " _sample"],
    classes: Int[np.ndarray, " _sample"],
    documents: Shaped[np.ndarray, " _sample"],
) -> Estimate:
    """Mutual information of two discrete quantities, jackknifed over documents.

    >>> import numpy as np
    >>> side = np.tile([0, 1], 50)
    >>> round(float(mutual_information(side, side, np.arange(100)).value), 2)  # ln 2
    0.7

    Args:
        bins: one quantity, from 0.
        classes: the other, from 0.
        documents: which document each sample is of.

    Returns:
        Nats, 0 for independence; slightly negative values are possible and reported. The 95 % interval is
        the normal one of the jackknife's standard error, NaN with fewer than 20 documents; all NaN without
        samples.

    Raises:
        InputError: lengths differ.
    """
    if not len(bins) == len(classes) == len(documents):
        raise InputError(
            f"bins, classes and documents must be equally long, got {len(bins)}, {len(classes)} and "
            f"{len(documents)}."
        )
    if not len(bins):
        return _jackknifed(np.nan, np.zeros(0))
    owner = np.unique(documents, return_inverse=True)[1]
    shape = (int(owner.max()) + 1, int(bins.max()) + 1, int(classes.max()) + 1)
    flat = np.ravel_multi_index((owner, bins, classes), shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
    total = counts.sum(0)
    return _jackknifed(float(_plug_in(total)), _plug_in(total - counts))


def plain_information(bins: Int[np.ndarray, " sample"], classes: Int[np.ndarray, " sample"]) -> float:
    """Mutual information of the counts alone, nats, at least 0: for ranks among permutations."""
    shape = (int(bins.max()) + 1, int(classes.max()) + 1)
    flat = np.ravel_multi_index((bins, classes), shape)
    return float(_plug_in(np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)))


def rank_correlation(
    one: Float[Array, " sample"], other: Float[Array, " sample"], documents: Shaped[np.ndarray, " sample"]
) -> Estimate:
    """Spearman's ρ in [-1, 1], jackknifed over documents (ranks are those among all samples).

    Returns:
        Value and interval as in `mutual_information`; NaN where either does not vary.
    """
    ranks = [_ranks(to_float64(values, "values")) for values in (one, other)]
    owner = np.unique(documents, return_inverse=True)[1]
    x, y = ranks
    each = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y])
    n = int(owner.max()) + 1 if len(owner) else 0
    sums = np.stack([np.bincount(owner, weights=part, minlength=n) for part in each])
    total = sums.sum(1)
    return _jackknifed(float(_pearson(total)), _pearson(total[:, None] - sums))


def divergence(
    one: Float[Array, "*rest bin"], other: Float[Array, "*rest bin"]
) -> Float[np.ndarray, "*rest"]:
    """KL(one ‖ other) of two histograms over the same bins, nats, each mixed with 0.1 % of the uniform."""
    p, q = (to_float64(values, "histogram") for values in (one, other))
    p, q = (0.999 * x / x.sum(-1, keepdims=True) + 0.001 / x.shape[-1] for x in (p, q))
    return np.asarray((p * np.log(p / q)).sum(-1))


def _plug_in(counts: Floats) -> Floats:
    """Mutual information of counts `[…, bin, class]`."""
    total = counts.sum((-2, -1), keepdims=True)
    joint = counts / np.where(total > 0, total, 1.0)
    apart = joint.sum(-1, keepdims=True) * joint.sum(-2, keepdims=True)
    ratio = np.where(joint > 0, joint / np.where(apart > 0, apart, 1.0), 1.0)
    return np.asarray((joint * np.log(ratio)).sum((-2, -1)))


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(middle[place] / max(len(values) - 1, 1) - 0.5)


def _pearson(sums: Floats) -> Floats:
    n, x, y, xx, yy, xy = sums
    spread = (n * xx - x * x) * (n * yy - y * y)
    return np.where(spread > 1e-12, (n * xy - x * y) / np.sqrt(np.where(spread > 1e-12, spread, 1.0)), np.nan)


def _jackknifed(value: float, without: Floats) -> Estimate:
    """From the value of all documents and those with one left out each."""
    n = len(without)
    corrected = n * value - (n - 1) * float(without.mean()) if n > 1 else np.nan
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()) if n >= MIN_GROUPS else np.nan
    found = [np.asarray(x) for x in (corrected, corrected - _Z * error, corrected + _Z * error)]
    return Estimate(value=found[0], low=found[1], high=found[2], n_documents=np.asarray(n))
