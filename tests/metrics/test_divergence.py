"""Tests of `engram_interp.metrics.divergence`: known values, slow definitions, error texts."""

import math

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

from engram_interp.errors import InputError
from engram_interp.metrics import divergence

Floats = npt.NDArray[np.float64]

LOGITS = hnp.arrays(np.float64, (3, 7), elements=st.floats(-300, 300))


def slow_kl(p_logits: Floats, q_logits: Floats) -> float:
    log_p, log_q = special.log_softmax(p_logits), special.log_softmax(q_logits)
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))


@hypothesis.given(LOGITS, LOGITS, st.floats(-100, 100))
def test_both_directions_equal_the_sum(final: Floats, layer: Floats, shift: float) -> None:
    forward = divergence.kl_from_logits(final, layer + shift)
    backward = divergence.kl_from_logits(final, layer, direction="layer||final")
    for row in range(3):
        assert forward[row] == pytest.approx(slow_kl(final[row], layer[row]), rel=1e-9, abs=1e-10)
        assert backward[row] == pytest.approx(slow_kl(layer[row], final[row]), rel=1e-9, abs=1e-10)
    assert forward.min() >= 0
    np.testing.assert_allclose(divergence.kl_from_logits(layer, layer + shift), 0, atol=1e-12)


def test_known_values() -> None:
    p, q = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.25, 0.5]])
    assert divergence.kl_from_logits(p, q)[0] == pytest.approx(0.25 * math.log(2))
    assert divergence.kl_from_logits(p, np.zeros((1, 3)))[0] == pytest.approx(math.log(3) - 1.5 * math.log(2))
    assert divergence.entropy(p)[0] == pytest.approx(1.5 * math.log(2))
    assert divergence.entropy(np.full((1, 11), 800.0))[0] == pytest.approx(math.log(11))


def test_a_small_divergence_of_float32_logits_is_exact() -> None:
    torch.manual_seed(0)
    final = torch.randn(4, 501) * 5
    layer = final + 1e-4 * torch.randn(4, 501)
    found = divergence.kl_from_logits(final, layer)
    wanted = [slow_kl(a, b) for a, b in zip(final.double().numpy(), layer.double().numpy(), strict=True)]
    assert max(wanted) < 1e-8
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layers_lead_and_tiles_do_not_show(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    final = torch.randn(2, 5, 13).to(dtype)
    layers = torch.randn(4, 2, 5, 13).to(dtype).requires_grad_()
    whole = divergence.kl_from_logits(final, layers)
    assert whole.shape == (4, 2, 5)
    assert whole.dtype == np.float64
    monkeypatch.setattr(divergence, "TILE_ENTRIES", 3 * 13)
    np.testing.assert_array_equal(divergence.kl_from_logits(final, layers), whole)
    np.testing.assert_array_equal(divergence.kl_from_logits(final, layers[2]), whole[2])
    wanted = slow_kl(final[1, 3].double().numpy(), layers[2, 1, 3].detach().double().numpy())
    assert whole[2, 1, 3] == pytest.approx(wanted, rel=1e-9)
    assert divergence.entropy(layers).shape == (4, 2, 5)


def test_tokens_ruled_out() -> None:
    some = np.array([[0.0, 0.0, -np.inf], [0.0, 1.0, 2.0]])
    every = np.zeros((2, 3))
    np.testing.assert_allclose(divergence.kl_from_logits(some, every)[0], math.log(1.5))
    assert divergence.kl_from_logits(every, some)[0] == np.inf
    assert divergence.kl_from_logits(some, some)[0] == 0
    assert divergence.entropy(some)[0] == pytest.approx(math.log(2))
    certain = np.array([[0.0, -np.inf, -np.inf]])
    assert divergence.entropy(certain)[0] == 0
    assert divergence.entropy(np.array([[2000.0, 0.0, -2000.0]]))[0] == 0


def test_inputs_stay_as_they_are() -> None:
    final, layer = np.random.default_rng(0).normal(size=(2, 3, 5))
    before = final.copy(), layer.copy()
    divergence.kl_from_logits(final, layer)
    divergence.entropy(final)
    np.testing.assert_array_equal((final, layer), before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_no_distribution_is_named(bad: float) -> None:
    final, layer = np.zeros((6, 3)), np.zeros((6, 3))
    layer[4, 1] = bad
    with pytest.raises(InputError, match="row 4 of layer_logits is no distribution"):
        divergence.kl_from_logits(final, layer)
    layer[4] = -np.inf
    with pytest.raises(InputError, match="row 4 of final_logits is no distribution"):
        divergence.kl_from_logits(layer, final)
    with pytest.raises(InputError, match="row 4 of logits is no distribution"):
        divergence.entropy(layer)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"must end in the axes \(2, 5\) of final_logits, got \(2, 4\)"):
        divergence.kl_from_logits(np.zeros((2, 5)), np.zeros((2, 4)))
    with pytest.raises(InputError, match=r"must end in the axes \(3, 2, 5\)"):
        divergence.kl_from_logits(np.zeros((3, 2, 5)), np.zeros((2, 5)))
