"""Tests of `engram_interp.metrics.contrast`: slow definitions, coverage of documents, error texts."""

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.metrics import bootstrap, contrast
from tests import support


def ragged(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values [sample, 2, 3] with ties and gaps, of 22 documents of 3 to 9 samples."""
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(22), rng.integers(3, 10, size=22))
    values = rng.integers(0, 8, size=(len(documents), 2, 3)).astype(float)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values, rng.random(len(documents)) < 0.3, documents


def test_auc_and_difference_equal_loops() -> None:
    values, positive, documents = ragged()
    found = contrast.auc(values, positive, documents, n_boot=200)
    gap = contrast.difference(values, positive, documents, n_boot=200)
    for at in np.ndindex(2, 3):
        column = values[(slice(None), *at)]
        inside = [v for v, p in zip(column, positive, strict=True) if p and not np.isnan(v)]
        other = [v for v, p in zip(column, positive, strict=True) if not p and not np.isnan(v)]
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in other]
        assert found.value[at] == pytest.approx(np.mean(wins))
        assert gap.value[at] == pytest.approx(np.mean(inside) - np.mean(other))
        assert found.low[at] < found.value[at] < found.high[at]
        assert gap.low[at] < gap.value[at] < gap.high[at]


def test_a_resample_equals_repeating_documents() -> None:
    values, positive, documents = ragged(3)
    weights = bootstrap.group_weights(22, 7, 5)
    found = contrast.auc(values[:, 0, 0], positive, documents, n_boot=7, seed=5)
    each = []
    for row in weights.astype(int):
        index = np.concatenate([np.tile(np.flatnonzero(documents == d), n) for d, n in enumerate(row)])
        names = np.arange(len(index))
        each.append(float(contrast.auc(values[index, 0, 0], positive[index], names, n_boot=1).value))
    low, high = bootstrap.interval(np.array(each), n_groups=22)
    assert float(found.low) == pytest.approx(float(low))
    assert float(found.high) == pytest.approx(float(high))


def test_no_interval_and_no_value_where_there_is_nothing_to_compare() -> None:
    values, positive, documents = ragged()
    few = documents < 12
    assert np.isnan(contrast.auc(values[few], positive[few], documents[few]).low).all()
    none = contrast.auc(values, np.zeros_like(positive), documents, n_boot=9)
    assert np.isnan(none.value).all()
    assert np.isnan(none.high).all()
    with (
        support.shapes_unchecked(),
        pytest.raises(InputError, match=r"of each of the \d+ samples"),
    ):
        contrast.difference(values, positive[:5], documents)
