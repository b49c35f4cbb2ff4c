"""Pairs whose true shift is known: what the headline and its interval say about them.

Coverage over 40 and 20 pairs tells a broken interval from a sound one, not a good one from a fair one: the
bounds are what 95 % intervals fall below once in 1,000 times (33 of 40, 15 of 20). Over 40 pairs a true
coverage of 92 % passes 99 times in 100, one of 85 % 76 times and one of 70 % 5 times; over 20 pairs one of
70 % still passes 42 times. An interval that is too wide passes too, but for the planted layer, whose
intervals have to leave out 0. `analyses/00_known_answers.py` measures coverage, over hundreds of pairs.
"""

import numpy as np
import pytest
from scipy import stats

from engram_interp import depth
from engram_interp.capture.samples import Samples, document_groups
from engram_interp.errors import InputError
from engram_interp.metrics import alignment, hsic, synthetic
from engram_interp.metrics.shifts import Place, estimates

LAW = synthetic.Law(n_layers=8, n_documents=110, tokens=(4, 16), rank=8)


def shifts(layers: list[float] | None, count: int, *, truth: float) -> tuple[int, int]:
    """Of `count` drawn pairs, how many intervals hold 0, and how many the truth."""
    zero = held = 0
    for index in range(count):
        generator = np.random.default_rng([5, index])
        drawn = synthetic.world(LAW, generator)
        engram = synthetic.model(drawn, generator, layers=layers, width=20)
        base, other = (synthetic.model(drawn, generator, width=w) for w in (24, 17))
        samples = Samples(document=drawn.document, position=np.zeros((1, len(drawn.document)), int), what="")
        groups = document_groups(samples, rows=32, seed=index)
        terms, own = (hsic.group_terms(part, base, groups) for part in (engram, other))
        place = Place(n_layers=8, n_reference=8, first=2, top_k=5)
        found = estimates(terms, own, place, n_boot=200, seed=index)
        low, high = float(found["headline_low"]), float(found["headline_high"])
        zero += low <= 0 <= high
        held += low <= truth <= high
    return zero, held


def test_intervals_hold_0_for_exchangeable_pairs() -> None:
    count = 40
    zero, _ = shifts(None, count, truth=0.0)
    assert zero >= stats.binom.ppf(0.001, count, 0.95)


def test_intervals_hold_a_planted_layer_and_not_0() -> None:
    count = 20
    zero, held = shifts(synthetic.one_layer_deeper(LAW, start=2), count, truth=1.0)
    assert zero == 0
    assert held >= stats.binom.ppf(0.001, count, 0.95)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([0, 1, 2, 3, 3, 4, 5, 6], [0, 0, 0, 0, -1, -1, -1, -1]),
        ([0, 1, 3, 4, 5, 6, 7, 8], [0, 0, 1, 1, 1, 1, 1, 0]),
        ([0, 1, 2, 3, 4, 5, 6, 7], [0] * 8),
    ],
)
def test_each_layer_is_found_where_it_was_put(layers: list[float], expected: list[int]) -> None:
    generator = np.random.default_rng(3)
    drawn = synthetic.world(LAW, generator)
    engram, base = (synthetic.model(drawn, generator, layers=part, width=20) for part in (layers, None))
    data = depth.from_activations(engram, base, drawn.document, n_boot=20).data
    np.testing.assert_allclose(data["path_shift"], expected, atol=0.12)


def test_duplicated_layers_of_a_baseline_make_no_shift_by_themselves() -> None:
    generator = np.random.default_rng(4)
    drawn = synthetic.world(LAW, generator)
    base = synthetic.model(drawn, generator, layers=[0, 1, 2, 3, 3, 3, 4, 5], width=19)
    data = depth.from_activations(base, base, drawn.document, n_boot=20).data
    np.testing.assert_array_equal(data["path_shift"], 0)


def test_calibration_is_exact_where_subtraction_is_not() -> None:
    own = np.array([0.0, 1.3, 1.9, 3.2, 4.1, 5.0])
    np.testing.assert_array_equal(alignment.calibrated_shift(own, own), 0)
    np.testing.assert_allclose(alignment.calibrated_shift(own[1:], own), 1)
    half = (own[1:] + own[:-1]) / 2
    np.testing.assert_allclose(alignment.calibrated_shift(half, own), 0.5)
    stack = alignment.calibrated_shift(np.stack([own, own[::-1]]), np.stack([own, own]))
    np.testing.assert_allclose(stack[1], np.arange(5, -6, -2))


