"""Symmetric matrices of several layers, kept by half, and the sums of products of all their pairs.

`PARTS` blocks on the diagonal are kept whole, and of every pair of blocks beside it one, which counts
twice. That is 9/16 of the operations, of the memory and of the work of the sums. What is kept is a list
of levels [layer, block, row, column]: the `PARTS` blocks on the diagonal, then beside it PARTS/2 of the
same size, PARTS/4 twice as large, … and a single one. Each level is one piece of memory, so that a batched
product writes it in place. A list of one level is a whole matrix, symmetric or not.

The sums of all pairs of layers are matrix products of flattened levels [layer, entry] × [entry,
baseline_layer], in chunks of 2,048 entries whose results are added in float64.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CHUNK = 2048

# Blocks along the diagonal; a power of two. More would mean fewer operations in smaller products.
PARTS = 8


def level_shapes(n_layers: int, size: int) -> list[tuple[int, ...]]:
    """Shapes of the levels of symmetric matrices of `size` rows, filled up to a multiple of PARTS."""
    side, count = -(-size // PARTS), PARTS // 2
    shapes: list[tuple[int, ...]] = [(n_layers, PARTS, side, side)]
    while count:
        shapes.append((n_layers, count, side, side))
        side, count = 2 * side, count // 2
    return shapes


def write(stack: Tensor, *, out: Sequence[Tensor]) -> None:
    """Write XXᵀ of layers [layer, row, d] into the levels `out`.

    Their rows are a multiple of PARTS (`filled`).
    """
    diagonal, *levels = out
    pieces = stack.unflatten(1, (PARTS, -1)).flatten(0, 1)
    torch.bmm(pieces, pieces.mT, out=diagonal.flatten(0, 1))
    for level in levels:
        pieces = stack.unflatten(1, (level.shape[1], 2, -1)).flatten(0, 1)
        torch.bmm(pieces[:, 0], pieces[:, 1].mT, out=level.flatten(0, 1))


def filled(stack: Tensor) -> Tensor:
    """[layer, row, d] with rows of zeros up to a multiple of PARTS."""
    missing = -stack.shape[1] % PARTS
    return torch.nn.functional.pad(stack, (0, 0, 0, missing)) if missing else stack


def pack(matrix: Tensor, *, out: Sequence[Tensor]) -> None:
    """Write a symmetric matrix [row, row] into levels [block, row, column] of one layer."""
    missing = -len(matrix) % PARTS
    matrix = torch.nn.functional.pad(matrix, (0, missing, 0, missing))
    diagonal, *levels = out
    tiles = matrix.unflatten(1, (PARTS, -1)).unflatten(0, (PARTS, -1))
    diagonal.copy_(tiles.diagonal(dim1=0, dim2=2).permute(2, 0, 1))
    for level in levels:
        parts = 2 * len(level)
        tiles = matrix.unflatten(1, (parts, -1)).unflatten(0, (parts, -1))[::2, :, 1::2]
        level.copy_(tiles.diagonal(dim1=0, dim2=2).permute(2, 0, 1))


def diagonals(levels: Sequence[Tensor]) -> Tensor:
    """A view of the entries on the diagonal [layer, block, row]."""
    return levels[0].diagonal(dim1=2, dim2=3)


def row_sums(levels: Sequence[Tensor], size: int) -> Tensor:
    """Row sums of symmetric matrices, float64 [layer, row]."""
    diagonal, *beside = levels
    total = diagonal.sum(3).flatten(1).double()
    for level in beside:
        total += torch.stack([level.sum(3), level.sum(2)], dim=2).flatten(1)
    return total[:, :size]


def square_sums(levels: Sequence[Tensor]) -> Tensor:
    """Sum of squared entries per layer, float64 [layer]; within a chunk in the entries' own type."""
    parts = []
    for number, level in enumerate(levels):
        norms = [torch.linalg.vector_norm(chunk, dim=2) for chunk in _chunks(level)]
        parts.append(_times(number) * torch.cat(norms, dim=1).double().square().sum(1))
    return torch.stack(parts).sum(0)


def products(levels: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Sum of products of entries for every pair of layers, float64 [layer, baseline_layer]."""
    parts = []
    for number, pair in enumerate(zip(levels, others, strict=True)):
        for left, right in zip(*map(_chunks, pair), strict=True):
            chunks = torch.bmm(left.transpose(0, 1), right.permute(1, 2, 0))
            parts.append(_times(number) * chunks.sum(0, dtype=torch.float64))
    return torch.stack(parts).sum(0)


def _times(number: int) -> int:
    """How often the entries of a level stand in the whole matrix."""
    return 1 if number == 0 else 2


def _chunks(level: Tensor) -> Iterator[Tensor]:
    """A level as [layer, chunk, entry]: the full chunks, then the rest as one."""
    flat = level.flatten(1)
    full = flat.shape[1] - flat.shape[1] % CHUNK
    if full:
        yield flat[:, :full].unflatten(1, (-1, CHUNK))
    if full < flat.shape[1]:
        yield flat[:, full:].unsqueeze(1)
