"""Orthogonal Procrustes similarity: how well the best rotation lays one layer over another.

With centred rows of unit Frobenius norm it is ‖XᵀY‖_* (Williams et al. 2021; Ding et al. 2021 report
the distance 2 − 2‖XᵀY‖_*). Beside CKA it gives small directions more weight. It grows with d/n even
between unrelated layers, so read it against the same layers with the samples of one shuffled.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, check_layers
from engram_interp.metrics.centring import centre


def similarity(
    xs: Sequence[Float[Array, "_sample _d_model"]], ys: Sequence[Float[Array, "_sample _d_model"]]
) -> Float[np.ndarray, "layer baseline_layer"]:
    """Procrustes similarity of every pair of layers.

    Args:
        xs: layers [sample, d].
        ys: layers [sample, d] of the other model, over the same samples.

    Returns:
        float64 [layer, baseline_layer], within [0, 1]; 1 for layers equal up to rotation, shift and scale.

    Raises:
        InputError: fewer than 4 samples, counts that differ, NaN or infinity, a layer that does not vary.
    """
    check_layers(xs, ys, caller="procrustes.similarity")
    left = [_unit(layer, f"xs[{l}]") for l, layer in enumerate(xs)]
    right = left if ys is xs else [_unit(layer, f"ys[{l}]") for l, layer in enumerate(ys)]
    return np.array([[float(torch.linalg.svdvals(x.T @ y).sum()) for y in right] for x in left])


def shuffled(
    xs: Sequence[Float[Array, "_sample _d_model"]],
    ys: Sequence[Float[Array, "_sample _d_model"]],
    *,
    seed: int = 0,
) -> Float[np.ndarray, "layer baseline_layer"]:
    """`similarity` after the samples of `ys` are shuffled: what unrelated layers of these widths show."""
    n = check_layers(xs, ys, caller="procrustes.shuffled")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    return similarity(xs, [_unit(layer, f"ys[{l}]")[order] for l, layer in enumerate(ys)])


def _unit(layer: Array, name: str) -> Tensor:
    rows = centre(layer, name=name).rows(slice(None), torch.float64)
    norm = float(rows.norm())
    if norm == 0:
        raise InputError(f"{name} does not vary between samples, so no rotation fits it; leave it out.")
    return rows / norm
