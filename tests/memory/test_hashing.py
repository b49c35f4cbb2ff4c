"""Addresses against a slow definition in Python's own integers, and the errors of layouts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.hashing import DEAD, Layout
from tests.support import shapes_unchecked

BIG = 2**63
LAYOUT = Layout(
    primes=np.array([[[7, 11], [13, 5], [17, 3]], [[19, 23], [29, 2], [31, 37]], [[3, 5], [7, 2], [1, 11]]]),
    multipliers=np.array([[BIG - 1, 3, -5, 9], [12345678901234567, 1, 77, BIG - 25], [1, 1, 1, 1]]),
    layer_ids=(1, 4, 6),
)


def wrapped(n: int) -> int:
    """What an int64 holds after overflowing to n."""
    return (n + BIG) % (2 * BIG) - BIG


def visible(ids: Sequence[int], segments: Sequence[int] | None, at: int, lag: int) -> bool:
    """Whether the window of `at` may look `lag` back: no start, boundary or dead token on the way."""
    if at - lag < 0:
        return False
    way = range(at - lag, at + 1)
    joined = segments is None or len({segments[i] for i in way}) == 1
    return joined and all(ids[i] != DEAD for i in way)


def slow_rows(
    ids: Sequence[int], layout: Layout, *, pad_id: int, segments: Sequence[int] | None = None
) -> list[list[list[int]]]:
    """Rows `[token][layer][column]` by the definition, one head at a time, without numpy's arithmetic."""
    out = []
    for at in range(len(ids)):
        per_layer = []
        for layer in range(len(layout.primes)):
            row, offset = [], 0
            for order in range(2, layout.max_order + 1):
                mixed = 0
                for lag in range(order):
                    token = ids[at - lag] if visible(ids, segments, at, lag) else pad_id
                    mixed ^= wrapped(token * int(layout.multipliers[layer, lag]))
                for head in range(layout.heads):
                    prime = int(layout.primes[layer, order - 2, head])
                    row.append(mixed % prime + offset)
                    offset += prime
            per_layer.append(row)
        out.append(per_layer)
    return out


ANY_ID = st.one_of(st.integers(0, 50), st.integers(-BIG, BIG - 1), st.just(DEAD))


@given(data=st.data(), length=st.integers(1, 9), batch=st.integers(1, 3), pad=st.integers(-BIG, BIG - 1))
@settings(max_examples=60)
def test_addresses_equal_the_slow_definition(data: Any, length: int, batch: int, pad: int) -> None:
    rows = st.lists(st.lists(ANY_ID, min_size=length, max_size=length), min_size=batch, max_size=batch)
    ids = data.draw(rows)
    split = data.draw(
        st.none()
        | st.lists(
            st.lists(st.integers(0, 2), min_size=length, max_size=length), min_size=batch, max_size=batch
        )
    )
    got = hashing.addresses(
        torch.tensor(ids), LAYOUT, pad_id=pad, segment_ids=None if split is None else torch.tensor(split)
    )
    wanted = [
        slow_rows(row, LAYOUT, pad_id=pad, segments=None if split is None else split[i])
        for i, row in enumerate(ids)
    ]
    assert got.tolist() == wanted


@given(data=st.data())
def test_rows_stay_inside_their_heads(data: Any) -> None:
    ids = data.draw(st.lists(ANY_ID, min_size=1, max_size=12))
    rows = hashing.addresses(torch.tensor([ids]), LAYOUT, pad_id=4)[0].numpy()
    sizes = LAYOUT.primes.reshape(3, -1)
    assert (rows >= LAYOUT.offsets).all()
    assert (rows < LAYOUT.offsets + sizes).all()
    assert LAYOUT.rows.tolist() == sizes.sum(1).tolist()


def test_text_shorter_than_the_window_is_padded() -> None:
    one = hashing.addresses(torch.tensor([[9]]), LAYOUT, pad_id=4)
    same = hashing.addresses(torch.tensor([[4, 4, 4, 9]]), LAYOUT, pad_id=4)[:, 3:]
    assert one.equal(same)


