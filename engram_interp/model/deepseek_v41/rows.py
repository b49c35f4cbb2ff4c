"""Maps whose result for one row does not depend on which other rows are mapped with it.

A matrix product is free to sum in another order for another number of rows, so the last bits of a token's
activations would depend on the batch it was in. Here the rows go through in tiles of one fixed size, always
from aligned memory: a model that is run whole and one that is streamed from disk agree bit for bit, however
the prompts are batched. Exponentials have the same trouble: torch takes another one for the last few
numbers of an array (and of each thread's share of it) than for those it takes eight or sixteen at a time.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

TILE = 32
"""Rows a product. More would waste work on the few tokens that an expert sees."""
_ALIGNMENT = 64
_TOGETHER = 16384
"""Numbers that `each` maps at a time: no remainder, and too few for torch to share among threads."""


def aligned(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same numbers contiguous from a 64-byte boundary: small products sum otherwise elsewhere."""
    x = x.contiguous()
    return x.clone() if x.data_ptr() % _ALIGNMENT else x


def row_linear(
    x: Float[Tensor, "*row source"], weight: Float[Tensor, "out source"]
) -> Float[Tensor, "*row out"]:
    """``x @ weight.T``, every row by itself."""
    flat, weight = aligned(x.reshape(-1, x.shape[-1])), aligned(weight)
    rows = len(flat)
    whole = rows // TILE * TILE
    tiles = list(flat[:whole].split(TILE)) if whole else []
    if whole < rows:
        tiles.append(torch.cat([flat[whole:], flat.new_zeros(whole + TILE - rows, flat.shape[1])]))
    if not tiles:
        return x.new_zeros(*x.shape[:-1], len(weight))
    out = torch.cat([torch.mm(weight, tile.mT).mT for tile in tiles])[:rows]  # faster than tile @ weight.T
    return out.view(*x.shape[:-1], len(weight))


def each(function: Callable[[Tensor], Tensor], x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A function of single numbers, such as torch.sigmoid, the same for a number wherever it stands."""
    flat = x.reshape(-1)
    whole = torch.cat([flat, flat.new_zeros(-len(flat) % _TOGETHER)])
    return torch.cat([function(part) for part in whole.split(_TOGETHER)])[: len(flat)].view(x.shape)


class RowLinear(nn.Linear):
    """A linear map without bias; see `row_linear`."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__(d_in, d_out, bias=False)

    def forward(self, x: Float[Tensor, "*row source"]) -> Float[Tensor, "*row out"]:
        """Every row mapped by itself."""
        return row_linear(x, self.weight)


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x²) + eps)`` times a weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*row width"]) -> Float[Tensor, "*row width"]:
        """Normalised and scaled, same shape."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight
