"""Two groups of tokens: how well a value tells them apart, and how far their means lie apart.

Intervals resample documents, never tokens; both groups of a document are drawn together.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Shaped

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, to_float64
from engram_interp.metrics.bootstrap import MIN_GROUPS, Estimate, group_weights, interval

_Parts = tuple[Floats, Floats]


def auc(
    values: Float[Array, " sample *rest"],
    positive: Bool[Array, " sample"],
    documents: Shaped[np.ndarray, " sample"],
    *,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Probability that a value of the positive group exceeds one of the other, ties counting half.

    >>> import numpy as np
    >>> values, positive = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])
    >>> float(auc(values, positive, np.arange(4)).value)
    0.75

    Args:
        values: one row per sample; NaN entries are left out.
        positive: which samples are positive.
        documents: which document each sample is of.
        n_boot: number of resamples.
        seed: of numpy's default generator, or a generator.

    Returns:
        In [0, 1], .5 for no difference, over the remaining axes; NaN where a group is empty, bounds NaN
        with fewer than 20 documents.

    Raises:
        InputError: positive or documents of another length than values.
    """
    table, is_positive = _checked(values, positive, documents)

    def of_column(column: Floats, owner: np.ndarray, n: int) -> _Parts:
        """Wins and pairs by document of the positive and of the other `[document, document]`."""
        wins, pairs = np.zeros((n, n)), np.zeros((n, n))
        inside = column[is_positive & ~np.isnan(column)]
        inside_owner = owner[is_positive & ~np.isnan(column)]
        per_document = np.bincount(inside_owner, minlength=n)
        for document in range(n):
            other = np.sort(column[~is_positive & (owner == document) & ~np.isnan(column)])
            below = np.searchsorted(other, inside, "left") + np.searchsorted(other, inside, "right")
            wins[:, document] = np.bincount(inside_owner, weights=below / 2, minlength=n)
            pairs[:, document] = per_document * len(other)
        return wins, pairs

    def statistic(weights: Floats, parts: _Parts) -> Floats:
        wins, pairs = (np.einsum("bp,pn,bn->b", weights, part, weights, optimize=True) for part in parts)
        return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1.0), np.nan)

    return _estimated(table, documents, of_column, statistic, n_boot=n_boot, seed=seed)


def difference(
    values: Float[Array, " sample *rest"],
    positive: Bool[Array, " sample"],
    documents: Shaped[np.ndarray, " sample"],
    *,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Estimate:
    """Mean of the positive group less that of the other; arguments, rules and errors are those of `auc`."""
    table, is_positive = _checked(values, positive, documents)

    def of_column(column: Floats, owner: np.ndarray, n: int) -> _Parts:
        """Sums and counts of both groups by document `[group, document]`."""
        sums, counts = np.zeros((2, n)), np.zeros((2, n))
        for group, chosen in enumerate((~is_positive, is_positive)):
            used = chosen & ~np.isnan(column)
            sums[group] = np.bincount(owner[used], weights=column[used], minlength=n)
            counts[group] = np.bincount(owner[used], minlength=n)
        return sums, counts

    def statistic(weights: Floats, parts: _Parts) -> Floats:
        sums, counts = (part @ weights.T for part in parts)
        means = np.where(counts > 0, sums / np.where(counts > 0, counts, 1.0), np.nan)
        return np.asarray(means[1] - means[0])

    return _estimated(table, documents, of_column, statistic, n_boot=n_boot, seed=seed)


def _checked(values: Array, positive: Array, documents: np.ndarray) -> tuple[Floats, np.ndarray]:
    table, chosen = to_float64(values, "values"), to_float64(positive, "positive").astype(bool)
    n = len(table) if table.ndim else 0
    if chosen.shape != (n,) or documents.shape != (n,):
        raise InputError(
            f"positive and documents must say of each of the {n} samples what it is, got shapes "
            f"{chosen.shape} and {documents.shape}."
        )
    return table, chosen


def _estimated(
    table: Floats,
    documents: np.ndarray,
    of_column: Callable[[Floats, np.ndarray, int], _Parts],
    statistic: Callable[[Floats, _Parts], Floats],
    *,
    n_boot: int,
    seed: int | np.random.Generator,
) -> Estimate:
    """Value and interval of every column: parts by document once, then the statistic of each resample."""
    names, owner = np.unique(documents, return_inverse=True)
    n, rest = len(names), table.shape[1:]
    columns = table.reshape(len(table), -1)
    value, low, high = np.full((3, columns.shape[1]), np.nan)
    present = np.zeros(columns.shape[1], dtype=np.int64)
    enough = n >= MIN_GROUPS
    weights = group_weights(n, n_boot, seed) if enough else np.ones((1, n))
    for index, column in enumerate(columns.T):
        parts = of_column(column, owner, n)
        value[index] = statistic(np.ones((1, n)), parts)[0]
        present[index] = len(np.unique(owner[~np.isnan(column)]))
        if enough and present[index] >= MIN_GROUPS:
            low[index], high[index] = interval(statistic(weights, parts), n_groups=int(present[index]))
    return Estimate(
        value=value.reshape(rest),
        low=low.reshape(rest),
        high=high.reshape(rest),
        n_documents=present.reshape(rest),
    )
