"""Tests of `engram_interp.metrics.half_grams`: what is levels of a symmetric matrix stands for all of it."""

import pytest
import torch
from torch import Tensor

from engram_interp.metrics import half_grams

SIZES = [4, 7, 16, 50, 150, 520]  # at 150 a level is longer than a chunk, with a rest


def symmetric(n_layers: int, size: int) -> Tensor:
    half = torch.randn(n_layers, 2, size, size, dtype=torch.float64)
    return half + half.mT


def packed(matrices: Tensor) -> list[Tensor]:
    shapes = half_grams.level_shapes(len(matrices), 2, matrices.shape[-1])
    levels = [torch.full(shape, torch.nan, dtype=matrices.dtype) for shape in shapes]
    for layer, batches in enumerate(matrices):
        for batch, matrix in enumerate(batches):
            half_grams.pack(matrix, out=[level[batch] for level in half_grams.of_layer(levels, layer)])
    return levels


@pytest.mark.parametrize("size", SIZES)
def test_sums_over_the_half_are_sums_over_the_whole(size: int) -> None:
    left, right = symmetric(3, size), symmetric(2, size)
    levels, others = packed(left), packed(right)
    wanted = torch.einsum("acij,bcij->cab", left, right)
    torch.testing.assert_close(half_grams.products(levels, others), wanted)
    torch.testing.assert_close(half_grams.square_sums(levels), left.square().sum((2, 3)))
    torch.testing.assert_close(half_grams.row_sums(levels, size), left.sum(3))
    diagonal = half_grams.diagonals(levels).flatten(2)[:, :, :size]
    torch.testing.assert_close(diagonal, left.diagonal(dim1=2, dim2=3))


@pytest.mark.parametrize("size", SIZES)
def test_written_products_are_the_packed_ones(size: int) -> None:
    stack = torch.randn(3, 2, size, 5, dtype=torch.float64)
    levels = [torch.empty(shape, dtype=stack.dtype) for shape in half_grams.level_shapes(3, 2, size)]
    for number, rows in enumerate(stack):
        half_grams.write(half_grams.filled(rows), out=half_grams.of_layer(levels, number))
    for found, wanted in zip(levels, packed(stack @ stack.mT), strict=True):
        torch.testing.assert_close(found, wanted)


def test_one_level_is_a_whole_matrix() -> None:
    left, right = torch.randn(3, 2, 60, 70), torch.randn(2, 2, 60, 70)
    wanted = torch.einsum("acij,bcij->cab", left.double(), right.double())
    torch.testing.assert_close(half_grams.products([left], [right]), wanted, rtol=1e-4, atol=1e-3)
