"""Tests of `engram_interp.metrics.hsic`: known values, slow definitions, error texts."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engram_interp.errors import InputError
from engram_interp.metrics import bootstrap, cka, hsic

Floats = npt.NDArray[np.float64]


def pair(n: int = 60, seed: int = 0) -> tuple[list[Floats], list[Floats]]:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, 6))
    return [base[:, :4], base @ rng.normal(size=(6, 3)), base[:, 1:]], [base[:, 2:] ** 3, base[:, :1]]


def shuffled_groups(n: int, size: int, seed: int = 0) -> list[npt.NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(n)
    return [order[start : start + size] for start in range(0, n - size + 1, size)]


def test_hsic1_equals_the_textbook(textbook_hsic1: Callable[[Floats, Floats], float]) -> None:
    xs, ys = pair()
    assert hsic.hsic1(xs[1], ys[0]) == pytest.approx(textbook_hsic1(xs[1], ys[0]), rel=1e-10)


def test_hsic1_by_hand_for_four_samples() -> None:
    # 0, 0, 1, 1: off the diagonal K has one 1 and its mirror image, so the traces are 2, 2·2 and 2:
    # (2 + 4/(3·2) − 2/2·2) / (4·1) = 1/6.
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    assert hsic.hsic1(x, x) == pytest.approx(1 / 6, rel=1e-12)
    assert hsic.hsic1(x, -x + 3) == pytest.approx(1 / 6, rel=1e-12)
    # 1, 0, 0, 0 varies in one sample only, of which HSIC₁ sees nothing.
    assert hsic.hsic1(np.eye(4)[:, :1], np.eye(4)[:, :1]) == 0


def test_hsic1_has_mean_zero_for_independent_samples() -> None:
    rng = np.random.default_rng(0)
    values = [hsic.hsic1(rng.normal(size=(6, 4)), rng.normal(size=(6, 3))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert min(values) < 0


def test_group_terms_are_hsic1_of_each_group(textbook_hsic1: Callable[[Floats, Floats], float]) -> None:
    xs, ys = pair()
    groups = shuffled_groups(60, 12)
    terms = hsic.group_terms(xs, ys, groups)
    assert (terms.xy.shape, terms.xx.shape, terms.yy.shape) == ((5, 3, 2), (5, 3), (5, 2))
    for number, group in enumerate(groups):
        for layer, x in enumerate(xs):
            assert terms.xx[number, layer] == pytest.approx(textbook_hsic1(x[group], x[group]), rel=1e-9)
            for other, y in enumerate(ys):
                wanted = textbook_hsic1(x[group], y[group])
                assert terms.xy[number, layer, other] == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert terms.yy[3, 1] == pytest.approx(textbook_hsic1(ys[1][groups[3]], ys[1][groups[3]]), rel=1e-9)


def test_terms_give_the_minibatch_matrix_for_tensors_too() -> None:
    xs, ys = ([torch.from_numpy(layer).bfloat16() for layer in side] for side in pair())
    groups = [np.arange(start, start + 15) for start in range(0, 60, 15)]
    found = hsic.cka_from_terms(hsic.group_terms(xs, ys, groups))
    np.testing.assert_allclose(found, cka.matrix(xs, ys, batch_size=15), atol=1e-12)


def test_weights_are_repeated_groups() -> None:
    xs, ys = pair()
    groups = shuffled_groups(60, 6)
    terms = hsic.group_terms(xs, ys, groups)
    weights = bootstrap.group_weights(10, 7, seed=3)
    stack = hsic.cka_from_terms(terms, weights)
    assert stack.shape == (7, 3, 2)
    for row, found in zip(weights, stack, strict=True):
        drawn = [group for group, times in zip(groups, row, strict=True) for _ in range(int(times))]
        again = hsic.cka_from_terms(hsic.group_terms(xs, ys, drawn))
        np.testing.assert_allclose(found, again, atol=1e-12)
        np.testing.assert_allclose(hsic.cka_from_terms(terms, row), found, atol=1e-14)


def test_large_groups_go_through_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    xs, ys = pair()
    groups = shuffled_groups(60, 20)
    wanted = hsic.group_terms(xs, ys, groups)
    monkeypatch.setattr(hsic, "LARGEST_GRAM", 8)
    found = hsic.group_terms(xs, ys, groups)
    np.testing.assert_allclose(found.xy, wanted.xy, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.yy, wanted.yy, rtol=1e-9)
    spoiled = [xs[0].copy(), *xs[1:]]
    spoiled[0][groups[1][4]] = np.nan
    with pytest.raises(InputError, match=rf"xs\[0\] holds NaN at sample {groups[1][4]} "):
        hsic.group_terms(spoiled, ys, groups)


def test_a_layer_that_does_not_vary_is_nan_in_terms() -> None:
    x = np.ones((8, 2))
    y = np.random.default_rng(0).normal(size=(8, 2))
    found = hsic.cka_from_terms(hsic.group_terms([x, y], [y], [np.arange(8)]))
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx(1)


def test_errors_name_the_group_and_the_sample() -> None:
    xs, ys = pair()
    with pytest.raises(InputError, match="at least one group"):
        hsic.group_terms(xs, ys, [])
    with pytest.raises(InputError, match="groups of at least 4 samples, got 3"):
        hsic.group_terms(xs, ys, [np.arange(3)])
    with pytest.raises(InputError, match="group 1 has 7 samples but group 0 has 8"):
        hsic.group_terms(xs, ys, [np.arange(8), np.arange(7)])
    with pytest.raises(InputError, match=r"group 1 asks for rows 56 to 63, but the layers have rows 0 to 59"):
        hsic.group_terms(xs, ys, [np.arange(8), np.arange(56, 64)])
    xs[2] = xs[2].copy()
    xs[2][37, 1] = np.inf
    with pytest.raises(InputError, match=r"xs\[2\] holds infinity at sample 37 "):
        hsic.group_terms(xs, ys, [np.arange(10), np.arange(30, 40)])
    terms = hsic.group_terms(ys, ys, shuffled_groups(60, 20))
    with pytest.raises(InputError, match=r"weights must end in an axis of 3 groups, got shape \(2, 4\)"):
        hsic.cka_from_terms(terms, np.ones((2, 4)))
    with pytest.raises(InputError, match=r"Terms wants xy \[group, layer, baseline_layer\]"):
        hsic.Terms(xy=np.ones((2, 3, 4)), xx=np.ones((2, 4)), yy=np.ones((2, 3)))
