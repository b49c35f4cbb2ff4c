"""Models in memory: each is read by the first job that wants it, in the worker's thread.

PyTorch is imported here and by nothing before. Of the models that were given by a path the last one stays.
"""

import gc
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_interp.results import wording
from explorer.worker import Job

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel

_SMALL = 200e6
"""Bytes of weights below which one thread is faster than several."""


def stamp_of(path: Path) -> str:
    """Six letters for what a model directory holds: another model, or its next weights, has others."""
    digest = hashlib.sha1(usedforsecurity=False)
    for file in sorted([path / "config.json", *path.glob("*.safetensors")]):
        try:
            with file.open("rb") as opened:
                digest.update(f"{file.name} {file.stat().st_size}".encode() + opened.read(1 << 16))
                opened.seek(-min(1 << 16, file.stat().st_size), os.SEEK_END)
                digest.update(opened.read())
        except OSError:
            continue  # whoever reads it says so
    return digest.hexdigest()[:6]


class Held:
    """A model that is read when a job first asks for it.

    Args:
        source: What `load_model` is given for it.
        path: Its directory; None for a packaged one.
    """

    def __init__(self, source: str, path: Path | None) -> None:
        self.source = source
        self.path = path
        self._model: SubjectModel | None = None
        self._job: Job[Any] | None = None

    def get(self, job: Job[Any]) -> "SubjectModel":
        """The model, which from here on hears that `job` is to stop; called in the worker alone."""
        self._job = job
        if self._model is None:
            job.next("starting PyTorch (once, a few seconds)")
            with _uncollected():
                from engram_interp import gates, lens, slots  # noqa: F401 - what a text asks for first
                from engram_interp.checkpoints import load_model

            job.next("reading the model")
            _make_room(self)
            self._model = load_model(self.source)
            _listen(self._model, lambda: None if self._job is None else self._job.check())
        else:
            job.done_steps = 2
        _set_threads(small=self.path is None or _is_small(self.path))
        return self._model

    @property
    def told(self) -> str:
        """What is in memory, in words; empty while nothing is."""
        model = self._model
        if model is None:
            return ""
        reads = f"memory at {wording.layers(model.memory_layers)}" if model.memory_layers else "no memory"
        return f"{model.n_layers} layers, {reads}"

    def forget(self) -> None:
        """Let go of the model, which the next job reads again; called in the worker alone."""
        self._model = None


def _make_room(read: Held) -> None:
    """Let go of the model that was given by a path before this one."""
    if read.path is None:
        return
    for other in _by_path():
        if other is not read:
            other.forget()
    _by_path()[:] = [read]


@cache
def _by_path() -> list[Held]:
    """The models in memory that were given by a path."""
    return []


def _set_threads(*, small: bool) -> None:
    """One thread for small layers, where waiting for each other costs more than it gives."""
    import torch

    most = _threads()
    torch.set_num_threads(1 if small else most)


@cache
def _threads() -> int:
    """How many threads PyTorch takes by itself; asked before any other number is set."""
    import torch

    return torch.get_num_threads()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Imports leave next to no garbage, and looking for it is a sixth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _listen(model: "SubjectModel", check: Callable[[], None]) -> None:
    """Hear in every block of a pass that the run is to stop: a pass of a large model takes its time."""
    from engram_interp.checkpoints.subject import read_sites

    for site in read_sites(model):
        model.module.get_submodule(model.sites[site]).register_forward_hook(lambda *_: check())


def _is_small(path: Path) -> bool:
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) < _SMALL
