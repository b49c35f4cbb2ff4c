"""Affine maps from one layer's rows to another's, by ridge regression in float64."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["PENALTIES", "Affine", "Ridge", "fit"]

PENALTIES = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
"""Penalties tried, in units of the mean variance of a source column."""

Affine = tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, " _"]]
"""Weight, source by target column, and bias."""


class Ridge:
    """Least-squares maps from the same rows to any targets, from one eigendecomposition.

    Args:
        source: What is mapped.
    """

    def __init__(self, source: Float[np.ndarray, "row d_source"]) -> None:
        x = source.astype(np.float64)
        self._mean = x.mean(0)
        self._centred = x - self._mean
        values, self._vectors = np.linalg.eigh(self._centred.T @ self._centred)
        self._values = values.clip(min=0)
        self._unit = max(float(self._values.mean()), 1e-30)

    def affine(self, target: Float[np.ndarray, "row d_target"], penalties: Sequence[float]) -> list[Affine]:
        """Weight and bias for every penalty; the bias is not penalised."""
        mean = target.mean(0, dtype=np.float64)
        cross = self._vectors.T @ (self._centred.T @ (target - mean))
        weights = [self._vectors @ (cross / (self._values + p * self._unit)[:, None]) for p in penalties]
        return [(weight, mean - self._mean @ weight) for weight in weights]


def fit(
    source: Float[np.ndarray, "row d_source"],
    targets: Sequence[Float[np.ndarray, "row _"]],
    held: Bool[np.ndarray, " row"],
) -> list[Affine]:
    """Weight and bias of the affine map to every target, fitted to all rows.

    Args:
        source: What is mapped.
        targets: What it is mapped to; each gets a penalty of its own.
        held: Rows (of whole training documents) on which penalties are chosen, fitted on the others.
    """
    part, whole = Ridge(source[~held]), Ridge(source)
    found = []
    for target in targets:
        tried = part.affine(target[~held], PENALTIES)
        errors = [np.square(source[held] @ weight + bias - target[held]).sum() for weight, bias in tried]
        found += whole.affine(target, [PENALTIES[int(np.argmin(errors))]])
    return found
