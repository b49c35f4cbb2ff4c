"""How much of a layer's similarity structure a few huge rows decide.

CKA weighs a row by its squared distance from the mean. A few tokens with norms hundreds of times
the rest (attention sinks) can lift every value to .998, or push it to 0, whatever the other tokens
do (Davari et al. 2023). So every comparison stands beside these shares, and beside itself with the
largest rows left out.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, check_layers
from engram_interp.metrics.centring import centre


def share(layer: Float[Array, "_sample _d_model"], *, fraction: float = 0.01) -> float:
    """Share of tr K (the summed squared distance from the mean) held by the longest rows.

    Args:
        layer: [sample, d].
        fraction: how many rows: ⌈fraction · n⌉.

    Returns:
        Between about `fraction` (all rows alike) and 1 (nothing else matters).

    Raises:
        InputError: a fraction outside (0, 1), NaN or infinity, a layer that does not vary.
    """
    return float(shares([layer], fraction=fraction)[0])


def shares(
    layers: Sequence[Float[Array, "_sample _d_model"]], *, fraction: float = 0.01
) -> Float[np.ndarray, " layer"]:
    """`share` of several layers over the same samples, float64 [layer]."""
    n_rows = _checked(layers, fraction, "shares")
    count = math.ceil(fraction * n_rows)
    found = np.empty(len(layers))
    for number, squares in enumerate(_square_norms(layers)):
        total = squares.sum()
        if total == 0:
            raise InputError(f"layer {number} does not vary between samples, so it has no outliers.")
        found[number] = np.partition(squares, n_rows - count)[n_rows - count :].sum() / total
    return found


def keep_rows(
    layers: Sequence[Float[Array, "_sample _d_model"]], *, fraction: float = 0.02
) -> Int[np.ndarray, " kept_sample"]:
    """Rows that are among the longest of no layer.

    Each layer drops its ⌈fraction · n⌉ rows farthest from its mean (of equal ones the earlier); a
    row that any layer drops is dropped everywhere, so that rows stay paired. For a comparison pass
    the layers of both models in one list.

    Args:
        layers: [sample, d] each, over the same samples.
        fraction: share of rows each layer drops.

    Returns:
        The rows to keep, ascending; between n − layers·⌈fraction·n⌉ and n − ⌈fraction·n⌉ of them.

    Raises:
        InputError: a fraction outside (0, 1), sample counts that differ, NaN or infinity.
    """
    n_rows = _checked(layers, fraction, "keep_rows")
    keep = np.ones(n_rows, dtype=bool)
    for squares in _square_norms(layers):
        order = np.argsort(-squares, kind="stable")
        keep[order[: math.ceil(fraction * n_rows)]] = False
    return np.flatnonzero(keep)


def _checked(layers: Sequence[Array], fraction: float, caller: str) -> int:
    if not 0 < fraction < 1:
        raise InputError(f"{caller} wants a fraction of rows between 0 and 1, got {fraction}.")
    return check_layers(layers, layers, caller=caller, min_samples=2)


def _square_norms(layers: Sequence[Array]) -> list[Floats]:
    return [centre(layer, name=f"xs[{number}]").square_norms for number, layer in enumerate(layers)]