def test_a_dead_token_reads_the_window_of_padding_and_blocks_the_view_back() -> None:
    rows = hashing.addresses(torch.tensor([[8, DEAD, 9, 6]]), LAYOUT, pad_id=4)[0]
    padding = hashing.addresses(torch.tensor([[4]]), LAYOUT, pad_id=4)[0, 0]
    assert rows[1].equal(padding)
    assert rows[2:].equal(hashing.addresses(torch.tensor([[9, 6]]), LAYOUT, pad_id=4)[0])


def test_a_longer_text_never_changes_earlier_rows() -> None:
    ids = torch.randint(0, 99, (2, 17))
    long = hashing.addresses(ids, LAYOUT, pad_id=0)
    for length in (1, 2, 3, 4, 16):
        assert hashing.addresses(ids[:, :length], LAYOUT, pad_id=0).equal(long[:, :length])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_the_same_rows_from_any_integer_type_and_from_numpy(dtype: torch.dtype) -> None:
    ids = torch.randint(0, 99, (2, 5))
    wanted = hashing.addresses(ids, LAYOUT, pad_id=3)
    assert hashing.addresses(ids.to(dtype), LAYOUT, pad_id=3).equal(wanted)
    assert hashing.addresses(ids.to(dtype).numpy(), LAYOUT, pad_id=3).equal(wanted)


def test_the_result_lies_where_the_ids_lie() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ids = torch.randint(-BIG, BIG - 1, (2, 9))
    segments = torch.zeros(2, 9, dtype=torch.int64)  # on the CPU whatever the ids' device
    there = hashing.addresses(ids.to(device), LAYOUT, pad_id=3, segment_ids=segments)
    assert there.device.type == device
    assert there.cpu().equal(hashing.addresses(ids, LAYOUT, pad_id=3))
    meta = hashing.addresses(ids.to("meta"), LAYOUT, pad_id=3)
    assert meta.shape == there.shape
    assert meta.device.type == "meta"


@pytest.mark.parametrize("ids", [torch.arange(5), torch.zeros(1, 5), torch.zeros(1, 2, 3, dtype=torch.int64)])
def test_ids_of_the_wrong_kind_are_refused(ids: torch.Tensor) -> None:
    with (
        shapes_unchecked(),
        pytest.raises(InputError, match=r"wants integer .*\[batch, token\].*ids\[None\]"),
    ):
        hashing.addresses(ids, LAYOUT, pad_id=0)


@pytest.mark.parametrize(
    ("boundary", "wanted"),
    [
        ("none", None),
        ("separator_starts", [[0, 1, 1, 2, 3, 3]]),
        ("separator_ends", [[0, 0, 1, 1, 2, 3]]),
    ],
)
def test_segments_end_before_or_after_the_separator(boundary: Any, wanted: Any) -> None:
    tokens = torch.tensor([[5, 9, 5, 9, 9, 5]])
    found = hashing.segments(tokens, separator_id=9, boundary=boundary)
    assert (None if found is None else found.tolist()) == wanted
    assert hashing.segments(tokens, separator_id=None, boundary=boundary) is None


