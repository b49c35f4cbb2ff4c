"""Tests of `engram_interp.metrics.ridge`."""

import numpy as np

from engram_interp.metrics import ridge


def test_affine_maps_are_found_with_a_penalty_for_each_target() -> None:
    generator = np.random.default_rng(0)
    x, true = generator.normal(size=(60, 5)), generator.normal(size=(5, 3))
    noise = 1e3 * generator.normal(size=(60, 7))
    (weight, bias), (noisy, _) = ridge.fit(x, [x @ true + 2, noise], np.arange(60) % 4 == 0)
    np.testing.assert_allclose(weight, true, atol=1e-5)
    np.testing.assert_allclose(bias, 2, atol=1e-5)
    assert noisy.shape == (5, 7)


def test_more_columns_than_rows_and_constant_columns_stay_finite() -> None:
    x = np.concatenate([np.random.default_rng(1).normal(size=(6, 9)), np.ones((6, 1))], 1)
    (weight, bias) = ridge.fit(x, [x[:, :2]], np.arange(6) % 3 == 0)[0]
    assert np.isfinite(weight).all() and np.isfinite(bias).all()
