"""One thread for everything that runs live, so that hooks of two runs never meet; who waits is told so.

A job is remembered by what it computes: looking again costs nothing, and two visitors who ask the same
share one run.
"""

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Generic, TypeVar

from engram_interp.errors import InputError

_KEPT = 128
_WATCHED = 15.0  # seconds since a visitor's page last asked
NOBODY = "nobody"
"""Who stopped a run that no visitor waits for any more."""
_NO_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
T = TypeVar("T")


class StoppedError(InputError):
    """A reader stopped the job."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """When a visitor's page last asked for a job, and whether that page is still open."""

    here: Callable[[], bool]
    at: float = field(default_factory=time.monotonic)

    @property
    def recent(self) -> bool:
        """Whether the page asked a moment ago."""
        return time.monotonic() - self.at < _WATCHED


@dataclass(kw_only=True, eq=False)
class Job(Generic[T]):
    """One computation and how far it is; `stage` and `done_steps` are written by the worker alone."""

    steps: int
    asked: float = field(default_factory=time.monotonic)
    stage: str = ""
    done_steps: int = 0
    stop: bool = False
    future: "Future[T]" = field(default_factory=Future)
    watched: dict[str, Look] = field(default_factory=dict)
    left_by: str = ""

    def check(self) -> None:
        """Hear a reader's wish to stop, or that nobody waits any more."""
        if not self.stop and self.abandoned:
            self.left_by, self.stop = NOBODY, True
        if self.stop:
            raise StoppedError("The run was stopped.")

    def next(self, stage: str) -> None:
        """Begin a step; a reader's wish to stop is heard here."""
        self.check()
        self.done_steps += bool(self.stage)
        self.stage = stage

    @property
    def elapsed(self) -> float:
        """Seconds since the job was asked for."""
        return time.monotonic() - self.asked

    @property
    def abandoned(self) -> bool:
        """Whether everybody who asked for it has closed the page, and not only to load it again."""
        looks = list(self.watched.values())
        return bool(looks) and not any(look.recent or look.here() for look in looks)

    def watch(self, visitor: str, here: Callable[[], bool] = lambda: True) -> None:
        """Note that a visitor's page waits for this job; `here` tells whether that page is open."""
        self.watched[visitor] = Look(here=here)

    def leave(self, visitor: str) -> None:
        """A visitor wants it stopped: it is, unless somebody else waits for it too."""
        self.watched.pop(visitor, None)
        if not any(look.recent and look.here() for look in list(self.watched.values())):
            self._end(visitor)

    def let_go(self, visitor: str) -> None:
        """A visitor has asked for something else instead: what nobody else asked for is not run."""
        self.watched.pop(visitor, None)
        if not self.watched and not self.future.done():
            self._end(NOBODY)

    def _end(self, by: str) -> None:
        self.left_by = by
        self.stop = True
        self.future.cancel()


class Worker:
    """The thread and the jobs asked of it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live-model")
        self._jobs: OrderedDict[Hashable, Job[Any]] = OrderedDict()
        self._queue: list[Job[Any]] = []
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, key: Hashable, run: Callable[[Job[T]], T], *, steps: int) -> Job[T]:
        """The job for `key`, begun if there is none."""
        with self._lock:
            known = self._jobs.get(key)
            if known is not None:
                self._jobs.move_to_end(key)
                return known
            job: Job[T] = Job(steps=steps)
            self._jobs[key] = job
            job.future = self._thread.submit(_guarded, run, job)
            self._queue = [*(other for other in self._queue if not other.future.done()), job]
            self._forget_old()
            return job

    def _forget_old(self) -> None:
        """Drop finished jobs that nobody asked for lately; a job under way is never dropped."""
        done = [key for key, job in self._jobs.items() if job.future.done()]
        for key in done[: max(len(self._jobs) - _KEPT, 0)]:
            del self._jobs[key]

    def finished(self, key: Hashable) -> object:
        """The result for `key` if it was computed; None otherwise, and nothing is begun."""
        with self._lock:
            job = self._jobs.get(key)
        if job is None or not job.future.done() or job.future.cancelled() or job.future.exception():
            return None
        return job.future.result()

    def ahead(self, job: Job[T]) -> int:
        """How many runs were asked for before this one and are not done."""
        with self._lock:
            return sum(
                not other.future.done() and other.asked < job.asked and not other.abandoned
                for other in self._queue
            )

    def drop(self, job: Job[T]) -> None:
        """Forget a job, so that it is begun anew when it is asked for again."""
        with self._lock:
            for key in [key for key, kept in self._jobs.items() if kept is job]:
                del self._jobs[key]


def _guarded(run: Callable[[Job[T]], T], job: Job[T]) -> T:
    """Run a job; what is a defect of ours goes to the log with its traceback.

    Raises:
        MemoryError: If memory ran out, however it was said. The first error, whose frames hold what was
            computed, is not kept with it.
    """
    try:
        job.check()
        return run(job)
    except InputError as error:
        error.__context__ = None
        raise error.with_traceback(None) from None  # whose frames would keep the model in memory
    except Exception as error:
        if not _out_of_memory(error):
            logging.getLogger(__name__).exception("A live run failed.")
            raise
        said = str(error)
    logging.getLogger(__name__).error("A live run ran out of memory while %s: %s", job.stage, said)
    raise MemoryError(_wanted(said))


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; PyTorch, which is not imported for this, says so in errors of its own."""
    names = {kind.__name__ for kind in type(error).__mro__}
    said = str(error).lower()
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and any(words in said for words in _NO_MEMORY)
    )


def _wanted(said: str) -> str:
    """How much more was wanted, where the error tells; else empty."""
    found = re.search(r"allocate ([\d.]+) ?(bytes|[KMGT]iB)", said)
    if found is None:
        return ""
    number, unit = float(found[1]), found[2]
    return f"{number / 1e9:.1f} GB" if unit == "bytes" else f"{number:g} {unit}"
