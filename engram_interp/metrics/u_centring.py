"""U-centring (Székely & Rizzo 2014): rows and columns of a Gram without its diagonal made to sum to zero.

A_ij = K_ij − r_i/(b−2) − r_j/(b−2) + Σr/((b−1)(b−2)),  r_i = Σ_{j≠i} K_ij,  A_ii = 0
"""

import torch
from torch import Tensor


def u_term(sums: Tensor, others: Tensor) -> Tensor:
    """What U-centring adds to the traces of Grams with these off-diagonal row sums [*batch, layer, row]."""
    size = sums.shape[-1]
    totals = sums.sum(-1)[..., :, None] * others.sum(-1)[..., None, :] / ((size - 1) * (size - 2))
    return totals - 2 / (size - 2) * (sums @ others.mT)


def centre_term(sums: Tensor, others: Tensor) -> Tensor:
    """What centring rows and columns adds to the traces of whole Grams with these row sums [layer, row]."""
    size = sums.shape[1]
    return torch.outer(sums.sum(1), others.sum(1)) / size**2 - 2 / size * (sums @ others.T)


def u_share(sums: Tensor, total: Tensor) -> Tensor:
    """What U-centring adds to row and column i of a Gram whose off-diagonal rows sum to `sums`."""
    size = len(sums)
    return total / (2 * (size - 1) * (size - 2)) - sums / (size - 2)


def u_centre(gram: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Add `rows` [row] and `columns` [column] to a Gram [row, column], as one rank-2 product."""
    left = torch.stack([rows, torch.ones_like(rows)], dim=1)
    gram.addmm_(left, torch.stack([torch.ones_like(columns), columns]))