def test_a_flat_reference_gives_the_nearest_depth() -> None:
    own = np.array([0.0, 2.0, 2.0, 2.0, 4.0])
    np.testing.assert_array_equal(alignment.calibrated_shift(np.full(5, 2.0), own), [1, 0, 0, 0, -1])
    beyond = alignment.calibrated_shift(np.array([-1.0, 5.0]), own)
    np.testing.assert_array_equal(beyond, [0, 3])


def test_a_law_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="at least 2 layers"):
        synthetic.Law(n_layers=1)
    with pytest.raises(InputError, match="jitter in"):
        synthetic.Law(jitter=1.0)
    generator = np.random.default_rng(0)
    drawn = synthetic.world(LAW, generator)
    with pytest.raises(InputError, match="layers want to lie in 0"):
        synthetic.model(drawn, generator, layers=[0, 40])
    with pytest.raises(InputError, match="twice the rank"):
        synthetic.model(drawn, generator, width=9)


def test_a_peak_is_undefined_where_model_or_reference_has_a_plateau() -> None:
    """Five layers of the baseline hold the same: which of them is nearest cannot be said."""
    generator = np.random.default_rng(11)
    n, still = 1600, [0, 1, 1, 1, 1, 1, 2, 3]
    stages = [generator.normal(size=(n, 6))]
    for _ in range(3):
        stages.append(0.8 * stages[-1] + 0.6 * generator.normal(size=(n, 6)))

    def layers(contents: list[int]) -> list[np.ndarray]:
        return [np.hstack([stages[c], generator.normal(size=(n, 5))]) for c in contents]

    documents = np.repeat(np.arange(n // 8), 8)
    base = layers(still)
    data = depth.from_activations(
        layers(still), base, documents, reference=layers(still), n_boot=200, checks="none"
    ).data
    flat = np.array([c == 1 for c in still])
    for name in ("peak", "peak_self", "peak_shift", "peak_shift_low", "peak_shift_high"):
        np.testing.assert_array_equal(np.isnan(data[name]), flat, err_msg=name)
    assert "not settled" in data["peak_shift"].attrs["missing"]
    assert not np.isnan(data["path_shift"]).any(), "the path holds layers in order, so it stays defined"
    # A model that turns there: where its peak is settled, a reference that is not still gives no shift.
    turned = depth.from_activations(
        layers([0, 2, 2, 2, 2, 2, 2, 3]), base, documents, reference=layers(still), n_boot=200, checks="none"
    ).data
    np.testing.assert_array_equal(np.isnan(turned["peak"]), False)
    np.testing.assert_array_equal(np.isnan(turned["peak_self"]), flat)
    np.testing.assert_array_equal(np.isnan(turned["peak_shift"]), flat)


def test_without_another_seed_uneven_drift_makes_no_shift() -> None:
    """Layers slow down and hold unequal noise: a diagonal of ones would lean less than the model's rows."""
    generator = np.random.default_rng(6)
    n, contents = 2400, [generator.normal(size=(2400, 8))]
    for layer in range(7):
        contents.append(contents[-1] + 0.7 * 0.75**layer * generator.normal(size=(n, 8)))

    def model() -> list[np.ndarray]:
        return [np.hstack([c, generator.normal(size=(n, 7))]) for c in contents]

    base, documents = model(), np.repeat(np.arange(n // 8), 8)
    data = depth.from_activations(model(), base, documents, n_boot=2, checks="none").data
    naive = [alignment.monotone_path(data[name].values, refine="parabola") for name in ("cka", "cka_self")]
    assert np.mean(naive[0][2:6] - naive[1][2:6]) > 0.1, "the bias that is taken away"
    np.testing.assert_allclose(data["headline"], 0, atol=0.05)


def test_as_another_seed_is_the_slow_definition_and_leaves_the_baseline_itself_alone() -> None:
    own = 1 / (1 + 0.4 * np.abs(np.subtract.outer(np.arange(6) ** 1.2, np.arange(6) ** 1.2)))
    np.testing.assert_array_equal(alignment.as_another_seed(own, own), own)
    reliable = np.array([0.9, 0.8, 0.7, 0.8, 0.9, 0.6])
    twin = own * np.sqrt(np.outer(reliable, reliable))
    observed = twin / np.sqrt(np.outer(reliable, reliable))  # noise takes from all but the diagonal
    observed[~np.eye(6, dtype=bool)] = twin[~np.eye(6, dtype=bool)]
    found = alignment.as_another_seed(observed, twin)
    np.testing.assert_allclose(np.diag(found)[1:5], reliable[1:5])
    np.testing.assert_array_equal(found[~np.eye(6, dtype=bool)], observed[~np.eye(6, dtype=bool)])
    assert np.all(np.diag(found)[[0, 5]] <= 1)
