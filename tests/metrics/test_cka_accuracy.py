"""Every CKA estimator against its float64 definition on data that defeats careless arithmetic."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engram_interp.metrics import cka

Floats = npt.NDArray[np.float64]
ESTIMATORS: list[cka.Estimator] = ["minibatch", "biased", "unbiased"]


def layers(kind: str, n: int) -> tuple[list[Floats], list[Floats]]:
    """One wide and one narrow layer against two of other widths."""
    rng = np.random.default_rng(n)
    base = rng.normal(size=(n, 40))
    sides: tuple[list[Floats], list[Floats]] = (
        [base[:, :17].copy(), rng.normal(size=(n, 64))],
        [rng.normal(size=(n, 3)), rng.normal(size=(n, 40))],
    )
    if "correlated" in kind:
        sides[0][1], sides[1][1] = base @ rng.normal(size=(40, 64)), base + 0.3 * sides[1][1]
    for layer in (*sides[0], *sides[1]):
        if "massive" in kind:
            layer[:, 1] *= 1000
        if "offset" in kind:
            np.add(layer, 100, out=layer)
    return sides


@pytest.mark.parametrize(
    "kind", ["random", "correlated", "massive", "correlated massive", "offset", "correlated massive offset"]
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [5, 37, 301, 900])
def test_error_stays_below_one_in_a_hundred_thousand(
    textbook_cka: Callable[..., Floats], kind: str, estimator: cka.Estimator, dtype: torch.dtype, n: int
) -> None:
    xs, ys = ([torch.from_numpy(layer).to(dtype) for layer in side] for side in layers(kind, n))
    exact = [[layer.double().numpy() for layer in side] for side in (xs, ys)]
    wanted = textbook_cka(*exact, estimator=estimator, batch_size=64)
    found = cka.matrix(xs, ys, estimator, batch_size=64)
    assert np.max(np.abs(found - wanted) / np.maximum(np.abs(wanted), 0.1)) <= 1e-5


def textbook_of_grams(k: Floats, l: Floats) -> dict[str, Floats]:
    """HSIC of all samples from two centred Grams, which are changed: biased, and Song et al. 2012."""
    n = len(k)
    found = {"biased": np.array([np.vdot(k, l), np.vdot(k, k), np.vdot(l, l)])}
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(l, 0.0)
    terms = []
    for a, b in ((k, l), (k, k), (l, l)):
        sums = a.sum(axis=0), b.sum(axis=0)
        product = sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
        terms.append(np.vdot(a, b) + product - 2 / (n - 2) * (sums[0] @ sums[1]))
    return found | {"unbiased": np.array(terms)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_five_thousand_samples_of_unequal_widths(
    textbook_cka: Callable[..., Floats], dtype: torch.dtype
) -> None:
    xs, ys = ([torch.from_numpy(side[1]).to(dtype)] for side in layers("correlated massive", 5000))
    left, right = ([layer.double().numpy() for layer in side] for side in (xs, ys))
    wanted = float(textbook_cka(left, right, estimator="minibatch")[0, 0])
    assert cka.matrix(xs, ys)[0, 0] == pytest.approx(wanted, rel=1e-5)
    centred = [side[0] - side[0].mean(axis=0) for side in (left, right)]
    terms = textbook_of_grams(*(rows @ rows.T for rows in centred))
    exact: list[cka.Estimator] = ["biased", "unbiased"]
    for estimator in exact:
        xy, xx, yy = terms[estimator]
        assert cka.matrix(xs, ys, estimator)[0, 0] == pytest.approx(xy / np.sqrt(xx * yy), rel=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n", [129, 257])
@pytest.mark.parametrize("factor_offset", [(300, 0), (1000, 10), (1000, 30), (3000, 100)])
@pytest.mark.parametrize("massive", [1, 3, 8])
def test_a_few_massive_tokens_leave_the_error_small(
    textbook_cka: Callable[..., Floats],
    estimator: cka.Estimator,
    n: int,
    factor_offset: tuple[int, int],
    massive: int,
) -> None:
    rng = np.random.default_rng([n, *factor_offset, 0])
    base = rng.normal(size=(n, 20))
    factors = np.ones((n, 1))
    factors[3 * np.arange(massive) + 2], offset = factor_offset
    layers = [base @ rng.normal(size=(20, width)) / 4 * factors + offset for width in (17, 64, 33)]
    xs, ys = [layer.astype(np.float32) for layer in layers[:2]], [layers[2].astype(np.float32)]
    wanted = textbook_cka(xs, ys, estimator=estimator, batch_size=n)
    found = cka.matrix(xs, ys, estimator, batch_size=n)
    assert np.max(np.abs(found - wanted) / np.maximum(np.abs(wanted), 0.1)) <= 1e-5


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n, batch_size", [(5, 4), (6, 5), (13, 4), (33, 8), (67, 256)])
def test_few_samples_with_long_rows_and_more_features_than_samples(
    textbook_cka: Callable[..., Floats], estimator: cka.Estimator, n: int, batch_size: int
) -> None:
    rng = np.random.default_rng(n)
    layers = [rng.standard_t(1.5, size=(n, width)) for width in (3, 700)]
    layers += [rng.normal(size=(n, width)) for width in (5, 300)]
    for layer in layers[2:]:
        layer[:: max(n // 3, 2)] *= 30
    xs, ys = ([layers[number].astype(np.float32) for number in side] for side in ((0, 3), (1, 2)))
    wanted = textbook_cka(xs, ys, estimator=estimator, batch_size=batch_size)
    found = cka.matrix(xs, ys, estimator, batch_size=batch_size)
    assert np.max(np.abs(found - wanted) / np.maximum(np.abs(wanted), 0.1)) <= 1e-6


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-24, 1e-8, 1e8, 1e30])
def test_cka_does_not_feel_a_layers_scale(
    textbook_cka: Callable[..., Floats], estimator: cka.Estimator, scale: float
) -> None:
    x = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    y = (x[:, :5] + np.random.default_rng(2).normal(size=(300, 5))).astype(np.float32)
    small = x * np.float32(scale)
    exact = [small.astype(np.float64) / scale], [y.astype(np.float64)]
    wanted = textbook_cka(*exact, estimator=estimator, batch_size=100)
    found = cka.matrix([small], [y], estimator, batch_size=100)
    assert found == pytest.approx(wanted, abs=1e-6)
