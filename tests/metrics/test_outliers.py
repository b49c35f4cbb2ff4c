"""Tests of `engram_interp.metrics.outliers`: known values, slow definitions, error texts."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engram_interp.errors import InputError
from engram_interp.metrics import cka, outliers

Floats = npt.NDArray[np.float64]


def square_distances(x: Floats) -> Floats:
    x = x.astype(np.float64)
    return np.array([math.fsum((row - x.mean(axis=0)) ** 2) for row in x])


@pytest.mark.parametrize("fraction, count", [(0.01, 2), (0.5, 75), (0.001, 1)])
def test_share_equals_the_sorted_sum(fraction: float, count: int) -> None:
    x = 100 + np.random.default_rng(0).standard_t(3, size=(150, 6))
    squares = np.sort(square_distances(x))[::-1]
    wanted = squares[:count].sum() / squares.sum()
    assert outliers.share(x, fraction=fraction) == pytest.approx(wanted, rel=1e-10)


def test_share_of_equal_rows_and_of_one_that_is_everything() -> None:
    signs = np.where(np.arange(200) % 2, 1.0, -1.0)[:, None]
    assert outliers.share(signs, fraction=0.05) == pytest.approx(0.05)
    one = np.zeros((1000, 2))
    one[17] = 1e6
    assert outliers.share(one) == pytest.approx(1, abs=0.002)


def test_shares_of_lopsided_layers_in_bfloat16() -> None:
    xs = [torch.randn(120, width).bfloat16() for width in (3, 8)]
    found = outliers.shares(xs, fraction=0.1)
    assert found.shape == (2,)
    for layer, x in enumerate(xs):
        squares = np.sort(square_distances(x.double().numpy()))
        assert found[layer] == pytest.approx(squares[-12:].sum() / squares.sum(), rel=1e-9)


def test_keep_rows_drops_what_any_layer_finds_long() -> None:
    rng = np.random.default_rng(1)
    xs = [rng.normal(size=(100, 4)), rng.normal(size=(100, 7))]
    xs[0][[3, 50]] *= 100
    xs[1][[50, 98]] *= 100
    kept = outliers.keep_rows(xs, fraction=0.02)
    np.testing.assert_array_equal(kept, np.setdiff1d(np.arange(100), [3, 50, 98]))
    equal = np.where(np.arange(10) % 2, 1.0, -1.0)[:, None]
    np.testing.assert_array_equal(outliers.keep_rows([equal], fraction=0.15), np.arange(2, 10))


def test_dropping_shared_sinks_restores_what_they_hid() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(800, 10)), rng.normal(size=(800, 12))
    sinks = [100, 300, 500, 700]
    x[sinks, 0] += 500
    y[sinks, 0] += 500
    with_sinks = cka.matrix([x], [y], estimator="unbiased")[0, 0]
    kept = outliers.keep_rows([x, y])
    without = cka.matrix([x[kept]], [y[kept]], estimator="unbiased")[0, 0]
    assert with_sinks > 0.99
    assert abs(without) < 0.05
    assert outliers.share(x) > 0.98


def test_errors() -> None:
    x = np.random.default_rng(3).normal(size=(20, 2))
    with pytest.raises(InputError, match="fraction of rows between 0 and 1, got 2"):
        outliers.share(x, fraction=2.0)
    with pytest.raises(InputError, match="layer 1 does not vary"):
        outliers.shares([x, np.ones((20, 3))])
    with pytest.raises(InputError, match=r"xs\[1\] has 19 samples but xs\[0\] has 20"):
        outliers.keep_rows([x, x[:19]])
    x[4, 1] = np.nan
    with pytest.raises(InputError, match=r"xs\[0\] holds NaN at sample 4"):
        outliers.keep_rows([x])
