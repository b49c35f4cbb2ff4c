"""Held-out linear predictivity: how much of one layer a ridge regression on another foretells.

R² on documents that the regression has not seen. Choose it beside CKA where the question is what a
layer contains, not how it is laid out: it asks about all of the target's variance, is not symmetric, and
forgives any invertible linear map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int, Shaped

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, check_finite, check_layers, take

PENALTIES = tuple(10.0**power for power in range(-6, 4))
"""Ridge penalties tried, in units of the mean variance of a source's features."""

_FEWEST_FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class Predictivity:
    """Squared errors by document, from which R² and its bootstrap follow.

    Attributes:
        documents: name of each document, ascending.
        residual: summed squared error on held-out samples [document, layer, baseline_layer].
        total: the same of the training mean as the prediction [document, baseline_layer].
    """

    documents: npt.NDArray[np.generic]
    residual: Floats
    total: Floats

    def r2(
        self, weights: Float[np.ndarray, "*boot document"] | None = None
    ) -> Float[np.ndarray, "*boot layer baseline_layer"]:
        """R² = 1 − Σ residual / Σ total, at most 1; negative where the mean predicts better.

        Args:
            weights: how often each document counts, [document] or [boot, document]; once if not given.
        """
        given = np.ones(len(self.documents)) if weights is None else weights
        return np.asarray(
            1
            - np.tensordot(given, self.residual, axes=1)
            / np.tensordot(given, self.total, axes=1)[..., None, :]
        )


