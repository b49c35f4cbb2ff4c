"""Symmetric matrices of several layers, kept by half, and the sums of products of all their pairs.

P blocks on the diagonal are kept whole (`parts`), and of every pair of blocks beside it one, which counts
twice. With 8 that is 9/16 of the operations, of the memory and of the work of the sums. What is kept is a
list of levels [layer, batch, block, row, column]: the P blocks on the diagonal, then beside it P/2 of the
same size, P/4 twice as large, … and a single one. Each level of a layer is one piece of memory, so
that one batched product writes it in place, for all batches. A list of one level is a whole matrix, symmetric
or not.

The sums of all pairs of layers are matrix products of flattened levels [layer, entry] × [entry,
baseline_layer], in chunks of 2,048 entries whose results are added in float64.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CHUNK = 2048

# Rows of a block on the diagonal, where there are so many. Fewer mean fewer operations, in smaller products.
_ROWS = 32
_FEWEST_PARTS = 8


def parts(size: int) -> int:
    """Blocks along the diagonal of a matrix of `size` rows, a power of two."""
    count = _FEWEST_PARTS
    while 2 * count * _ROWS <= size:
        count *= 2
    return count


def missing(size: int) -> int:
    """Rows that `size` lacks to a multiple of its parts."""
    return -size % parts(size)


def level_shapes(n_layers: int, n_batches: int, size: int) -> list[tuple[int, ...]]:
    """Shapes of the levels of symmetric matrices of `size` rows, filled up to a multiple of their parts."""
    side, count = -(-size // parts(size)), parts(size) // 2
    shapes: list[tuple[int, ...]] = [(n_layers, n_batches, parts(size), side, side)]
    while count:
        shapes.append((n_layers, n_batches, count, side, side))
        side, count = 2 * side, count // 2
    return shapes


def of_layer(levels: Sequence[Tensor], layer: int) -> list[Tensor]:
    """One layer's levels [batch, block, row, column]; shares their memory."""
    return [level[layer] for level in levels]


def write(rows: Tensor, *, out: Sequence[Tensor]) -> None:
    """Write XXᵀ of one layer's batches [batch, row, d] into its levels.

    Their rows are a multiple of their parts (`filled`), and one batch follows the other in memory.
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
    """[batch, row, d] with rows of zeros up to a multiple of their parts."""
    more = missing(rows.shape[1])
    return torch.nn.functional.pad(rows, (0, 0, 0, more)) if more else rows


def pack(matrix: Tensor, *, out: Sequence[Tensor]) -> None:
    """Write a symmetric matrix [row, row] into levels [block, row, column] of one layer and batch."""
    more = missing(len(matrix))
    matrix = torch.nn.functional.pad(matrix, (0, more, 0, more))
    diagonal, *levels = out
    tiles = matrix.unflatten(1, (len(diagonal), -1)).unflatten(0, (len(diagonal), -1))
    diagonal.copy_(tiles.diagonal(dim1=0, dim2=2).permute(2, 0, 1))
    for level in levels:
        count = 2 * len(level)
        tiles = matrix.unflatten(1, (count, -1)).unflatten(0, (count, -1))[::2, :, 1::2]
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
    sums = []
    for number, level in enumerate(levels):
        norms = [torch.linalg.vector_norm(chunk, dim=3) for chunk in _chunks(level)]
        sums.append(_times(number) * torch.cat(norms, dim=2).double().square().sum(2))
    return torch.stack(sums).sum(0)


def products(levels: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Sum of products of entries for every pair of layers, float64 [batch, layer, baseline_layer]."""
    sums = []
    for number, pair in enumerate(zip(levels, others, strict=True)):
        for left, right in zip(*map(_chunks, pair), strict=True):
            a, b = left.flatten(1, 2).transpose(0, 1), right.flatten(1, 2).permute(1, 2, 0)
            chunks = torch.bmm(a, b).unflatten(0, left.shape[1:3])
            sums.append(_times(number) * chunks.sum(1, dtype=torch.float64))
    return torch.stack(sums).sum(0)


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
