"""Overlap of neighbours and Procrustes similarity on layers with known answers."""

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.metrics import neighbours, predictivity, procrustes


def test_neighbours_equal_a_slow_count_and_chance() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 6)), rng.normal(size=(600, 4))
    z = x[:, :4] + 0.3 * y

    def nearest(rows: np.ndarray) -> np.ndarray:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        near = unit @ unit.T
        np.fill_diagonal(near, -np.inf)
        return np.argsort(-near, axis=1)[:, :7]

    found = neighbours.overlap([x], [3 * x, z, y], k=7)
    assert found.shape == (1, 3, 600)
    np.testing.assert_allclose(found[0, 0], 1.0)
    slow = [len(set(a) & set(b)) / 7 for a, b in zip(nearest(x), nearest(z), strict=True)]
    np.testing.assert_allclose(found[0, 1], slow)
    assert found[0, 2].mean() == pytest.approx(7 / 599, abs=0.005)
    with pytest.raises(InputError, match=r"k must lie within 1 … 599"):
        neighbours.overlap([x], [y], k=600)
    x[5] = 0
    with pytest.raises(InputError, match=r"xs\[0\] is all zero at sample 5"):
        neighbours.overlap([x], [y])
    with pytest.raises(InputError, match=r"ys\[1\] does not vary"):
        neighbours.overlap([y], [y, np.full((600, 2), 0.3)])


def test_procrustes_knows_rotations_and_its_null() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 5))
    rotation = np.linalg.qr(rng.normal(size=(8, 5)))[0]
    y = 3 * x @ rotation.T + 100
    assert procrustes.similarity([x], [y])[0, 0] == pytest.approx(1.0, abs=1e-12)
    assert procrustes.shuffled([x], [y])[0, 0] < 0.3
    with pytest.raises(InputError, match=r"ys\[0\] does not vary"):
        procrustes.similarity([x], [np.full((400, 2), 3.0)])


def test_predictivity_is_held_out_r2_of_whole_documents() -> None:
    rng = np.random.default_rng(2)
    documents = np.repeat(np.arange(60), 10)
    x = rng.normal(size=(600, 6)).astype(np.float32)
    exact, noise = x[:, :4] @ rng.normal(size=(4, 5)) + 7, rng.normal(size=(600, 3))
    half = np.concatenate([x[:, :2], rng.normal(size=(600, 2))], axis=1)
    folds = predictivity.document_folds(documents, n_folds=5, seed=1)
    found = predictivity.held_out([x], [exact, half, noise], documents=documents, folds=folds)
    r2 = found.r2()[0]
    assert r2[0] == pytest.approx(1.0, abs=1e-6)
    assert r2[1] == pytest.approx(0.5, abs=0.06)
    assert -0.1 < r2[2] < 0.02
    assert found.r2(np.ones((3, 60))).shape == (3, 1, 3)
    with pytest.raises(InputError, match="a document lies in two folds"):
        predictivity.held_out([x], [half], documents=documents, folds=np.arange(600) % 5)
    with pytest.raises(InputError, match=r"ys\[0\] does not vary"):
        predictivity.held_out([x], [np.full((600, 2), 0.1)], documents=documents, folds=folds)
    with pytest.raises(InputError, match=r"xs\[0\] does not vary"):
        predictivity.held_out([np.full((600, 2), 0.1)], [half], documents=documents, folds=folds)
    with pytest.raises(InputError, match="at least 3 folds"):
        predictivity.document_folds(documents, n_folds=2)


def test_one_held_out_fold_equals_ridge_by_hand() -> None:
    rng = np.random.default_rng(3)
    documents = np.repeat(np.arange(9), 8)
    x, y = rng.normal(size=(72, 4)), rng.normal(size=(72, 2))
    y += x[:, :2]
    folds = documents % 3
    found = predictivity.held_out([x], [y], documents=documents, folds=folds)
    best = []
    train = folds != 0
    a, b = x[train] - x[train].mean(0), y[train] - y[train].mean(0)
    unit = np.trace(a.T @ a) / 4
    for penalty in predictivity.PENALTIES:
        weight = np.linalg.solve(a.T @ a + penalty * unit * np.eye(4), a.T @ b)
        off = (x[~train] - x[train].mean(0)) @ weight - (y[~train] - y[train].mean(0))
        best.append(np.square(off).sum())
    assert np.isclose(best, found.residual[::3, 0, 0].sum()).any()
