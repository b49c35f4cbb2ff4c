"""Exact CKA from one pass: equal to the slow definition, in any order, under hard data."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch

from engram_interp.errors import InputError
from engram_interp.metrics import cka

Floats = npt.NDArray[np.float64]
EXACT: list[cka.Estimator] = ["biased", "unbiased"]


def layers(kind: str, n: int) -> tuple[list[Floats], list[Floats]]:
    rng = np.random.default_rng(n)
    base = rng.normal(size=(n, 9))
    xs = [base[:, :5].copy(), base @ rng.normal(size=(9, 12))]
    ys = [base[:, 2:] + 0.5 * rng.normal(size=(n, 7)), rng.normal(size=(n, 3))]
    for layer in (*xs, *ys):
        if "massive" in kind:
            layer[:, 0] *= 1000
        if "offset" in kind:
            np.add(layer, 100, out=layer)
    return xs, ys


@pytest.mark.parametrize("kind", ["plain", "massive", "offset", "massive offset"])
@pytest.mark.parametrize("estimator", EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [5, 203])
def test_streamed_equals_the_textbook_and_shards_merge_in_any_order(
    textbook_cka: Callable[..., Floats], kind: str, estimator: cka.Estimator, dtype: torch.dtype, n: int
) -> None:
    xs, ys = ([torch.from_numpy(layer).to(dtype) for layer in side] for side in layers(kind, n))
    wanted = textbook_cka(*[[v.double().numpy() for v in side] for side in (xs, ys)], estimator=estimator)
    cuts = [0, 1, 4, n] if n < 50 else [0, 1, 40, 44, 140, n]
    shards = []
    for start, stop in pairwise(cuts):
        shard = cka.Accumulator(2, 2, estimator=estimator)
        shard.update([x[start:stop] for x in xs], [y[start:stop] for y in ys])
        shards.append(shard)
    found = []
    for order in (shards, shards[::-1]):
        total = cka.Accumulator(2, 2, estimator=estimator)
        for shard in order:
            total.merge(shard)
        found.append(total.matrix())
    assert np.all(np.abs(found[0] - wanted) <= 1e-5 * np.maximum(np.abs(wanted), 0.1))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("estimator", EXACT)
def test_bad_input_is_an_error(estimator: cka.Estimator) -> None:
    x = np.random.default_rng(0).normal(size=(9, 3))
    total = cka.Accumulator(1, 1, estimator=estimator)
    total.update([x[:3]], [x[:3]])
    with pytest.raises(InputError, match="at least 4 samples, this Accumulator has seen 3"):
        total.matrix()
    with pytest.raises(InputError, match="keep their widths"):
        total.update([x[:, :2]], [x])
    spoiled = x.copy()
    spoiled[4] = np.nan
    with pytest.raises(InputError, match=r"ys\[0\] holds NaN at sample 4"):
        total.update([x], [spoiled])
    with pytest.raises(InputError, match="cannot merge minibatch sums"):
        total.merge(cka.Accumulator(1, 1))
    flat = cka.Accumulator(1, 1, estimator=estimator)
    for _ in range(3):
        flat.update([np.full((5, 2), 100.3)], [x[:5]])
    with pytest.raises(InputError, match=r"xs\[0\] does not vary"):
        flat.matrix()


def test_the_estimator_may_stand_third() -> None:
    x = np.random.default_rng(0).normal(size=(30, 3))
    np.testing.assert_array_equal(cka.matrix([x], [x], "biased"), cka.matrix([x], [x], estimator="biased"))


@pytest.mark.parametrize(("far", "within"), [(1e3, 1e-9), (1e5, 1e-6)])
def test_an_odd_first_batch_costs_few_digits(far: float, within: float) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 6))
    y = x[:, :4] + rng.normal(size=(200, 4))
    x[0] += far
    cuts = [0, 1, 2, 40, 90, 200]
    wanted = cka.matrix([x], [y], "unbiased")
    parts = []
    for start, stop in pairwise(cuts):
        parts.append(cka.Accumulator(1, 1, estimator="unbiased"))
        parts[-1].update([x[start:stop]], [y[start:stop]])
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        merged, fed = (cka.Accumulator(1, 1, estimator="unbiased") for _ in range(2))
        for number in order:
            merged.merge(parts[number])
            fed.update([x[cuts[number] : cuts[number + 1]]], [y[cuts[number] : cuts[number + 1]]])
        np.testing.assert_allclose(merged.matrix(), wanted, atol=within)
        np.testing.assert_allclose(fed.matrix(), wanted, atol=within)
