"""Tests of `engram_interp.metrics.alignment`: known values, slow definitions, error texts."""

import inspect
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engram_interp.errors import InputError
from engram_interp.metrics import alignment, cka

Floats = npt.NDArray[np.float64]
Stream = Callable[..., list[Floats]]

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=5)


def similarities(**kwargs: Any) -> st.SearchStrategy[Floats]:
    # Coarse values, so that ties are common and sums are exact.
    values = st.integers(-4, 16).map(lambda whole: whole / 16)
    return hnp.arrays(np.float64, kwargs.pop("shape", SHAPES), elements=values)


def best_paths(s: Floats) -> list[tuple[int, ...]]:
    """Every non-decreasing path of largest sum, by trying all of them."""
    n_layers, n_others = s.shape
    paths = list(combinations_with_replacement(range(n_others), n_layers))
    scores = [sum(s[layer, place] for layer, place in enumerate(path)) for path in paths]
    return [path for path, score in zip(paths, scores, strict=True) if score >= max(scores) - 1e-9]


class TestSoftIndex:
    @hypothesis.given(similarities(), st.integers(1, 7))
    def test_is_equation_9(self, s: Floats, top_k: int) -> None:
        found = alignment.soft_index(s, top_k)
        for layer, row in enumerate(s):
            top = sorted(range(len(row)), key=lambda i: (-row[i], i))[:top_k]
            weight = [max(row[i], 0.0) for i in top]
            if sum(weight) > 0:
                wanted = sum(w * i for w, i in zip(weight, top, strict=True)) / sum(weight)
                assert found[layer] == pytest.approx(wanted)
            else:
                assert np.isnan(found[layer])

    def test_negative_similarity_weighs_nothing(self) -> None:
        s = np.array([[-0.5, 0.2, 0.6, -0.1]])
        np.testing.assert_allclose(alignment.soft_index(s, top_k=4), (0.2 * 1 + 0.6 * 2) / 0.8)

    def test_is_biased_at_the_edges_only(self) -> None:
        layers = np.arange(11)
        s = 1 - 0.05 * np.abs(layers[:, None] - layers)
        bias = alignment.soft_index(s) - layers
        edge = alignment.edge_layers(11)
        np.testing.assert_allclose(bias[~edge], 0, atol=1e-12)
        assert bias[0] > 1
        assert bias[-1] < -1
        assert np.all(np.abs(bias[edge]) > 0.5)

    def test_takes_stacks_and_bfloat16(self) -> None:
        stack = np.random.default_rng(0).random((3, 4, 6))
        found = alignment.soft_index(stack, top_k=3)
        np.testing.assert_array_equal(found[1], alignment.soft_index(stack[1], top_k=3))
        narrow = torch.from_numpy(stack).bfloat16()
        wanted = alignment.soft_index(narrow.double().numpy(), top_k=3)
        np.testing.assert_array_equal(alignment.soft_index(narrow, top_k=3), wanted)

    def test_nan_and_errors(self) -> None:
        s = np.array([[0.5, np.nan, 0.1], [0.5, 0.2, 0.1]])
        np.testing.assert_array_equal(np.isnan(alignment.soft_index(s)), [True, False])
        with pytest.raises(InputError, match="top_k must be at least 1, got 0"):
            alignment.soft_index(s, 0)
        with pytest.raises(InputError, match=r"must be \[layer, baseline_layer\], got shape \(3,\)"):
            inspect.unwrap(alignment.soft_index)(s[0])


@pytest.mark.parametrize(
    "n, top_k, edges", [(7, 5, [0, 1, 5, 6]), (4, 2, [0, 3]), (5, 1, []), (3, 5, [0, 1, 2])]
)
def test_edge_layers(n: int, top_k: int, edges: list[int]) -> None:
    assert np.flatnonzero(alignment.edge_layers(n, top_k)).tolist() == edges


class TestPeak:
    @hypothesis.given(st.floats(0.6, 4.4), st.floats(0.01, 2))
    def test_finds_the_top_of_a_parabola(self, top: float, bend: float) -> None:
        hypothesis.assume(abs(top % 1 - 0.5) > 1e-6)
        row = 0.9 - bend * (np.arange(6) - top) ** 2
        np.testing.assert_allclose(alignment.peak(row[None]), top, atol=1e-8)

    def test_edges_ties_and_nan(self) -> None:
        s = np.array(
            [
                [0.9, 0.5, 0.4, 0.3, 0.1],  # the first layer
                [0.1, 0.2, 0.3, 0.4, 0.9],  # the last
                [0.9, 0.9, 0.1, 0.1, 0.1],  # two neighbours
                [0.1, 0.2, 0.2, 0.9, 0.9],
                [0.1, 0.9, 0.1, 0.9, 0.1],  # two that are none
                [0.1, 0.9, 0.9, 0.9, 0.1],
                [0.1, np.nan, 0.2, 0.9, 0.1],
            ]
        )
        np.testing.assert_array_equal(alignment.peak(s), [0, 4, 0.5, 3.5, np.nan, np.nan, np.nan])

    @pytest.mark.parametrize("n", [1, 2])
    def test_too_few_layers_for_a_parabola(self, n: int) -> None:
        np.testing.assert_array_equal(alignment.peak(np.arange(n)[None] + 0.5), [n - 1])

    def test_a_plateau_is_undefined(self) -> None:
        rng = np.random.default_rng(0)
        clear = 1 - 0.1 * (np.arange(7) - 3.5) ** 2  # 3 or 4: two layers, still settled
        flat = np.array([0.1, 0.2, 0.75, 0.755, 0.75, 0.745, 0.2])
        s = np.stack([clear, flat, clear])
        stack = s + 0.01 * rng.normal(size=(200, 3, 7))
        np.testing.assert_array_equal(alignment.plateau(stack), [False, True, False])
        s[2, 3] += 0.01
        np.testing.assert_array_equal(np.isnan(alignment.peak(s, stack=stack)), [False, True, False])
        stack[5, 2, 1] = np.nan
        np.testing.assert_array_equal(alignment.plateau(stack), [False, True, True])

    def test_rare_resamples_do_not_make_a_plateau(self) -> None:
        stack = np.zeros((100, 2, 5))
        stack[:, :, 2] = 1
        stack[:2, 0, 0] = stack[2:4, 0, 4] = 2  # 2 % on each side
        stack[:9, 1, 0] = stack[9:18, 1, 4] = 2  # 9 %
        np.testing.assert_array_equal(alignment.plateau(stack), [False, True])
        np.testing.assert_array_equal(alignment.plateau(stack, level=0.8), [False, False])


