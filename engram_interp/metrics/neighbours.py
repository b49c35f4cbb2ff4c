"""Mutual k-nearest-neighbour overlap: do two layers agree on which samples are alike? (Huh et al. 2024).

Choose it beside CKA where a few huge rows or directions might decide the latter: here every sample
counts the same and only the order of its nearest others matters.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, check_finite, check_layers, take
from engram_interp.metrics.centring import tiles

_TILE = 512


def overlap(
    xs: Sequence[Float[Array, "_sample _d_model"]],
    ys: Sequence[Float[Array, "_sample _d_model"]],
    *,
    k: int = 10,
) -> Float[np.ndarray, "layer baseline_layer sample"]:
    """Share of each sample's k nearest others, by cosine, that both layers name.

    Args:
        xs: layers [sample, d].
        ys: layers [sample, d] of the other model, over the same samples.
        k: neighbours; a sample is none of its own.

    Returns:
        float64 [layer, baseline_layer, sample], within [0, 1]; the mean over samples is the measure.
        Unrelated layers share k/(n − 1).

    Raises:
        InputError: k outside 1 … n − 1, sample counts that differ, NaN or infinity, a row of zeros, a layer
            that does not vary.
    """
    n = check_layers(xs, ys, caller="neighbours.overlap")
    if not 1 <= k < n:
        raise InputError(f"k must lie within 1 … {n - 1} (samples less one), got {k}.")
    left = [_nearest(layer, f"xs[{l}]", k) for l, layer in enumerate(xs)]
    right = left if ys is xs else [_nearest(layer, f"ys[{l}]", k) for l, layer in enumerate(ys)]
    found = np.empty((len(xs), len(ys), n))
    for l, mine in enumerate(left):
        for m, theirs in enumerate(right):
            for rows in tiles(n, _TILE):
                same = mine[rows, :, None] == theirs[rows, None, :]
                found[l, m, rows] = same.sum(dim=(1, 2)).double().cpu().numpy() / k
    return found


def _nearest(layer: Array, name: str, k: int) -> Tensor:
    """The k nearest others of each row, [sample, k]; never more than a strip of the n×n similarities."""
    rows = take(layer, slice(None))
    check_finite(rows, name=name, samples=range(len(rows)))
    rows = rows.double()
    norms = rows.norm(dim=1, keepdim=True)
    if bool((norms == 0).any()):
        sample = int((norms == 0).flatten().nonzero()[0])
        raise InputError(f"{name} is all zero at sample {sample}, which has no direction; leave it out.")
    if bool((rows == rows[0]).all()):
        raise InputError(f"{name} does not vary between samples, so no sample is nearest; leave it out.")
    rows = rows / norms
    found = []
    for piece in tiles(len(rows), _TILE):
        near = rows[piece] @ rows.T
        near[torch.arange(len(near)), torch.arange(piece.start, piece.stop)] = -torch.inf
        found.append(near.topk(k, dim=1).indices)
    return torch.cat(found)
