"""Timing two things in turn on a machine that is never quiet, and memory in a process of its own."""

import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How long one thing takes in units of another.

    Attributes:
        median: median over pairs of first / second.
        low: smallest ratio of a pair.
        high: largest ratio of a pair.
        first: median seconds of the first.
        second: median seconds of the second.
    """

    median: float
    low: float
    high: float
    first: float
    second: float

    def __str__(self) -> str:
        return (
            f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f}; "
            f"{self.first * 1e3:.0f} ms against {self.second * 1e3:.0f} ms)"
        )


def paired(first: Callable[[], object], second: Callable[[], object], repeats: int = 5) -> Ratio:
    """Time both in turn, changing who goes first, after one untimed call of each.

    Args:
        first: what is measured.
        second: what it is measured against.
        repeats: how many pairs.

    Returns:
        The median of the pairs' ratios, their spread, and both medians.
    """
    first()
    second()
    pairs = []
    for number in range(repeats):
        if number % 2:
            later = seconds(second)
            pairs.append((seconds(first), later))
        else:
            pairs.append((seconds(first), seconds(second)))
    ratios = [a / b for a, b in pairs]
    return Ratio(
        median=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        first=statistics.median(a for a, _ in pairs),
        second=statistics.median(b for _, b in pairs),
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def max_rss() -> int:
    """The most memory this process has held so far, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage also counts what the parent held before exec
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory(code: str, *arguments: object) -> int:
    """Bytes that `run(inputs)` needs above its inputs, in a fresh process.

    Args:
        code: Python that defines `prepare(*arguments)`, which returns the inputs, and `run(inputs)`.
        arguments: handed to `prepare` as text.

    Returns:
        The process's peak after `run` less its peak after `prepare`. What only `prepare` used and gave
        back is hidden from it, so prepare sparingly.
    """
    lines = [
        "import sys",
        "from benchmarks.timing import max_rss",
        code,
        "inputs = prepare(*sys.argv[1:])",
        "before = max_rss()",
        "run(inputs)",
        "print(max_rss() - before)",
    ]
    command = [sys.executable, "-c", "\n".join(lines), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return int(done.stdout.split()[-1])
