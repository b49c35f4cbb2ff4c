"""Tests of `engram_interp.metrics.gate_stats`: known values, slow definitions, error texts."""

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from engram_interp.errors import InputError
from engram_interp.metrics import gate_stats


def ragged(seed: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Gates [batch 4, token 9, layer 2, stream 3] of texts of 9, 5, 1 and 7 tokens; padding is NaN."""
    rng = np.random.default_rng(seed)
    gate = rng.beta(0.7, 0.9, size=(4, 9, 2, 3))
    mask = np.arange(9) < np.array([9, 5, 1, 7])[:, None]
    gate[~mask] = np.nan
    return gate, mask


def test_summary_equals_loops_over_tokens() -> None:
    gate, mask = ragged()
    found = gate_stats.summarise(gate, mask, quantiles=(0.1, 0.5), threshold=0.6)
    assert found.n_tokens == 22
    assert found.quantiles.shape == (2, 2, 3)
    for layer in range(2):
        for stream in range(3):
            kept = [gate[b, t, layer, stream] for b in range(4) for t in range(9) if mask[b, t]]
            mean = sum(kept) / 22
            assert found.mean[layer, stream] == pytest.approx(mean)
            variance = sum((value - mean) ** 2 for value in kept) / 22
            assert found.sd[layer, stream] == pytest.approx(variance**0.5)
            assert found.fraction_open[layer, stream] == sum(value > 0.6 for value in kept) / 22
            wanted = [np.percentile(kept, 10), np.median(kept)]
            np.testing.assert_allclose(found.quantiles[:, layer, stream], wanted)


def test_bfloat16_and_one_flat_axis() -> None:
    gate = torch.tensor([0.25, 0.5, 0.75, 1.0, 9.0]).bfloat16()
    mask = torch.tensor([True, True, True, True, False])
    found = gate_stats.summarise(gate, mask)
    assert float(found.mean) == 0.625
    assert float(found.fraction_open) == 0.5
    assert found.n_tokens == 4
    np.testing.assert_allclose(found.quantiles[2], 0.625)


def test_density_integrates_to_one_and_equals_numpy() -> None:
    gate, mask = ragged()
    gate[0, 0, 1, 2], gate[0, 1, 1, 2] = 0.0, 1.0
    heights, centres = gate_stats.density(gate, mask, n_bins=7)
    assert heights.shape == (2, 3, 7)
    np.testing.assert_allclose(heights.sum(axis=-1) / 7, 1)
    np.testing.assert_allclose(centres, (np.arange(7) + 0.5) / 7)
    kept = gate[mask]
    for layer in range(2):
        for stream in range(3):
            wanted, _ = np.histogram(kept[:, layer, stream], bins=7, range=(0, 1), density=True)
            np.testing.assert_allclose(heights[layer, stream], wanted)


COARSE = st.integers(0, 8).map(lambda whole: whole / 8)


@hypothesis.given(
    hnp.arrays(np.float64, st.integers(3, 30), elements=COARSE),
    hnp.arrays(np.float64, st.integers(3, 20), elements=COARSE),
)
def test_ks_distance_equals_scipy_with_ties(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> None:
    found = float(gate_stats.ks_distance(a, b))
    assert found == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic, abs=1e-12)
    assert found == pytest.approx(float(gate_stats.ks_distance(b, a)))
    assert 0 <= found <= 1


def test_ks_distance_keeps_the_other_axes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 2, 3)), rng.random((25, 2, 3)) ** 2
    found = gate_stats.ks_distance(torch.from_numpy(a), b)
    assert found.shape == (2, 3)
    assert found[1, 2] == pytest.approx(stats.ks_2samp(a[:, 1, 2], b[:, 1, 2]).statistic)
    np.testing.assert_array_equal(gate_stats.ks_distance(a, a), 0)
    np.testing.assert_array_equal(gate_stats.ks_distance(a, a + 2), 1)


def test_errors() -> None:
    gate, mask = ragged()
    with pytest.raises(InputError, match=r"leading axes of the gate \(4, 9, 2, 3\), got \(4, 8\)"):
        gate_stats.summarise(gate, mask[:, :8])
    with pytest.raises(InputError, match="the mask keeps no token"):
        gate_stats.summarise(gate, np.zeros_like(mask))
    with pytest.raises(InputError, match="got NaN or values from"):
        gate_stats.density(gate, np.ones_like(mask))
    with pytest.raises(InputError, match=r"values from -3 to .*; pass the gate, not its score"):
        gate_stats.kept_gates(np.where(mask[..., None, None], gate, 0) - 3 * (np.arange(3) == 1), mask)
    with pytest.raises(InputError, match="at least one bin, got 0"):
        gate_stats.density(gate, mask, n_bins=0)
    with pytest.raises(InputError, match="at least one value on each side"):
        gate_stats.ks_distance(np.ones(0), np.ones(3))
    with pytest.raises(InputError, match=r"remaining axes \(2,\) and \(3,\)"):
        gate_stats.ks_distance(np.ones((4, 2)), np.ones((4, 3)))
    with pytest.raises(InputError, match="leave padding out first"):
        gate_stats.ks_distance(np.array([0.1, np.nan]), np.ones(3))
