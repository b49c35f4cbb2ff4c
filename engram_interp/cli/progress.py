"""Progress on stderr: a bar on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

Update = Callable[[float, str], None]


class Clock:
    """Seconds since the first update, and an estimate of those left.

    Args:
        total: What `done` is at the end.
        now: The clock, in seconds.
    """

    def __init__(self, total: float, now: Callable[[], float] = time.monotonic) -> None:
        self.total, self.now = total, now
        self.start: float | None = None
        self.first = 0.0

    def read(self, done: float) -> tuple[float, float | None]:
        """Seconds so far, and left at the average rate; None while there is nothing to average.

        What was done before the first update (a resumed run) does not count as speed.
        """
        now = self.now()
        if self.start is None:
            self.start, self.first = now, done
        seconds, here = now - self.start, done - self.first
        return seconds, seconds * (self.total - done) / here if here > 0 else None


def duration(seconds: float) -> str:
    """Seconds in a reader's units.

    >>> duration(42), duration(125), duration(7260)
    ('42 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(total: float, *, every: float = 0.0) -> Iterator[Update]:
    """Show progress while the block runs; the block calls `update(done, text)`.

    Args:
        total: What `done` is at the end.
        every: Without a terminal, seconds between lines; 0 prints a line for every update.
    """
    clock = Clock(total)
    if sys.stderr.isatty():
        with _bar(clock) as update:
            yield update
    else:
        yield _lines(clock, every=every)


def _lines(clock: Clock, *, every: float) -> Update:
    printed = -every

    def update(done: float, text: str) -> None:
        nonlocal printed
        seconds, left = clock.read(done)
        if seconds - printed < every and done < clock.total:
            return
        printed = seconds
        times = duration(seconds) if left is None else f"{duration(seconds)}, about {duration(left)} left"
        typer.echo(f"{done / clock.total:4.0%}  {text}  ({times})", err=True)

    return update


@contextmanager
def _bar(clock: Clock) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[times]}", style="dim", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task("", total=clock.total, times="")

        def update(done: float, text: str) -> None:
            seconds, left = clock.read(done)
            times = duration(seconds) if left is None else f"{duration(seconds)}, {duration(left)} left"
            bar.update(task, completed=done, description=text, times=times)

        yield update
