"""Tests of `engram_interp.metrics.bootstrap`: known values, slow definitions, error texts."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from scipy import stats

from engram_interp.errors import InputError
from engram_interp.metrics import bootstrap


def expanded(n: int) -> list[float]:
    """Both shares of a 95 % interval of resampled `n` documents (Hesterberg 2015)."""
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    return [tail, 1 - tail]


def test_weights_draw_groups_with_replacement() -> None:
    weights = bootstrap.group_weights(30, 400, seed=1)
    assert weights.shape == (400, 30)
    assert weights.dtype == np.float64
    np.testing.assert_array_equal(weights.sum(axis=1), 30)
    np.testing.assert_array_equal(weights, np.floor(weights))
    assert (weights == 0).mean() == pytest.approx((1 - 1 / 30) ** 30, abs=0.01)
    np.testing.assert_array_equal(weights, bootstrap.group_weights(30, 400, seed=1))
    assert not np.array_equal(weights, bootstrap.group_weights(30, 400, seed=2))
    with pytest.raises(InputError, match="needs groups and resamples, got 0 and 5"):
        bootstrap.group_weights(0, 5, seed=0)


class TestInterval:
    def test_is_the_percentile_interval(self) -> None:
        samples = np.arange(1001.0)[:, None] * [1, 2, -1]
        low, high = bootstrap.interval(samples)
        np.testing.assert_allclose(low, [25, 50, -975])
        np.testing.assert_allclose(high, [975, 1950, -25])
        np.testing.assert_allclose(bootstrap.interval(torch.arange(101.0), level=0.5), [25, 75])

    def test_few_groups_give_none(self) -> None:
        samples = np.random.default_rng(0).normal(size=(100, 2))
        assert np.isnan(bootstrap.interval(samples, n_groups=19)).all()
        assert np.isfinite(bootstrap.interval(samples, n_groups=20)).all()

    def test_resamples_without_a_value(self) -> None:
        samples = np.ones((100, 3)) * np.arange(100)[:, None]
        samples[:5, 1] = np.nan
        samples[:6, 2] = np.nan
        low, high = bootstrap.interval(samples, level=0.5)
        np.testing.assert_allclose(low, [24.75, 28.5, np.nan])
        np.testing.assert_allclose(high, [74.25, 75.5, np.nan])

    def test_errors(self) -> None:
        with pytest.raises(InputError, match="level must lie between 0 and 1, got 95"):
            bootstrap.interval(np.ones(3), level=95.0)
        with pytest.raises(InputError, match="at least one resample"):
            bootstrap.interval(np.ones((0, 3)))


class TestMeanInterval:
    @hypothesis.given(st.integers(0, 2**31))
    @hypothesis.settings(max_examples=10)
    def test_is_a_ratio_of_sums_over_drawn_documents(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(1, 9, size=23)
        documents = np.repeat(np.array([f"document {n}" for n in range(23)]), lengths)
        values = rng.normal(size=(len(documents), 2, 3)) + 5
        found = bootstrap.mean_interval(values, documents, n_boot=50, seed=seed)
        np.testing.assert_allclose(found.value, values.mean(axis=0))
        np.testing.assert_array_equal(found.n_documents, 23)
        names = np.unique(documents)
        resamples = []
        for weights in bootstrap.group_weights(23, 50, seed):
            drawn = [
                values[documents == name]
                for name, k in zip(names, weights, strict=True)
                for _ in range(int(k))
            ]
            resamples.append(np.concatenate(drawn).mean(axis=0))
        low, high = np.quantile(resamples, expanded(23), axis=0)
        np.testing.assert_allclose(found.low, low)
        np.testing.assert_allclose(found.high, high)

    def test_each_column_is_expanded_by_its_own_documents(self) -> None:
        rng = np.random.default_rng(8)
        values = rng.normal(size=(60, 2))
        values[22:, 1] = np.nan
        found = bootstrap.mean_interval(values, np.arange(60), n_boot=300, seed=2)
        weights = bootstrap.group_weights(60, 300, 2)
        for column, n in enumerate((60, 22)):
            drawn = weights[:, :n] @ values[:n, column] / weights[:, :n].sum(1)
            expected = np.quantile(drawn, expanded(n))
            np.testing.assert_allclose([found.low[column], found.high[column]], expected)

    def test_a_long_document_counts_by_its_tokens(self) -> None:
        documents = np.r_[np.zeros(80, dtype=int), np.arange(1, 21)]
        values = np.r_[np.ones(80), np.zeros(20)]
        found = bootstrap.mean_interval(values, documents, seed=4)
        assert found.value == pytest.approx(0.8)
        # 1/e of the resamples lack the long document, so the interval knows about it.
        assert found.low == pytest.approx(0)
        assert found.high > 0.9

    def test_copied_tokens_do_not_narrow_it(self) -> None:
        rng = np.random.default_rng(5)
        values, documents = rng.normal(size=40), np.arange(40)
        once = bootstrap.mean_interval(values, documents)
        often = bootstrap.mean_interval(np.repeat(values, 50), np.repeat(documents, 50))
        np.testing.assert_allclose([once.low, once.high], [often.low, often.high])

    def test_covers_the_truth_about_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(6)
        hits = 0
        for _ in range(200):
            documents = np.repeat(np.arange(40), rng.integers(1, 12, size=40))
            values = rng.normal(size=40)[documents] + rng.normal(size=len(documents))
            found = bootstrap.mean_interval(values, documents, n_boot=300, seed=rng)
            hits += int(found.low <= 0 <= found.high)
        assert 0.88 <= hits / 200 <= 0.98

    def test_mask_and_nan_leave_tokens_out(self) -> None:
        documents = np.repeat(np.arange(25), 4)
        values = np.arange(100.0)[:, None] * [1, 1]
        mask = np.ones(100, dtype=bool)
        mask[60:] = False
        values[70] = 1e9
        found = bootstrap.mean_interval(values, documents, mask=mask)
        np.testing.assert_allclose(found.value, values[:60].mean(axis=0))
        np.testing.assert_array_equal(found.n_documents, 15)
        assert np.isnan(found.low).all()
        values[:24, 1] = np.nan
        values[70] = 70
        found = bootstrap.mean_interval(torch.from_numpy(values), documents)
        assert found.value[1] == pytest.approx(values[24:, 1].mean())
        np.testing.assert_array_equal(found.n_documents, [25, 19])
        np.testing.assert_array_equal(np.isnan(found.high), [False, True])

    def test_nothing_at_all_is_nan(self) -> None:
        found = bootstrap.mean_interval(np.full((30, 2), np.nan), np.arange(30))
        assert np.isnan([found.value, found.low, found.high]).all()
        none = bootstrap.mean_interval(np.ones((5, 2)), np.arange(5), mask=np.zeros(5, dtype=bool))
        assert np.isnan(none.value).all()

    def test_errors(self) -> None:
        with pytest.raises(InputError, match=r"document of each of the 4 tokens, got shape \(3,\)"):
            bootstrap.mean_interval(np.ones(4), np.arange(3))
        with pytest.raises(InputError, match=r"true or false for each of the 4 tokens, got shape \(5,\)"):
            bootstrap.mean_interval(np.ones(4), np.arange(4), mask=np.ones(5, dtype=bool))


def test_sd_interval_is_the_sd_of_drawn_documents() -> None:
    rng = np.random.default_rng(7)
    documents = np.repeat(np.arange(31), rng.integers(2, 9, size=31))
    values = 1e6 + rng.normal(size=(len(documents), 2))
    found = bootstrap.sd_interval(values, documents, n_boot=40, seed=1)
    np.testing.assert_allclose(found.value, values.std(axis=0))
    resamples = []
    for weights in bootstrap.group_weights(31, 40, 1):
        drawn = [values[documents == name] for name, k in enumerate(weights) for _ in range(int(k))]
        resamples.append(np.concatenate(drawn).std(axis=0))
    low, high = np.quantile(resamples, expanded(31), axis=0)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-7)
    assert np.isnan(bootstrap.sd_interval(values[:9], documents[:9]).low).all()
