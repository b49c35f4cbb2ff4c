"""Tests of `engram_interp.metrics.gram`: known values, slow definitions, error texts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics import gram


def flat(grams: gram.FlatGrams, layer: int, size: int) -> Tensor:
    """The whole Gram of one layer without its diagonal, put together from the half that is kept."""
    kept = grams.entries.flatten(1)[layer].double()
    assert not kept[gram.n_entries(size) :].any()
    diagonal, *levels = gram.blocks(kept[: gram.n_entries(size)])
    whole = torch.block_diag(*diagonal)
    for level in levels:
        side = level.shape[1]
        for number, block in enumerate(level):
            rows = slice(2 * number * side, (2 * number + 1) * side)
            columns = slice(rows.stop, rows.stop + side)
            whole[rows, columns] = block / 2**0.5
            whole[columns, rows] = block.T / 2**0.5
    assert not whole[size:].any()
    found: Tensor = whole[:size, :size] * 4.0 ** int(grams.exponents[layer])
    return found


def u_centred(k: Tensor) -> Tensor:
    k = k.clone().fill_diagonal_(0)
    size, sums = len(k), k.sum(1)
    k = k - (sums[:, None] + sums) / (size - 2) + sums.sum() / ((size - 1) * (size - 2))
    return k.fill_diagonal_(0)


@pytest.mark.parametrize("size", [4, 7, 16, 50, 67])  # from 50 on more than one chunk, the last of it padded
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grams_are_whole_and_their_squares_u_centred(size: int, dtype: torch.dtype) -> None:
    layers = [torch.randn(size, width) + 3 for width in (3, 8)]
    found = gram.batch_grams(layers, side="xs", samples=range(size), dtype=dtype, workspace=gram.Workspace())
    for number, layer in enumerate(layers):
        centred = layer.double() - layer.double().mean(0)
        wanted = u_centred(centred @ centred.T)
        whole = flat(found, number, size)
        torch.testing.assert_close(u_centred(whole), wanted, rtol=1e-4, atol=1e-4)
        assert found.squares[number] == pytest.approx(float(wanted.square().sum()), rel=1e-4)
        torch.testing.assert_close(found.sums[number], whole.sum(1), rtol=1e-4, atol=1e-4)


def test_pair_traces_are_sums_of_products() -> None:
    rows = range(60)
    xs, ys = [torch.randn(60, 5), 1e20 * torch.randn(60, 2)], [torch.randn(60, 3)]
    left = gram.batch_grams(xs, side="xs", samples=rows, dtype=torch.float32, workspace=gram.Workspace())
    right = gram.batch_grams(ys, side="ys", samples=rows, dtype=torch.float32, workspace=gram.Workspace())
    found = gram.pair_traces(left, right)
    assert found.shape == (2, 1)
    for layer in range(2):
        wanted = (u_centred(flat(left, layer, 60)) * u_centred(flat(right, 0, 60))).sum()
        assert found[layer, 0] == pytest.approx(float(wanted), rel=1e-4)


def test_ordinary_data_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[str] = []
    original = gram._write_gram_slowly

    def spy(rows: Tensor, name: str, samples: range, *, out: Tensor) -> int:
        slow.append(name)
        return original(rows, name, samples, out=out)

    monkeypatch.setattr(gram, "_write_gram_slowly", spy)
    x = torch.randn(64, 300)
    one_row, one_feature = x.clone(), x.clone()
    one_row[9] *= 1e4
    one_feature[:, 4] *= 1e3
    layers = [x, x + 100, x + 1e4, one_feature, one_row, x * 1e-9, torch.full((64, 2), 0.1)]
    gram.batch_grams(layers, side="xs", samples=range(64), dtype=torch.float32, workspace=gram.Workspace())
    assert slow == ["xs[4]", "xs[5]", "xs[6]"]


def test_a_value_that_is_not_finite_is_named_by_the_callers_number() -> None:
    x = torch.randn(8, 3)
    x[5, 1] = torch.inf
    with pytest.raises(InputError, match=r"ys\[1\] holds infinity at sample 250 \(1 such samples among 8"):
        gram.batch_grams(
            [torch.randn(8, 2), x],
            side="ys",
            samples=np.arange(0, 400, 50),
            dtype=torch.float32,
            workspace=gram.Workspace(),
        )


def test_a_workspace_is_used_again_and_cleared_behind_smaller_batches() -> None:
    room = gram.Workspace()
    like = torch.empty(0, dtype=torch.float64)
    first = room.room(2, 3000, like=like)
    assert first.shape == (2, 2, gram.CHUNK)
    first.fill_(7)
    again = room.room(2, 2500, like=like)
    assert again.data_ptr() == first.data_ptr()
    np.testing.assert_array_equal(again.flatten(1).sum(1), 7 * 2500)
    assert room.room(2, 2500, like=like.float()).dtype == torch.float32
    assert room.room(3, 9, like=like).shape == (3, 1, 9)
