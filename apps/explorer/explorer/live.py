"""A small model run on what a reader types: one worker thread, so that hooks of two runs never meet.

PyTorch is imported by the first job and by nothing else. A job is remembered by what it computes, so
that looking again costs nothing.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import streamlit as st

from engram_interp import pairs
from engram_interp.errors import InputError
from engram_interp.results import AblationComparison, GateReading, LensTable, SlotLookup
from explorer.arguments import arguments

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel

PAIR = "wiki-nano"
KINDS = {"rows_zero": "rows → 0", "gate_zero": "gate → 0", "output_off": "output off"}
_KEPT = 64
_SMALL = 200e6

Kind = Literal["rows_zero", "gate_zero", "output_off"]
T = TypeVar("T")


class StoppedError(InputError):
    """A reader stopped the job."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a live run found in one text.

    Attributes:
        gates: where the gates open.
        slots: which rows were read.
        lens: what each layer would predict.
        given: how many tokens the text has, with the separator in front.
        analysed: how many of them the model's context holds; the first ones were run.
    """

    gates: GateReading
    slots: SlotLookup
    lens: LensTable
    given: int
    analysed: int


@dataclass(kw_only=True, eq=False)
class Job(Generic[T]):
    """One computation and how far it is; `stage` and `done_steps` are written by the worker alone."""

    steps: int
    started: float = field(default_factory=time.monotonic)
    stage: str = "waiting for the run before it"
    done_steps: int = 0
    stop: bool = False
    future: "Future[T]" = field(default_factory=Future)

    def next(self, stage: str) -> None:
        """Begin a step; a reader's wish to stop is heard here."""
        if self.stop:
            raise StoppedError("The run was stopped.")
        if self.done_steps or self.stage != "waiting for the run before it":
            self.done_steps += 1
        self.stage = stage

    @property
    def elapsed(self) -> float:
        """Seconds since the job was asked for."""
        return time.monotonic() - self.started


class Live:
    """The model, loaded once by the first job, and the jobs asked of it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._model: SubjectModel | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live-model")
        self._jobs: OrderedDict[Hashable, Job[Any]] = OrderedDict()
        self._lock = Lock()

    @property
    def name(self) -> str:
        """What runs: the model directory's name, or the packaged pair's model."""
        return f"{PAIR}/engram" if self.path is None else self.path.resolve().name

    @property
    def missing(self) -> str:
        """Why nothing can be run here; empty if something can."""
        if self.path is not None and not self.path.is_dir():
            return f"There is no model directory at {self.path}."
        if self.path is None and PAIR not in pairs.available():
            return f"The packaged pair {PAIR} is not installed."
        return ""

    def read(self, text: str) -> Job[Reading]:
        """Gates, slots and lens of a text."""

        def run(job: Job[Reading]) -> Reading:
            model = self._loaded(job)
            from engram_interp import gates, lens, slots

            job.next("reading the gates")
            found = gates.read(model, [text])
            job.next("looking the slots up")
            looked_up = slots.lookup(model, text)
            job.next("reading the lens")
            return Reading(
                gates=found,
                slots=looked_up,
                lens=lens.table(model, text),
                given=model.to_tokens(text).shape[-1],
                analysed=found.data.sizes["token"],
            )

        return self._submit(("read", text), run, steps=5)

    def finished(self, text: str) -> Reading | None:
        """The reading of a text if it was made already; nothing is begun."""
        with self._lock:
            job = self._jobs.get(("read", text))
        if job is None or not job.future.done() or job.future.exception() is not None:
            return None
        reading = job.future.result()
        return reading if isinstance(reading, Reading) else None

    def compare(
        self, text: str, *, kind: Kind, token: int, orders: Sequence[int] | None, everywhere: bool, seed: int
    ) -> Job[AblationComparison]:
        """Predictions after one token, with and without its reads, and under two controls."""
        spec = (kind, token, None if orders is None else tuple(orders), everywhere, seed)

        def run(job: Job[AblationComparison]) -> AblationComparison:
            model = self._loaded(job)
            from engram_interp import ablation

            job.next("running with and without the memory, and both controls")
            return ablation.compare(
                model, text, kind=kind, token=token, orders=orders, everywhere=everywhere, seed=seed
            )

        return self._submit(("compare", text, *spec), run, steps=3)

    def _submit(self, key: Hashable, run: Callable[[Job[T]], T], *, steps: int) -> Job[T]:
        """The job for `key`, begun if there is none."""
        with self._lock:
            known = self._jobs.get(key)
            if known is not None:
                self._jobs.move_to_end(key)
                return known
            job: Job[T] = Job(steps=steps)
            job.future = self._worker.submit(_guarded, run, job)
            self._jobs[key] = job
            while len(self._jobs) > _KEPT:
                self._jobs.popitem(last=False)
            return job

    def drop(self, job: Job[T]) -> None:
        """Forget a job, so that it is begun anew when it is asked for again."""
        with self._lock:
            for key in [key for key, kept in self._jobs.items() if kept is job]:
                del self._jobs[key]

    def _loaded(self, job: Job[T]) -> "SubjectModel":
        """The model; called in the worker alone."""
        if self._model is None:
            job.next("starting PyTorch (once, a few seconds)")
            import torch

            from engram_interp.checkpoints import load_model

            if self.path is None or _is_small(self.path):
                torch.set_num_threads(
                    1
                )  # on layers this small, waiting for each other costs more than it gives
            job.next("reading the model")
            self._model = load_model(PAIR if self.path is None else self.path)
        else:
            job.done_steps = 1
        return self._model


def _is_small(path: Path) -> bool:
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) < _SMALL


def _guarded(run: Callable[[Job[T]], T], job: Job[T]) -> T:
    """Run a job; what is a defect of ours goes to the log with its traceback."""
    try:
        return run(job)
    except InputError:
        raise
    except Exception:
        logging.getLogger(__name__).exception("A live run failed.")
        raise


@st.cache_resource(show_spinner=False)
def _live(path: Path | None) -> Live:
    return Live(path)


def live() -> Live:
    """The one live model of this server."""
    return _live(arguments().model)
