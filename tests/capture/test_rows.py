"""Tests of `engram_interp.capture.rows`: whatever is written and however it ends, every bit is back."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_interp.capture import rows
from engram_interp.capture.memories import engram_of
from engram_interp.capture.rows import RowChange, rows_written
from engram_interp.checkpoints import SubjectModel
from engram_interp.errors import InputError
from tests import support

IDS = support.token_ids(2, 13)


def subject(n_streams: int = 1) -> SubjectModel:
    return support.subject(support.model_config(memory=support.memory_config(), n_streams=n_streams))


def tables(model: SubjectModel) -> list[torch.Tensor]:
    return [engram_of(model, layer).table.weight.clone() for layer in model.memory_layers]


@cache
def intact(n_streams: int) -> tuple[SubjectModel, list[torch.Tensor], torch.Tensor]:
    """A model, its tables and its logits before anything is written."""
    model = subject(n_streams)
    return model, tables(model), model.logits(IDS)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    depth=st.integers(1, 4),
    shared=st.booleans(),
    fails=st.one_of(st.none(), st.sampled_from([ValueError, KeyboardInterrupt, RuntimeError])),
    streams=st.sampled_from([1, 3]),
)
def test_after_any_edit_every_bit_is_back(
    seed: int, depth: int, shared: bool, fails: type[BaseException] | None, streams: int
) -> None:
    model, before, logits = intact(streams)
    generator = torch.Generator().manual_seed(seed)

    def change(layer: int) -> RowChange:
        total = len(before[model.memory_layers.index(layer)])
        rows = torch.arange(9) if shared else torch.randperm(total, generator=generator)[:9]
        size = 10.0 ** torch.randint(-8, 9, (9, 1), generator=generator)
        return RowChange(rows=rows, change=size * torch.randn(9, 5, generator=generator))

    def nested(levels: int) -> None:
        with rows_written(model, {1: change(1), 2: change(2)}):
            if levels > 1:
                nested(levels - 1)
            elif fails is not None:
                raise fails("inside")

    if fails is None:
        nested(depth)
    else:
        with pytest.raises(fails, match="inside"):
            nested(depth)
    for old, new in zip(before, tables(model), strict=True):
        assert torch.equal(old.view(torch.int32), new.view(torch.int32))
    assert torch.equal(model.logits(IDS), logits)


def test_minus_zero_and_nan_come_back_as_they_were() -> None:
    model = subject()
    table = model.module.get_parameter("blocks.1.engram.table.weight")
    table.data[3, :2] = torch.tensor([-0.0, float("nan")])
    before = table.clone()
    with rows_written(model, {1: RowChange(rows=torch.tensor([3]), change=torch.zeros(1, 5))}):
        pass
    assert torch.equal(before.view(torch.int32), table.view(torch.int32))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1)])
def test_edits_that_overlap_may_end_in_any_order(order: tuple[int, ...]) -> None:
    model = subject()
    before, generator = tables(model), torch.Generator().manual_seed(4)
    made = [
        RowChange(rows=torch.tensor(rows), change=torch.randn(3, 5, generator=generator))
        for rows in ([1, 2, 3], [3, 2, 7], [2, 8, 9])
    ]
    blocks = [rows_written(model, {1: change}) for change in made]
    for block in blocks:
        block.__enter__()
    left = list(made)
    for number in order:
        blocks[number].__exit__(None, None, None)
        left.remove(made[number])
        wanted = before[0].clone()
        for change in left:
            wanted[change.rows] += change.change
        assert torch.equal(tables(model)[0], wanted)
    assert torch.equal(before[0].view(torch.int32), tables(model)[0].view(torch.int32))


def test_one_change_written_twice_counts_twice() -> None:
    model = subject()
    before = tables(model)[0]
    change = RowChange(rows=torch.tensor([4]), change=torch.ones(1, 5))
    with rows_written(model, {1: change}):
        with rows_written(model, {1: change}):
            assert torch.equal(tables(model)[0][4], before[4] + 1 + 1)
        assert torch.equal(tables(model)[0][4], before[4] + 1)
    assert torch.equal(tables(model)[0], before)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_edit_interrupted_while_it_writes_is_undone(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, before, logits = intact(1)
    original, calls = rows._write, []

    def interrupted(table: torch.nn.Embedding, at: torch.Tensor, values: torch.Tensor) -> None:
        calls.append(at)
        if len(calls) == 1 and moment == "before":
            raise KeyboardInterrupt
        original(table, at, values)
        if len(calls) == 1:
            raise KeyboardInterrupt

    change = {1: RowChange(rows=torch.tensor([3, 8]), change=torch.ones(2, 5))}
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt), rows_written(model, change):
            raise AssertionError("the block was entered")
    assert torch.equal(tables(model)[0], before[0])
    with rows_written(model, change):
        assert not torch.equal(model.logits(IDS), logits)
    assert torch.equal(model.logits(IDS), logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.zeros(2, 3), r"wants finite numbers \[2, 5\] to add, got shape \[2, 3\]"),
        (torch.full((2, 5), torch.nan), "got shape .* with others"),
    ],
)
def test_a_change_of_another_shape_leaves_nothing_behind(change: torch.Tensor, message: str) -> None:
    model, before, _ = intact(1)
    with (
        pytest.raises(InputError, match=message),
        rows_written(model, {1: RowChange(rows=torch.tensor([3, 8]), change=change)}),
    ):
        raise AssertionError("the block was entered")
    with (
        pytest.raises(InputError, match="names a row twice"),
        rows_written(model, {1: RowChange(rows=torch.tensor([3, 3]), change=torch.ones(2, 5))}),
    ):
        raise AssertionError("the block was entered")
    with rows_written(model, {1: RowChange(rows=torch.tensor([3, 8]), change=torch.ones(2, 5))}):
        assert not torch.equal(tables(model)[0], before[0])
    assert torch.equal(tables(model)[0], before[0])