def test_deepseek_layout_takes_the_next_free_primes_of_every_order() -> None:
    layout = Layout.deepseek(layer_ids=(2, 5), budget=(10, 20), max_order=3, heads=3, n_canonical=100, seed=7)
    assert layout.primes.tolist() == [[[11, 13, 17], [23, 29, 31]], [[19, 37, 41], [43, 47, 53]]]
    assert layout.offsets.tolist() == [[0, 11, 24, 41, 64, 93], [0, 19, 56, 97, 140, 187]]
    assert layout.rows.tolist() == [124, 240]
    assert (layout.columns, layout.heads, layout.max_order) == (6, 3, 3)
    for row, layer in enumerate((2, 5)):
        drawn = np.random.default_rng(7 + 10_007 * layer).integers(0, (BIG - 1) // 100 // 2, size=3)
        assert layout.multipliers[row].tolist() == (2 * drawn + 1).tolist()
    again = Layout.deepseek(layer_ids=(5,), budget=(10, 20), max_order=3, heads=3, n_canonical=100, seed=7)
    assert again.multipliers[0].tolist() == layout.multipliers[1].tolist()


def test_demo_sized_layout_has_its_published_rows() -> None:
    layout = Layout.deepseek(
        layer_ids=(1, 15), budget=129_280 * 5, max_order=3, heads=8, n_canonical=99_092, seed=0
    )
    assert layout.rows.tolist() == [10_344_164, 10_348_242]
    assert layout.primes[0, 0, :3].tolist() == [646_403, 646_411, 646_421]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": (10, 20, 30)}, "Orders 2 to 3 want 2 budgets and at least one head, got 3"),
        ({"heads": 0}, "got 2 budgets and 0 heads"),
        ({"max_order": 1}, "Orders 2 to 1 want 1 budgets"),
        ({"n_canonical": 0}, "at least one canonical id, got n_canonical=0"),
    ],
)
def test_deepseek_layout_refuses_numbers_that_disagree(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"budget": 10, "max_order": 3, "heads": 2, "n_canonical": 9}
    with pytest.raises(InputError, match=message):
        Layout.deepseek(layer_ids=(0,), **values | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"primes": np.ones((2, 3))}, r"wants primes \[layer, order, head\].*got shapes \(2, 3\)"),
        ({"multipliers": np.ones((3, 4))}, "for the same layers"),
        ({"multipliers": np.ones((2, 2))}, "at least 3 multipliers a layer, got .* 2 multipliers"),
        ({"layer_ids": (1, 2, 3)}, r"as many layer ids.*\(1, 2, 3\)"),
        ({"primes": np.zeros((2, 2, 2))}, "at least one row"),
    ],
)
def test_layouts_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"primes": np.full((2, 2, 2), 5), "multipliers": np.ones((2, 3))}
    with shapes_unchecked(), pytest.raises(InputError, match=message):
        Layout(**values | changes)


def test_numpys_integers_are_budgets_too() -> None:
    values: dict[str, Any] = {"layer_ids": (2, 5), "max_order": 3, "heads": 2, "n_canonical": 100}
    plain = Layout.deepseek(budget=100, **values)
    numpys: Any = np.int64(100)
    with shapes_unchecked():
        one = Layout.deepseek(budget=numpys, **values)
        several = Layout.deepseek(budget=[numpys, numpys], **values)
    for other in (one, several):
        assert other.primes.tolist() == plain.primes.tolist()
        assert other.multipliers.tolist() == plain.multipliers.tolist()


def test_segment_ids_of_another_shape_are_refused() -> None:
    ids = torch.zeros(2, 5, dtype=torch.int64)
    for segment_ids in (torch.zeros(5, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.int64)):
        with (
            shapes_unchecked(),
            pytest.raises(InputError, match=r"shape \(2, 5\), got \(.*\); .* with segment_ids\[None\]"),
        ):
            hashing.addresses(ids, LAYOUT, pad_id=0, segment_ids=segment_ids)


def test_read_only_arrays_are_taken_without_a_warning() -> None:
    """Warnings are errors in this suite."""
    ids, segment_ids = np.arange(10).reshape(2, 5), np.zeros((2, 5), np.int64)
    wanted = hashing.addresses(ids, LAYOUT, pad_id=3, segment_ids=segment_ids)
    layout = Layout(
        primes=LAYOUT.primes.copy(), multipliers=LAYOUT.multipliers.copy(), layer_ids=LAYOUT.layer_ids
    )
    for array in (ids, segment_ids, layout.primes, layout.multipliers):
        array.flags.writeable = False
    assert hashing.addresses(ids, layout, pad_id=3, segment_ids=segment_ids).equal(wanted)
