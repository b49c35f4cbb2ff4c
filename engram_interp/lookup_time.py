"""Does a look-up take longer in a larger table? Hashing and gathering, by size of the table, in turns.

A table of 1 MB lies in a processor's caches and one of 1 GB does not, so a gather of random rows pays for the
memory hierarchy whatever the algorithm: warm reads repeat the ones just before, cold ones come after the
caches were filled with something else. What is measured holds for this machine, for host memory, and for
addresses drawn evenly: those of text repeat, which helps.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.hashing import Layout
from engram_interp.memory.index import Progress, quiet
from engram_interp.metrics.bootstrap import MIN_GROUPS, interval
from engram_interp.results.lookup_time import PARTS, STATES, LookupTime

__all__ = ["measure"]

_IDS = 100_000
_FLUSH = 64 << 20
"""Numbers written to drive what was read before out of the caches: 256 MB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    layout: Layout
    rows: Tensor

    def hash(self, ids: Int64[Tensor, "batch token"]) -> Int64[Tensor, "batch token layer column"]:
        return hashing.addresses(ids, self.layout, pad_id=0)

    def gather(self, addresses: Tensor) -> Tensor:
        return torch.nn.functional.embedding(addresses, self.rows)


def measure(
    megabytes: Sequence[float] = (1, 10, 100, 1000),
    *,
    tokens: int = 4096,
    max_order: int = 3,
    heads: int = 4,
    d_row: int = 32,
    rounds: int = 25,
    n_boot: int = 1000,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress = quiet,
) -> LookupTime:
    """Time of look-ups by size of the table, and in units of the smallest's.

    Every round visits all sizes, forwards and backwards in turn, with fresh random n-grams; a ratio is taken
    inside a round, so that what else the machine does falls on all sizes.

    Args:
        megabytes: Sizes of one layer's table, of float32 rows; the first is what others are compared with.
        tokens: Tokens looked up at a time.
        max_order: Longest n-gram.
        heads: Heads per order.
        d_row: Width of a row.
        rounds: How often each size is visited; fewer than 20 give no intervals.
        n_boot: Bootstrap samples over rounds; intervals are 95 %.
        seed: Of the n-grams and the bootstrap.
        clock: Seconds, rising.
        progress: Called with the share of rounds done.

    Returns:
        By size, state (`results.lookup_time.STATES`) and part (`PARTS`): the median microseconds a token, and
        the median ratio to the first size with its interval.

    Raises:
        InputError: If there are fewer than two sizes, or one does not hold a row a head.
    """
    columns = (max_order - 1) * heads
    budgets = [round(size * 1e6 / (4 * d_row * columns)) for size in megabytes]
    if len(budgets) < 2 or min(budgets) < 2:
        raise InputError(
            "Look-up times want two sizes or more, each of at least two rows a head; got "
            f"{list(megabytes)} MB."
        )
    tables = [_table(budget, max_order, heads, d_row) for budget in budgets]
    flush = torch.zeros(_FLUSH)
    times = np.full((rounds, len(tables), len(STATES), len(PARTS)), np.nan)
    generator = np.random.default_rng(seed)
    for table in tables:
        table.gather(table.hash(torch.arange(tokens)[None]))  # the first call pays for what is set up once
    for number in range(rounds):
        progress(number / rounds, f"round {number + 1} of {rounds}")
        order = range(len(tables)) if number % 2 else range(len(tables) - 1, -1, -1)
        for place in order:
            ids = torch.from_numpy(generator.integers(_IDS, size=(1, tokens)))
            for state in (STATES.index("cold"), STATES.index("warm")):
                if STATES[state] == "cold":
                    flush.add_(1)
                times[number, place, state] = _once(tables[place], ids, clock)
    return _result(times, tables, megabytes, tokens=tokens, n_boot=n_boot, seed=seed)


def _table(budget: int, max_order: int, heads: int, d_row: int) -> _Table:
    layout = Layout.deepseek(
        layer_ids=(0,), budget=budget, max_order=max_order, heads=heads, n_canonical=_IDS, seed=0
    )
    # Written, not only reserved: pages nobody wrote to are all one page of zeros.
    return _Table(layout=layout, rows=torch.full((int(layout.rows[0]), d_row), 0.5))


def _once(table: _Table, ids: Tensor, clock: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds of hashing, of gathering, and of both."""
    start = clock()
    addresses = table.hash(ids)
    middle = clock()
    table.gather(addresses)
    end = clock()
    return middle - start, end - middle, end - start


def _result(
    times: np.ndarray,
    tables: Sequence[_Table],
    megabytes: Sequence[float],
    *,
    tokens: int,
    n_boot: int,
    seed: int,
) -> LookupTime:
    ratios = times / times[:, :1]
    rounds = len(times)
    low, high = np.full((2, *ratios.shape[1:]), np.nan)
    if rounds >= MIN_GROUPS:
        drawn = np.random.default_rng(seed).integers(rounds, size=(n_boot, rounds))
        low, high = interval(np.median(ratios[drawn], axis=1), n_groups=rounds)
    few = f"an interval wants at least {MIN_GROUPS} rounds to resample, got {rounds}"
    return LookupTime.from_arrays(
        coords={"megabytes": list(map(float, megabytes)), "state": list(STATES), "part": list(PARTS)},
        variables={
            "microseconds": np.median(times, axis=0) * 1e6 / tokens,
            "ratio": np.median(ratios, axis=0),
            "ratio_low": low,
            "ratio_high": high,
            "rows": [int(table.layout.rows[0]) for table in tables],
        },
        provenance={
            "n_samples": rounds,
            "tokens": tokens,
            "columns": int(tables[0].layout.offsets.shape[-1]),
            "d_row": tables[0].rows.shape[1],
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "n_boot": n_boot,
            "seed": seed,
            "estimator": "median over rounds; ratios inside a round; resampled: rounds",
        },
        missing=dict.fromkeys(("ratio_low", "ratio_high"), few),
    )
