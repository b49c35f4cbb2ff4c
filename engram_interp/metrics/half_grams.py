"""Symmetric matrices of several layers, kept by half, and the sums of products of all their pairs.

`PARTS` blocks on the diagonal are kept whole, and of every pair of blocks beside it one, which counts
twice. That is 9/16 of the operations, of the memory and of the work of the sums. What is kept is a list
of levels [layer, batch, block, row, column]: the `PARTS` blocks on the diagonal, then beside it PARTS/2 of
the same size, PARTS/4 twice as large, … and a single one. Each level of a layer is one piece of memory, so
that one batched product writes it in place, for all batches. A list of one level is a whole matrix, symmetric
or not.

The sums of all pairs of layers are matrix products of flattened levels [layer, entry] × [entry,
baseline_layer], in chunks of 2,048 entries whose results are added in float64.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CHUNK = 2048

# Blocks along the diagonal; a power of two. More would mean fewer operations in smaller products.
PARTS = 8


def level_shapes(n_layers: int, n_batches: int, size: int) -> list[tuple[int, ...]]:
    """Shapes of the levels of symmetric matrices of `size` rows, filled up to a multiple of PARTS."""
    side, count = -(-size // PARTS), PARTS // 2
    shapes: list[tuple[int, ...]] = [(n_layers, n_batches, PARTS, side, side)]
    while count:
        shapes.append((n_layers, n_batches, count, side, side))
        side, count = 2 * side, count // 2
    return shapes


def of_layer(levels: Sequence[Tensor], layer: int) -> list[Tensor]:
    """One layer's levels [batch, block, row, column]; shares their memory."""
    return [level[layer] for level in levels]


def write(rows: Tensor, *, out: Sequence[Tensor]) -> None:
    """Write XXᵀ of one layer's batches [batch, row, d] into its levels.

    Their rows are a multiple of PARTS (`filled`), and one batch follows the other in memory.
    """
    (_, row, column), start, width = rows.stride(), rows.storage_offset(), rows.shape[2]
    # By strides a view is one call; unflatten, select and mT would take a tenth of all the time.
    for number, level in enumerate(out):
        blocks = level.flatten(0, 1)
        count, side, _ = blocks.shape
        apart, second = (side, 0) if number == 0 else (2 * side, side)
        left = rows.as_strided((count, side, width), (apart * row, row, column), start)
        right = rows.as_strided((count, width, side), (apart * row, column, row), start + second * row)
        torch.bmm(left, right, out=blocks)


def filled(rows: Tensor) -> Tensor:
    """[batch, row, d] with rows of zeros up to a multiple of PARTS."""
    missing = -rows.shape[1] % PARTS
    return torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows


def pack(matrix: Tensor, *, out: Sequence[Tensor]) -> None:
    """Write a symmetric matrix [row, row] into levels [block, row, column] of one layer and batch."""
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
    """A view of the entries on the diagonal [layer, batch, block, row]."""
    return levels[0].diagonal(dim1=3, dim2=4)


def row_sums(levels: Sequence[Tensor], size: int) -> Tensor:
    """Row sums of symmetric matrices, float64 [layer, batch, row]."""
    diagonal, *beside = levels
    total = diagonal.sum(4).flatten(2).double()
    for level in beside:
        total += torch.stack([level.sum(4), level.sum(3)], dim=3).flatten(2)
    return total[:, :, :size]


def square_sums(levels: Sequence[Tensor]) -> Tensor:
    """Sum of squared entries, float64 [layer, batch]; within a chunk in the entries' own type."""
    parts = []
    for number, level in enumerate(levels):
        norms = [torch.linalg.vector_norm(chunk, dim=3) for chunk in _chunks(level)]
        parts.append(_times(number) * torch.cat(norms, dim=2).double().square().sum(2))
    return torch.stack(parts).sum(0)


def products(levels: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Sum of products of entries for every pair of layers, float64 [batch, layer, baseline_layer]."""
    parts = []
    for number, pair in enumerate(zip(levels, others, strict=True)):
        for left, right in zip(*map(_chunks, pair), strict=True):
            a, b = left.flatten(1, 2).transpose(0, 1), right.flatten(1, 2).permute(1, 2, 0)
            chunks = torch.bmm(a, b).unflatten(0, left.shape[1:3])
            parts.append(_times(number) * chunks.sum(1, dtype=torch.float64))
    return torch.stack(parts).sum(0)


def _times(number: int) -> int:
    """How often the entries of a level stand in the whole matrix."""
    return 1 if number == 0 else 2


def _chunks(level: Tensor) -> Iterator[Tensor]:
    """A level as [layer, batch, chunk, entry]: the full chunks, then the rest as one."""
    flat = level.flatten(2)
    full = flat.shape[2] - flat.shape[2] % CHUNK
    if full:
        yield flat[:, :, :full].unflatten(2, (-1, CHUNK))
    if full < flat.shape[2]:
        yield flat[:, :, full:].unsqueeze(2)