class TestMonotonePath:
    @hypothesis.given(similarities())
    def test_is_the_lowest_of_all_best_paths(self, s: Floats) -> None:
        best = np.array(best_paths(s))
        np.testing.assert_array_equal(alignment.monotone_path(s), best.min(axis=0))

    @hypothesis.given(similarities(shape=(4, 3, 5)))
    def test_stacks_are_paths_of_each(self, stack: Floats) -> None:
        for refine in ("none", "parabola"):
            together = alignment.monotone_path(stack, refine=refine)
            each = [alignment.monotone_path(s, refine=refine) for s in stack]
            np.testing.assert_array_equal(together, each)

    @hypothesis.given(hnp.arrays(np.float64, (5, 7), elements=st.floats(0, 1)))
    def test_refined_is_near_and_never_goes_back(self, s: Floats) -> None:
        path, refined = alignment.monotone_path(s), alignment.monotone_path(s, refine="parabola")
        assert np.all(np.diff(path) >= 0)
        assert np.all(np.diff(refined) >= -1e-12)
        assert np.all(np.abs(refined - path) <= 0.5 + 1e-12)
        assert refined.min() >= 0
        assert refined.max() <= 6

    def test_refinement_by_hand(self) -> None:
        true = np.array([0.0, 1.3, 1.1, 2.8])  # the middle two go back: both become 1.2
        s = 1 - 0.1 * (true[:, None] - np.arange(5)) ** 2
        np.testing.assert_allclose(alignment.monotone_path(s, refine="parabola"), [0, 1.2, 1.2, 2.8])

    def test_nan_is_an_error(self) -> None:
        with pytest.raises(InputError, match="needs every similarity, got NaN; leave that layer out"):
            alignment.monotone_path(np.array([[0.1, np.nan], [0.3, 0.2]]))


@pytest.mark.parametrize("estimator", ["minibatch", "unbiased", "biased"])
class TestKnownDepths:
    def test_a_model_against_itself_is_exactly_j(
        self, random_stream: Stream, estimator: cka.Estimator
    ) -> None:
        layers = random_stream(9)
        s = cka.matrix(layers, layers, estimator=estimator, batch_size=64)
        np.testing.assert_array_equal(alignment.monotone_path(s), np.arange(9))
        assert np.all(np.abs(alignment.peak(s) - np.arange(9)) < 0.5)

    def test_a_model_that_skips_layers(self, random_stream: Stream, estimator: cka.Estimator) -> None:
        baseline = random_stream(9)
        kept = [0, 1, 2, 4, 5, 7, 8]  # seven layers do the work of nine
        s = cka.matrix([baseline[layer] for layer in kept], baseline, estimator=estimator, batch_size=64)
        np.testing.assert_array_equal(alignment.monotone_path(s), kept)

    @pytest.mark.parametrize("at", [0, 3, 6])
    def test_an_identity_layer_put_in(self, random_stream: Stream, estimator: cka.Estimator, at: int) -> None:
        baseline = random_stream(7)
        model = [*baseline[: at + 1], baseline[at].copy(), *baseline[at + 1 :]]  # at + 1 does nothing
        s = cka.matrix(model, baseline, estimator=estimator, batch_size=64)
        wanted = [*range(at + 1), *range(at, 7)]
        np.testing.assert_array_equal(alignment.monotone_path(s), wanted)

    def test_an_identity_layer_in_the_baseline_ties_and_takes_the_lower(
        self, random_stream: Stream, estimator: cka.Estimator
    ) -> None:
        model = [layer.astype(np.float32) for layer in random_stream(7)]
        baseline = [*model[:4], model[3], *model[4:]]
        s = cka.matrix(model, baseline, estimator=estimator, batch_size=64)
        np.testing.assert_array_equal(alignment.monotone_path(s), [0, 1, 2, 3, 5, 6, 7])
        assert alignment.peak(s)[3] == 3.5

    def test_another_text_and_noise_do_not_move_it(
        self, random_stream: Stream, estimator: cka.Estimator
    ) -> None:
        baseline = random_stream(9, n=768, d=48)
        rng = np.random.default_rng(8)
        kept = [0, 1, 3, 4, 5, 7, 8]
        rotation = np.linalg.qr(rng.normal(size=(48, 48)))[0]
        model = [baseline[layer] @ rotation + 0.2 * rng.normal(size=(768, 48)) for layer in kept]
        s = cka.matrix(model, baseline, estimator=estimator, batch_size=64)
        np.testing.assert_array_equal(alignment.monotone_path(s), kept)
        own = cka.matrix(baseline, baseline, estimator=estimator, batch_size=64)
        refined = alignment.monotone_path(s, refine="parabola")
        reference = alignment.monotone_path(own, refine="parabola")
        np.testing.assert_allclose(refined - reference[kept], 0, atol=0.3)
