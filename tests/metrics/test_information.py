"""Tests of `metrics.information`: closed forms, loops over documents, and independence."""

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.metrics import information


def plain(bins: np.ndarray, classes: np.ndarray) -> float:
    """Mutual information by loops."""
    total = 0.0
    for a in set(bins.tolist()):
        for b in set(classes.tolist()):
            p = np.mean((bins == a) & (classes == b))
            if p > 0:
                total += p * np.log(p / (np.mean(bins == a) * np.mean(classes == b)))
    return float(total)


def test_information_is_the_jackknife_of_the_plain_estimate() -> None:
    rng = np.random.default_rng(4)
    documents = np.repeat(np.arange(23), rng.integers(3, 30, 23))
    n = len(documents)
    bins = rng.integers(0, 5, n)
    classes = np.where(rng.random(n) < 0.4, bins % 3, rng.integers(0, 3, n))
    found = information.mutual_information(bins, classes, documents)
    whole = plain(bins, classes)
    without = np.array([plain(bins[documents != d], classes[documents != d]) for d in range(23)])
    np.testing.assert_allclose(found.value, 23 * whole - 22 * without.mean())
    error = np.sqrt(22 / 23 * np.square(without - without.mean()).sum())
    np.testing.assert_allclose(found.high - found.value, 1.959964 * error, rtol=1e-6)
    np.testing.assert_allclose(information.plain_information(bins, classes), whole)


def test_independent_quantities_share_nothing_on_average() -> None:
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(30), 12)
    found = [
        information.mutual_information(rng.integers(0, 8, 360), rng.integers(0, 4, 360), documents)
        for _ in range(200)
    ]
    values = np.array([float(each.value) for each in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(200) + 0.002
    biased = [
        information.plain_information(rng.integers(0, 8, 360), rng.integers(0, 4, 360)) for _ in range(50)
    ]
    assert np.mean(biased) > 0.02, "what the jackknife takes out"
    held = np.mean([float(each.low) <= 0 <= float(each.high) for each in found])
    assert held > 0.85


def test_rank_correlation_is_spearman_s_with_ties() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(5)
    documents = np.repeat(np.arange(21), 7)
    x = rng.integers(0, 9, 147).astype(float)
    y = x + rng.normal(0, 3, 147)
    found = information.rank_correlation(x, y, documents)
    assert float(found.value) == pytest.approx(float(spearmanr(x, y).statistic), abs=0.01)
    assert float(found.low) < float(found.value) < float(found.high)
    assert np.isnan(information.rank_correlation(np.ones(147), y, documents).value)


def test_divergence_of_histograms_and_bins_of_frequent_values() -> None:
    p, q = np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([[3.0, 1.0], [2.0, 2.0]])
    found = information.divergence(p, q)
    np.testing.assert_allclose(found, [0.25 * np.log(1 / 3) + 0.75 * np.log(3), 0.0], rtol=0.01, atol=1e-12)
    values = np.array([0.5] * 20 + [0.1, 0.2, 0.8, 0.9])
    bins = information.quantile_bins(values, count=8)
    assert len({*bins[:20]}) == 1 and bins[20] < bins[0] < bins[22]
    even = information.quantile_bins(np.random.default_rng(1).random(800), count=8)
    assert np.bincount(even).tolist() == [100] * 8


def test_lengths_that_differ_are_refused_and_nothing_gives_nothing() -> None:
    few = np.zeros(3, np.int64)
    with pytest.raises(InputError, match="must be equally long, got 3, 2 and 3"):
        information.mutual_information(few, few[:2], few)
    empty = information.mutual_information(few[:0], few[:0], few[:0])
    assert np.isnan(empty.value) and np.isnan(empty.low)
    alone = information.mutual_information(
        np.array([0, 1] * 30), np.array([0, 1] * 30), np.repeat([0, 1], 30)
    )
    assert not np.isnan(alone.value) and np.isnan(alone.low)