def document_folds(
    documents: Shaped[np.ndarray, " _sample"], *, n_folds: int = 5, seed: int = 0
) -> Int[np.ndarray, " _sample"]:
    """The fold of each sample: whole documents, dealt at random in turn.

    Raises:
        InputError: fewer than 3 folds, or fewer documents than folds.
    """
    names, owner = np.unique(documents, return_inverse=True)
    if n_folds < _FEWEST_FOLDS or len(names) < n_folds:
        raise InputError(
            f"predictivity wants at least {_FEWEST_FOLDS} folds of at least one document each, got {n_folds} "
            f"folds of {len(names)} documents; pass more documents."
        )
    fold = np.empty(len(names), dtype=np.int64)
    fold[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % n_folds
    return np.asarray(fold[owner])


def held_out(
    xs: Sequence[Float[Array, "_sample _d_model"]],
    ys: Sequence[Float[Array, "_sample _d_model"]],
    *,
    documents: Shaped[np.ndarray, " _sample"],
    folds: Int[np.ndarray, " _sample"],
) -> Predictivity:
    """Predict every layer of `ys` from every layer of `xs`, each fold from the others.

    The penalty is chosen on the training part alone: on its next fold, fitted without that one.

    Args:
        xs: layers [sample, d] to predict from.
        ys: layers [sample, d] to be predicted, over the same samples.
        documents: the document of each sample.
        folds: the fold of each sample; a document lies in one fold (`document_folds`).

    Returns:
        Squared errors by document.

    Raises:
        InputError: a document in two folds, fewer than 3 folds, NaN or infinity (names layer and
            sample), a layer that does not vary.
    """
    n = check_layers(xs, ys, caller="predictivity.held_out")
    names, owner = _checked(documents, folds, n)
    left = [_float64(layer, f"xs[{l}]") for l, layer in enumerate(xs)]
    right = [_float64(layer, f"ys[{l}]") for l, layer in enumerate(ys)]
    for side, layers, why in (
        ("xs", left, "it foretells nothing; leave it out"),
        ("ys", right, "there is nothing to predict"),
    ):
        for l, layer in enumerate(layers):
            if bool((layer == layer[0]).all()):
                raise InputError(f"{side}[{l}] does not vary between samples, so {why}.")
    edges = np.cumsum([0, *(layer.shape[1] for layer in right)])
    blocks = [slice(a, b) for a, b in pairwise(edges.tolist())]
    targets = np.concatenate(right, axis=1)
    residual = np.zeros((len(names), len(left), len(right)))
    total = np.zeros((len(names), len(right)))
    numbers = np.unique(folds)
    for place, number in enumerate(numbers):
        test, inner = folds == number, folds == numbers[(place + 1) % len(numbers)]
        train = ~test
        plain = _by_block(targets[test] - targets[train].mean(axis=0), blocks)
        np.add.at(total, owner[test], plain)
        for l, source in enumerate(left):
            penalties = _chosen(source, targets, blocks, fit=train & ~inner, check=inner)
            off = _errors(source, targets, blocks, fit=train, check=test, penalties=penalties)
            np.add.at(residual[:, l], owner[test], off)
    if bool((total.sum(axis=0) == 0).any()):
        raise InputError("a target does not vary between held-out samples; pass more documents.")
    return Predictivity(documents=names, residual=residual, total=total)


class _Fit:
    """Ridge regression at any penalty from one eigendecomposition; held-out rows in its basis."""

    def __init__(
        self, source: Floats, targets: Floats, fit: npt.NDArray[np.bool_], check: npt.NDArray[np.bool_]
    ) -> None:
        rows = source[fit]
        mean = rows.mean(axis=0)
        self.middle = targets[fit].mean(axis=0)
        rows = rows - mean
        values, vectors = np.linalg.eigh(rows.T @ rows)
        self.values = values.clip(min=0)
        self.unit = float(self.values.mean()) or 1.0
        self.cross = vectors.T @ (rows.T @ (targets[fit] - self.middle))
        self.seen = (source[check] - mean) @ vectors

    def predict(self, penalty: float, block: slice) -> Floats:
        shrunk = self.seen / (self.values + penalty * self.unit)
        return np.asarray(shrunk @ self.cross[:, block] + self.middle[block])


def _chosen(
    source: Floats,
    targets: Floats,
    blocks: list[slice],
    *,
    fit: npt.NDArray[np.bool_],
    check: npt.NDArray[np.bool_],
) -> list[float]:
    """The penalty that does best on the rows of `check`, for each target layer."""
    model = _Fit(source, targets, fit, check)
    truth = targets[check] - model.middle
    gram, across = model.seen.T @ model.seen, (model.seen.T @ truth) * model.cross
    found = []
    for block in blocks:
        cross = model.cross[:, block]
        linear, quadratic = across[:, block].sum(axis=1), gram * (cross @ cross.T)
        # ‖truth − seen·diag(w)·cross‖² as a function of w alone, without the constant ‖truth‖².
        weights = [1 / (model.values + penalty * model.unit) for penalty in PENALTIES]
        errors = [float(w @ quadratic @ w - 2 * w @ linear) for w in weights]
        found.append(PENALTIES[int(np.argmin(errors))])
    return found


def _errors(
    source: Floats,
    targets: Floats,
    blocks: list[slice],
    *,
    fit: npt.NDArray[np.bool_],
    check: npt.NDArray[np.bool_],
    penalties: list[float],
) -> Floats:
    """Squared error of each row of `check` for each target layer."""
    model = _Fit(source, targets, fit, check)
    found = [model.predict(penalty, block) for penalty, block in zip(penalties, blocks, strict=True)]
    return _by_block(np.concatenate(found, axis=1) - targets[check], blocks)


def _by_block(off: Floats, blocks: list[slice]) -> Floats:
    return np.stack([np.square(off[:, block]).sum(axis=1) for block in blocks], axis=1)


def _float64(layer: Array, name: str) -> Floats:
    rows = take(layer, slice(None))
    check_finite(rows, name=name, samples=range(len(rows)))
    return np.asarray(rows.double().cpu().numpy())


def _checked(
    documents: npt.NDArray[np.generic], folds: npt.NDArray[np.int64], n: int
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]:
    if documents.shape != (n,) or folds.shape != (n,):
        raise InputError(
            f"documents and folds must name those of each of the {n} samples, got shapes {documents.shape} "
            f"and {folds.shape}."
        )
    names, owner = np.unique(documents, return_inverse=True)
    if len(np.unique(folds)) < _FEWEST_FOLDS:
        raise InputError(f"predictivity wants at least {_FEWEST_FOLDS} folds, got {len(np.unique(folds))}.")
    if len(np.unique(np.stack([owner, folds]), axis=1).T) != len(names):
        raise InputError("a document lies in two folds; make folds of whole documents (document_folds).")
    return names, owner
