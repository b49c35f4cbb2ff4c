"""Measurements of the explorer beside their limits, which the worst of them must meet."""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, Page


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Every measurement of one thing, and the limit that the worst of them must meet."""

    what: str
    values: tuple[float, ...]
    limit: float
    unit: str = "s"
    least: bool = False

    @property
    def worst(self) -> float:
        """The smallest where there should be many, else the largest; infinite where nothing was measured."""
        return (min if self.least else max)(self.values, default=-math.inf if self.least else math.inf)

    @property
    def met(self) -> bool:
        """Whether the worst meets the limit."""
        return self.worst >= self.limit if self.least else self.worst <= self.limit


def table(measured: Iterable[Measured]) -> str:
    """One line a limit: all values, their median, the worst, and whether it is met."""
    lines = [("what", "limit", "all values", "median", "worst", "")]
    for one in measured:
        limit = f"{'at least' if one.least else 'at most'} {one.limit:g} {one.unit}".strip()
        values = " ".join(f"{value:.4g}" for value in one.values) or "none"
        median = f"{statistics.median(one.values):.4g}" if one.values else "none"
        lines.append((one.what, limit, values, median, f"{one.worst:.4g}", "met" if one.met else "MISSED"))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    joined = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "\n".join(line.rstrip() for line in joined)


def timed(act: Callable[[], object]) -> float:
    """How long something took, in seconds."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def fresh(browser: Browser) -> tuple[BrowserContext, Page]:
    """A visitor without a cache."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(300_000)
    return context, context.new_page()
