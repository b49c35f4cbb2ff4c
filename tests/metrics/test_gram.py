"""Tests of `engram_interp.metrics.gram`: known values, slow definitions, error texts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics import gram


def whole(grams: gram.Grams, layer: int, size: int, *, batch: int = 0) -> Tensor:
    """The whole Gram of one layer without its diagonal, put together from the half that is kept."""
    diagonal, *levels = (level[layer, batch].double() for level in grams.levels)
    found = torch.block_diag(*diagonal)
    for level in levels:
        side = level.shape[1]
        for number, block in enumerate(level):
            rows = slice(2 * number * side, (2 * number + 1) * side)
            columns = slice(rows.stop, rows.stop + side)
            found[rows, columns] = block
            found[columns, rows] = block.T
    assert not found[size:].any()
    kept: Tensor = found[:size, :size] * 4.0 ** int(grams.exponents[layer, batch])
    return kept


def grams_of(layers: list[Tensor], dtype: torch.dtype = torch.float32, *, n_batches: int = 1) -> gram.Grams:
    size, names = len(layers[0]), [f"xs[{layer}]" for layer in range(len(layers))]
    return gram.batch_grams(
        layers,
        n_batches=n_batches,
        names=names,
        samples=range(size),
        dtype=dtype,
        workspace=gram.Workspace(),
    )


def u_centred(k: Tensor) -> Tensor:
    k = k.clone().fill_diagonal_(0)
    size, sums = len(k), k.sum(1)
    k = k - (sums[:, None] + sums) / (size - 2) + sums.sum() / ((size - 1) * (size - 2))
    return k.fill_diagonal_(0)


@pytest.mark.parametrize("size", [4, 7, 16, 50, 67])  # from 50 on more than one chunk, the last of it padded
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grams_are_whole_and_their_squares_u_centred(size: int, dtype: torch.dtype) -> None:
    layers = [torch.randn(size, width) + 3 for width in (3, 8)]
    found = grams_of(layers, dtype)
    for number, layer in enumerate(layers):
        centred = layer.double() - layer.double().mean(0)
        wanted = u_centred(centred @ centred.T)
        kept = whole(found, number, size)
        torch.testing.assert_close(u_centred(kept), wanted, rtol=1e-4, atol=1e-4)
        assert found.squares[number, 0] == pytest.approx(float(wanted.square().sum()), rel=1e-4)
        torch.testing.assert_close(found.sums[number, 0], kept.sum(1), rtol=1e-4, atol=1e-4)


def test_pair_traces_are_sums_of_products() -> None:
    xs, ys = [torch.randn(60, 5), 1e20 * torch.randn(60, 2)], [torch.randn(60, 3)]
    left, right = grams_of(xs), grams_of(ys)
    found = gram.pair_traces(left, right)
    assert found.shape == (1, 2, 1)
    for layer in range(2):
        wanted = (u_centred(whole(left, layer, 60)) * u_centred(whole(right, 0, 60))).sum()
        assert found[0, layer, 0] == pytest.approx(float(wanted), rel=1e-4)


def test_ordinary_data_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[str] = []
    original = gram._write_gram_slowly

    def spy(rows: Tensor, name: str, samples: range, *, out: list[Tensor]) -> int:
        slow.append(name)
        return original(rows, name, samples, out=out)

    monkeypatch.setattr(gram, "_write_gram_slowly", spy)
    x = torch.randn(64, 300)
    one_row, one_feature = x.clone(), x.clone()
    one_row[9] *= 1e4
    one_feature[:, 4] *= 1e3
    layers = [x, x + 100, x + 1e4, one_feature, one_row, x * 1e-9, torch.full((64, 2), 0.1)]
    grams_of(layers)
    assert slow == ["xs[4]", "xs[5]", "xs[6]"]


def test_a_value_that_is_not_finite_is_named_by_the_callers_number() -> None:
    x = torch.randn(8, 3)
    x[5, 1] = torch.inf
    with pytest.raises(InputError, match=r"ys\[1\] holds infinity at sample 250 \(1 such samples among 8"):
        gram.batch_grams(
            [torch.randn(8, 2), x],
            n_batches=1,
            names=["ys[0]", "ys[1]"],
            samples=np.arange(0, 400, 50),
            dtype=torch.float32,
            workspace=gram.Workspace(),
        )


def test_batches_at_once_are_what_they_are_one_by_one() -> None:
    tall, flat, odd = torch.randn(3 * 30, 40), torch.randn(3 * 30, 6) + 50, torch.randn(3 * 30, 7)
    odd[37] *= 1e5  # the second batch alone wants float64
    layers = [tall, flat, odd]
    several = grams_of(layers, n_batches=3)
    traces = gram.pair_traces(several, several)
    assert traces.shape == (3, 3, 3)
    for batch in range(3):
        alone = grams_of([rows[30 * batch : 30 * (batch + 1)] for rows in layers])
        np.testing.assert_allclose(traces[batch], gram.pair_traces(alone, alone)[0], rtol=1e-5)
        np.testing.assert_allclose(several.squares[:, batch], alone.squares[:, 0], rtol=1e-5)
        centred = flat[30 * batch : 30 * (batch + 1)].double()
        centred -= centred.mean(0)
        wanted = float(u_centred(centred @ centred.T).square().sum())
        assert several.squares[1, batch] == pytest.approx(wanted, rel=1e-5)


def test_only_a_far_mean_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []
    original = gram._centred

    def spy(rows: Tensor, like: Tensor, workspace: gram.Workspace) -> Tensor:
        taken.append(float(rows.mean()))
        return original(rows, like, workspace)

    monkeypatch.setattr(gram, "_centred", spy)
    near, far = torch.randn(64, 300), torch.randn(64, 300) + 2
    # Its rows cancel in the few that are looked at, so that only what is lost tells.
    hidden = torch.full((64, 300), 9.0) + torch.randn(64, 300)
    hidden[:: 2 * (64 // 8)] *= -1
    grams_of([near, far])
    assert len(taken) == 1 and taken[0] == pytest.approx(2, abs=0.1)
    found = grams_of([hidden])
    assert len(taken) == 2
    rows = hidden.double() - hidden.double().mean(0)
    assert found.squares[0, 0] == pytest.approx(float(u_centred(rows @ rows.T).square().sum()), rel=1e-5)


def test_a_part_of_the_layers_is_what_they_are_alone() -> None:
    layers = [torch.randn(20, width) for width in (3, 8, 5)]
    part, alone = grams_of(layers).part(slice(1, 3)), grams_of(layers[1:])
    np.testing.assert_allclose(gram.pair_traces(part, part), gram.pair_traces(alone, alone))
    np.testing.assert_allclose(part.squares, alone.squares)


def test_a_workspace_is_used_again_for_equal_shapes_alone() -> None:
    room = gram.Workspace()
    like = torch.empty(0, dtype=torch.float64)
    shapes = [(2, 8, 3, 3), (2, 4, 3, 3)]
    first = room.room(shapes, like=like)
    assert [tuple(level.shape) for level in first] == shapes
    again = room.room(shapes, like=like)
    assert [level.data_ptr() for level in again] == [level.data_ptr() for level in first]
    assert room.room(shapes, like=like.float())[0].dtype == torch.float32
    assert [level.shape[0] for level in room.room([(3, 9, 1, 1)], like=like)] == [3]
