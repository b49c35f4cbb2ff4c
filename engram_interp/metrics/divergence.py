"""Differences between next-token distributions, in nats, from logits.

Work is float64, one tile of rows at a time: a small KL is a difference of large numbers, which
float32 loses below about 1e-6. No array of all rows in float64 is ever made.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, check_real, take

Direction = Literal["final||layer", "layer||final"]

TILE_ENTRIES = 2**20
"""Rows are taken so many at a time that their logits number about this."""


def kl_from_logits(
    final_logits: Float[Array, "*row _d_vocab"],
    layer_logits: Float[Array, "*layer_row _d_vocab"],
    *,
    direction: Direction = "final||layer",
) -> Float[np.ndarray, "*layer_row"]:
    """Kullback–Leibler divergence between a layer's distribution and the final one.

    ``final||layer`` is Σ p_final (ln p_final − ln p_layer), the tuned lens's way: large where the
    layer rules out what the model ends up saying. ``layer||final`` punishes what the layer says and
    the model does not. The Engram paper (§6.1.1) leaves the direction open.

    Args:
        final_logits: [..., d_vocab]; need not be normalised, −inf means probability 0.
        layer_logits: the same shape, or with further leading axes (layers, say): the final
            distribution is then worked out once for all of them.
        direction: which of the two.

    Returns:
        Nats, float64, in the shape of layer_logits without d_vocab. In [0, ∞]; infinite where the
        second distribution rules out what the first allows. Rounding below 0 is returned as 0.

    Raises:
        InputError: shapes that do not fit, or a row that is no distribution (NaN, +inf, all −inf).
    """
    check_real(final_logits, "final_logits")
    check_real(layer_logits, "layer_logits")
    rows, width = tuple(final_logits.shape[:-1]), final_logits.shape[-1]
    lead = layer_logits.ndim - final_logits.ndim
    if lead < 0 or tuple(layer_logits.shape[lead:]) != (*rows, width):
        raise InputError(
            f"layer_logits must end in the axes {(*rows, width)} of final_logits, "
            f"got {tuple(layer_logits.shape)}."
        )
    final = final_logits.reshape(-1, width)
    layers = layer_logits.reshape(-1, len(final), width)
    result = np.empty((len(layers), len(final)))
    for piece in _tiles(len(final), width):
        log_final = _log_probabilities(take(final, piece), "final_logits", piece)
        for number in range(len(layers)):
            log_layer = _log_probabilities(take(layers[number], piece), "layer_logits", piece)
            log_layer = log_layer.to(log_final.device)
            pair = (log_final, log_layer) if direction == "final||layer" else (log_layer, log_final)
            result[number, piece] = _kl(*pair).cpu().numpy()
    return result.reshape(tuple(layer_logits.shape[:-1]))


def entropy(logits: Float[Array, "*row _d_vocab"]) -> Float[np.ndarray, "*row"]:
    """Entropy of each next-token distribution.

    Args:
        logits: [..., d_vocab]; −inf means probability 0.

    Returns:
        Nats, float64, in [0, ln d_vocab]: 0 for a certain token, ln d_vocab for a uniform guess.

    Raises:
        InputError: a row that is no distribution (NaN, +inf, all −inf).
    """
    check_real(logits, "logits")
    width = logits.shape[-1]
    flat = logits.reshape(-1, width)
    result = np.empty(len(flat))
    for piece in _tiles(len(flat), width):
        log_p = _log_probabilities(take(flat, piece), "logits", piece)
        p = log_p.exp()
        result[piece] = -(p * log_p.clamp_(min=-1e300)).sum(-1).cpu().numpy()
    return np.maximum(result, 0.0).reshape(tuple(logits.shape[:-1]))


def _tiles(n_rows: int, width: int) -> Iterator[slice]:
    size = max(1, TILE_ENTRIES // width)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def _log_probabilities(logits: Tensor, name: str, rows: slice) -> Tensor:
    """Log-probabilities, float64; by hand, since torch.logsumexp and log_softmax are slow on a CPU."""
    work = logits.to(torch.float64, copy=True)
    work -= work.amax(-1, keepdim=True)
    total = work.exp().sum(-1, keepdim=True).log_()
    if not bool(torch.isfinite(total).all()):
        first = rows.start + int(torch.nonzero(~torch.isfinite(total[:, 0]))[0, 0])
        raise InputError(
            f"row {first} of {name} is no distribution (NaN, +inf, or −inf for every token); leave it out."
        )
    return work.sub_(total)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    p = log_p.exp()
    difference = torch.where(p > 0, log_p - log_q, 0.0)
    return difference.mul_(p).sum(-1).clamp_(min=0.0)
