"""Tests of `engram_interp.lookup_time`: a clock that tells planted times, real look-ups, and refusals."""

from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

import pytest

from engram_interp import lookup_time
from engram_interp.errors import InputError
from engram_interp.results import LookupTime


@pytest.fixture(autouse=True)
def small_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_time, "_FLUSH", 8)


def planted(rounds: int, sizes: int) -> Callable[[], float]:
    """Hashing takes 2 s whatever the table; a cold gather 3 s in the first and twice that in the next."""

    def spans() -> Iterator[float]:
        yield 0.0
        for number in range(rounds):
            for place in range(sizes) if number % 2 else range(sizes - 1, -1, -1):
                for gather in (3.0 * 2**place, 1.0):  # cold, warm
                    yield from (2.0 * (1 + number), gather * (1 + number), 5.0)  # rounds slow down alike

    times = accumulate(spans())
    return lambda: next(times)


def test_planted_times_are_read_as_ratios_inside_a_round(tmp_path: Path) -> None:
    found = lookup_time.measure((0.1, 0.2, 0.4), tokens=1000, rounds=21, n_boot=40, clock=planted(21, 3))
    cold, warm = (found.data["ratio"].sel(state=state) for state in ("cold", "warm"))
    assert cold.sel(part="gather").values.tolist() == [1, 2, 4]
    assert cold.sel(part="hash").values.tolist() == [1, 1, 1]
    assert cold.sel(part="look-up").values.tolist() == pytest.approx([1, 8 / 5, 14 / 5])
    assert (warm == 1).all()
    ends = [found.data[f"ratio{end}"] for end in ("_low", "_high")]
    assert (ends[0] == found.data["ratio"]).all() and (ends[1] == found.data["ratio"]).all()
    middle = found.data["microseconds"].sel(state="warm", part="hash")
    assert middle.values.tolist() == pytest.approx([2 * 11 * 1e6 / 1000] * 3)
    assert LookupTime.load(found.save(tmp_path / "t.nc")).summary() == found.summary()
    assert "cold 2.80 [2.80, 2.80] (hash 1.00" in found.summary()
    assert len(found.plot().data) == 2


def test_real_look_ups_take_time_and_few_rounds_have_no_interval() -> None:
    found = lookup_time.measure((0.1, 0.2), tokens=50, rounds=2, n_boot=5)
    assert (found.data["microseconds"] > 0).all()
    assert found.data["ratio_low"].attrs["missing"].endswith("20 rounds to resample, got 2")
    assert (found.data["rows"] > 0.1e6 / 4 / 32).all()


def test_sizes_without_rows_are_refused() -> None:
    for sizes in ((1.0,), (1e-5, 1.0)):
        with pytest.raises(InputError, match="two sizes or more"):
            lookup_time.measure(sizes)
