"""Tests of `engram_interp.metrics.cka`: known values, slow definitions, error texts."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import strategies as st

from engram_interp.errors import InputError
from engram_interp.metrics import cka

Floats = npt.NDArray[np.float64]
ESTIMATORS: list[cka.Estimator] = ["minibatch", "biased", "unbiased"]


def lopsided(n: int = 43, seed: int = 0) -> tuple[list[Floats], list[Floats]]:
    """Three layers of 5, 7 and 2 features against two of 4 and 6, partly shared."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, 9))
    xs = [base[:, :5], base[:, 2:] @ rng.normal(size=(7, 7)), rng.normal(size=(n, 2))]
    ys = [base[:, 3:7] + 0.5 * rng.normal(size=(n, 4)), base[:, :6] ** 2]
    return xs, ys


def unhooked(function: Any) -> Any:
    """Without the shape checks that tests put in front of our own."""
    return inspect.unwrap(function)


def close(found: Floats, wanted: Floats, tolerance: float = 1e-5) -> bool:
    return bool(np.all(np.abs(found - wanted) <= tolerance * np.maximum(np.abs(wanted), 0.1)))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("batch_size", [10, 21, 256])
def test_equals_the_textbook_on_lopsided_layers(
    textbook_cka: Callable[..., Floats], estimator: cka.Estimator, batch_size: int
) -> None:
    xs, ys = lopsided()
    found = cka.matrix(xs, ys, estimator=estimator, batch_size=batch_size)
    assert found.shape == (3, 2)
    assert found.dtype == np.float64
    wanted = textbook_cka(xs, ys, estimator=estimator, batch_size=batch_size)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_types_equal_the_textbook_on_their_own_values(
    textbook_cka: Callable[..., Floats], estimator: cka.Estimator, dtype: torch.dtype
) -> None:
    xs, ys = (
        [torch.from_numpy(layer).to(dtype).requires_grad_() for layer in side] for side in lopsided(101)
    )
    found = cka.matrix(xs, ys, estimator=estimator, batch_size=32)
    exact = [[layer.detach().double().numpy() for layer in side] for side in (xs, ys)]
    assert close(found, textbook_cka(*exact, estimator=estimator, batch_size=32), 2e-6)


def first(length: int) -> Floats:
    """1000 for the first of `length`, 1 for the rest."""
    return np.where(np.arange(length) == 0, 1000.0, 1.0)


HARD: dict[str, Callable[[Floats], Floats]] = {
    "offset 100": lambda x: x + 100,
    "offset 10,000": lambda x: x + 1e4,
    "one feature × 1000": lambda x: x * first(x.shape[1]),
    "both": lambda x: (x + 100) * first(x.shape[1]),
    "one row × 1000": lambda x: x * first(len(x))[:, None],
    "tiny": lambda x: x * 1e-12,
    "huge": lambda x: x * 1e15,
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(512, 96), (640, 12)])
@pytest.mark.parametrize("kind", HARD)
def test_float32_stays_accurate_on_hard_data(
    textbook_cka: Callable[..., Floats],
    random_stream: Callable[..., list[Floats]],
    estimator: cka.Estimator,
    shape: tuple[int, int],
    kind: str,
) -> None:
    clean = random_stream(3, n=shape[0], d=shape[1])
    xs = [HARD[kind](layer).astype(np.float32) for layer in clean[:2]]
    ys = [HARD[kind](clean[2]).astype(np.float32), clean[2][:, 3:].astype(np.float32)]
    assert close(cka.matrix(xs, ys, estimator=estimator), textbook_cka(xs, ys, estimator=estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@hypothesis.given(st.integers(0, 2**31), st.floats(-50, 50), st.floats(0.01, 100))
@hypothesis.settings(max_examples=15)
def test_rotation_shift_and_scale_change_nothing(
    estimator: cka.Estimator, seed: int, shift: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(24, 5)), rng.normal(size=(24, 3))
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    moved = scale * x @ rotation + shift
    found = cka.matrix([x, moved], [y, moved], estimator=estimator, batch_size=8)
    assert found[0, 0] == pytest.approx(found[1, 0], abs=1e-8)
    np.testing.assert_allclose(found[:, 1], 1.0, atol=1e-8)
    swapped = cka.matrix([y, moved], [x, moved], estimator=estimator, batch_size=8)
    np.testing.assert_allclose(found, swapped.T, atol=1e-12)


def test_half_of_the_features_gives_the_root_of_one_half() -> None:
    x = np.random.default_rng(1).normal(size=(6000, 8)).astype(np.float32)
    for estimator in ("minibatch", "unbiased"):
        found = cka.matrix([x], [x[:, :4]], estimator=estimator)[0, 0]
        assert found == pytest.approx(np.sqrt(0.5), abs=0.015)


def test_independent_layers_scatter_around_zero_unclamped() -> None:
    rng = np.random.default_rng(2)
    xs = [rng.normal(size=(60, 30)) for _ in range(6)]
    ys = [rng.normal(size=(60, 30)) for _ in range(7)]
    for estimator in ("minibatch", "unbiased"):
        found = cka.matrix(xs, ys, estimator=estimator, batch_size=20)
        assert found.min() < 0
        assert abs(found.mean()) < 0.02
    assert cka.matrix(xs, ys, estimator="biased").min() > 0.2


def test_the_tail_is_dropped_and_few_samples_are_one_batch() -> None:
    xs, ys = lopsided(50)
    whole = cka.matrix([x[:48] for x in xs], [y[:48] for y in ys], batch_size=16)
    np.testing.assert_array_equal(cka.matrix(xs, ys, batch_size=16), whole)
    one = cka.matrix(xs, ys, estimator="unbiased")
    np.testing.assert_allclose(cka.matrix(xs, ys, batch_size=256), one, atol=1e-12)


def test_the_same_list_twice_is_the_same_comparison() -> None:
    xs, _ = lopsided(64)
    for estimator in ESTIMATORS:
        twice = cka.matrix(xs, list(xs), estimator=estimator, batch_size=16)
        np.testing.assert_allclose(cka.matrix(xs, xs, estimator=estimator, batch_size=16), twice, atol=1e-13)


def test_files_views_and_integers_are_read_and_left_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(size=(40, 6))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    frozen = x.copy()
    frozen.flags.writeable = False
    layers: list[Any] = [x, mapped, frozen, x[:, ::-1], x.astype(">f8"), torch.from_numpy(x)]
    before = x.copy()
    for estimator in ESTIMATORS:
        found = cka.matrix(layers, layers, estimator=estimator, batch_size=10)
        np.testing.assert_allclose(found, 1.0, atol=1e-12)
    np.testing.assert_array_equal(x, before)
    counts = (x * 10).astype(np.int64)
    found = unhooked(cka.matrix)([counts], [torch.from_numpy(counts)])
    np.testing.assert_allclose(found, 1.0, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_too_few_and_unequal_samples(estimator: cka.Estimator) -> None:
    x = np.ones((3, 2)) * np.arange(3)[:, None]
    with pytest.raises(InputError, match="needs at least 4 samples, got 3; pool more prompts"):
        cka.matrix([x], [x], estimator=estimator)
    y = np.random.default_rng(0).normal(size=(7, 2))
    with pytest.raises(InputError, match=r"ys\[1\] has 6 samples but xs\[0\] has 7"):
        cka.matrix([y], [y, y[:6]], estimator=estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
@pytest.mark.parametrize("sample", [0, 17, 41])  # 41 lies in the tail
def test_a_value_that_is_not_finite_is_named(
    estimator: cka.Estimator, value: float, word: str, sample: int
) -> None:
    xs, ys = lopsided()
    ys[1] = ys[1].astype(np.float32)
    ys[1][sample, 3] = value
    with pytest.raises(InputError, match=rf"ys\[1\] holds {word} at sample {sample} "):
        cka.matrix(xs, ys, estimator=estimator, batch_size=10)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.1, 100.3])
def test_a_constant_layer_is_an_error(estimator: cka.Estimator, dtype: torch.dtype, value: float) -> None:
    x = torch.randn(48, 3)
    with pytest.raises(InputError, match=r"xs\[1\] does not vary between samples .* leave that layer out"):
        cka.matrix([x, torch.full((48, 7), value, dtype=dtype)], [x], estimator=estimator, batch_size=12)


def test_one_row_that_differs_is_no_variation_for_hsic1() -> None:
    x = torch.zeros(40, 3)
    x[11] = torch.tensor([1.0, 2.0, 3.0])
    for estimator in ("minibatch", "unbiased"):
        with pytest.raises(InputError, match="all but one"):
            cka.matrix([x], [torch.randn(40, 2)], estimator=estimator)


def test_a_layer_constant_in_some_batches_only_is_fine(textbook_cka: Callable[..., Floats]) -> None:
    x = np.random.default_rng(4).normal(size=(30, 3)).astype(np.float32)
    x[:10] = 7.7
    y = np.random.default_rng(5).normal(size=(30, 2))
    np.testing.assert_allclose(
        cka.matrix([x], [y], batch_size=10), textbook_cka([x], [y], batch_size=10), atol=1e-9
    )


def test_wrong_kinds_of_input() -> None:
    matrix = unhooked(cka.matrix)
    x = np.random.default_rng(0).normal(size=(9, 2))
    with pytest.raises(InputError, match=r"estimator must be one of minibatch, biased, unbiased, got 'cka'"):
        matrix([x], [x], estimator="cka")
    with pytest.raises(InputError, match="batch_size must be at least 4, got 3"):
        matrix([x], [x], batch_size=3)
    with pytest.raises(InputError, match="at least one layer in ys, got none"):
        matrix([x], [])
    with pytest.raises(
        InputError, match=r"xs\[0\] must be \[sample, d\], got shape \(2,\); pass xs as a list"
    ):
        matrix(list(x), [x])
    with pytest.raises(InputError, match="real numbers, got complex128"):
        matrix([x + 1j], [x])


def batches(
    n_batches: int, size: int = 16, dtype: torch.dtype = torch.float32
) -> list[tuple[list[torch.Tensor], list[torch.Tensor]]]:
    found = []
    for number in range(n_batches):
        xs, ys = lopsided(size, seed=number)
        found.append(tuple([torch.from_numpy(layer).to(dtype) for layer in side] for side in (xs, ys)))
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_accumulator_equals_matrix(dtype: torch.dtype) -> None:
    parts = batches(5, dtype=dtype)
    total = cka.Accumulator(3, 2)
    for xs, ys in parts:
        total.update(xs, ys)
    assert (total.n_batches, total.batch_size) == (5, 16)
    whole = [
        [torch.cat(layer) for layer in zip(*(part[side] for part in parts), strict=True)] for side in (0, 1)
    ]
    np.testing.assert_allclose(total.matrix(), cka.matrix(whole[0], whole[1], batch_size=16), atol=1e-12)


@hypothesis.given(st.permutations(range(7)), st.lists(st.integers(0, 3), min_size=7, max_size=7))
@hypothesis.settings(max_examples=15)
def test_shards_merge_in_any_order(order: list[int], owner: list[int]) -> None:
    parts = batches(7)
    straight = cka.Accumulator(3, 2)
    shards = [cka.Accumulator(3, 2) for _ in range(4)]
    for part in parts:
        straight.update(*part)
    for number in order:
        shards[owner[number]].update(*parts[number])
    merged = cka.Accumulator(3, 2)
    for shard in reversed(shards):
        merged.merge(shard)
    assert merged.n_batches == 7
    np.testing.assert_allclose(merged.matrix(), straight.matrix(), rtol=0, atol=1e-9)


def test_accumulator_refuses_what_does_not_fit_and_stays_as_it_was() -> None:
    total = cka.Accumulator(3, 2)
    with pytest.raises(InputError, match="has seen no batch; call update first"):
        total.matrix()
    (first, second) = batches(2)
    total.update(*first)
    before = total.matrix()
    with pytest.raises(InputError, match=r"batches of 16, got one of 9; drop the shorter tail"):
        total.update(*batches(1, size=9)[0])
    with pytest.raises(InputError, match="takes 3 and 2 layers, got 2 and 3"):
        total.update(second[1], second[0])
    spoiled = [layer.clone() for layer in second[0]]
    spoiled[2][5] = torch.nan
    with pytest.raises(InputError, match=r"xs\[2\] holds NaN at sample 5"):
        total.update(spoiled, second[1])
    other = cka.Accumulator(3, 2)
    other.update(*batches(1, size=9)[0])
    with pytest.raises(InputError, match="same size"):
        total.merge(other)
    with pytest.raises(InputError, match="cannot merge an Accumulator of 2 and 3 layers into one of 3 and 2"):
        total.merge(cka.Accumulator(2, 3))
    with pytest.raises(InputError, match="at least one layer on each side"):
        cka.Accumulator(0, 2)
    assert total.n_batches == 1
    np.testing.assert_array_equal(total.matrix(), before)
