"""Small models run on what a reader types or picks: one worker for all of them (`worker`).

PyTorch is imported by the first job and by nothing else.
"""

import atexit
import gc
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from engram_interp import pairs
from engram_interp.results import AblationComparison, SlotLookup, wording
from explorer.arguments import arguments
from explorer.live_results import Attributed, Neighbours, Reading, row_of
from explorer.spec import Spec
from explorer.worker import Job, Worker

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel
    from engram_interp.slots_index import SlotIndex

PAIR = "wiki-nano"
PLANTED = "planted"
_SMALL = 200e6
_STATED = "model of the open bundle"
_CHOSEN = "model this visitor loaded"


class Live:
    """One model, loaded by its first job, and the jobs asked of it."""

    def __init__(self, name: str, path: Path | None, worker: Worker) -> None:
        self.name = name
        self.path = path
        self.key = f"{name} {path or ''}"
        """Of its jobs: two folders may bear one name."""
        self.worker = worker
        self._model: SubjectModel | None = None
        self._job: Job[Any] | None = None
        self._indexes: dict[str, SlotIndex] = {}

    @property
    def missing(self) -> str:
        """Why nothing can be run here; empty if something can."""
        if self.path is not None and not self.path.is_dir():
            return f"There is no model directory at {self.path}."
        if self.path is None and PAIR not in pairs.available():
            return f"The packaged pair {PAIR} is not installed."
        return ""

    @property
    def source(self) -> str:
        """What `load_model` is given for this model."""
        return self.name.removesuffix("/engram") if self.path is None else str(self.path)

    def read(self, text: str) -> Job[Reading]:
        """Gates, slots and lens of a text."""

        def run(job: Job[Reading]) -> Reading:
            model = self._loaded(job)
            from engram_interp import gates, lens, slots

            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", UserWarning)
                job.next("reading the gates")
                found = gates.read(model, [text])
                job.next("looking the slots up")
                looked_up = slots.lookup(model, text)
                job.next("reading the lens")
                table = lens.table(model, text)
            return Reading(
                gates=found,
                slots=looked_up,
                lens=table,
                given=model.to_tokens(text).shape[-1],
                analysed=found.data.sizes["token"],
                notes=tuple(dict.fromkeys(_about_one(str(one.message)) for one in heard)),
            )

        return self.worker.submit((self.key, "read", text), run, steps=5)

    def finished(self, text: str) -> Reading | None:
        """The reading of a text if it was made already; nothing is begun."""
        found = self.worker.finished((self.key, "read", text))
        return found if isinstance(found, Reading) else None

    def compare(self, text: str, spec: Spec) -> Job[AblationComparison]:
        """Predictions after one token, with and without its reads, and under two controls."""

        def run(job: Job[AblationComparison]) -> AblationComparison:
            model = self._loaded(job)
            from engram_interp import ablation

            return ablation.compare(
                model,
                text,
                kind=spec.kind,
                token=spec.token,
                layers=spec.layers,
                orders=spec.orders,
                heads=spec.heads,
                streams=spec.streams,
                tokens=spec.tokens,
                everywhere=spec.everywhere,
                swap=spec.swap,
                seed=spec.seed,
                progress=lambda share, stage: job.next(stage) if share < 1 else None,
            )

        return self.worker.submit((self.key, "compare", text, spec), run, steps=8)

    def compared(self, text: str, spec: Spec) -> AblationComparison | None:
        """The comparison of an ablation if it was made already; nothing is begun."""
        found = self.worker.finished((self.key, "compare", text, spec))
        return found if isinstance(found, AblationComparison) else None

    def attribute(self, text: str, *, token: int) -> Job[Attributed]:
        """What the memory gives the prediction after one token, beside what random rows give."""

        def run(job: Job[Attributed]) -> Attributed:
            model = self._loaded(job)
            from engram_interp import attribution

            job.next("splitting the logit into the rows read")
            found = attribution.memory(model, text, token=token)
            job.next("reading what each write promotes")
            return Attributed(memory=found, promotion=attribution.promoted(model, text, token=token))

        return self.worker.submit((self.key, "attribute", text, token), run, steps=4)

    def neighbours(
        self, texts: Sequence[str], slot: SlotLookup, *, token: int, layer: int, column: int
    ) -> Job[Neighbours]:
        """Who else lives in the row that `column` of a token read, by an index of `texts`."""
        row = row_of(texts, slot, token=token, layer=layer, column=column)

        def run(job: Job[Neighbours]) -> Neighbours:
            model = self._loaded(job)
            from engram_interp import slots

            job.next("indexing the prompts of the bundle")
            if row.digest not in self._indexes:
                folder = tempfile.mkdtemp(prefix="engram-explorer-")
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
                out = Path(folder) / "index"
                self._indexes[row.digest] = slots.index(
                    model, texts, out=out, progress=lambda *_: job.check()
                )
            index = self._indexes[row.digest]
            job.next("looking who shares the row")
            whole = len(row.ids) == row.order
            return Neighbours(
                load=slots.load(model, index),
                occupants=slots.occupants(model, index, layer=layer, address=row.address),
                colliders=slots.colliders(model, index, row.ids, layer=layer) if whole else None,
            )

        return self.worker.submit((self.key, "neighbours", row), run, steps=4)

    def _loaded(self, job: Job[Any]) -> "SubjectModel":
        """The model, which from here on hears that `job` is to stop; called in the worker alone."""
        self._job = job
        if self._model is None:
            job.next("starting PyTorch (once, a few seconds)")
            with _uncollected():
                import torch

                from engram_interp import gates, lens, slots  # noqa: F401 - what a text asks for first
                from engram_interp.checkpoints import load_model

            if self.path is None or _is_small(self.path):
                # On layers this small, waiting for each other costs more than it gives.
                torch.set_num_threads(1)
            job.next("reading the model")
            self._model = load_model(self.source)
            _listen(self._model, lambda: None if self._job is None else self._job.check())
        else:
            job.done_steps = 2
        return self._model


@contextmanager
def _uncollected() -> Iterator[None]:
    """Imports leave next to no garbage, and looking for it is a sixth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _about_one(said: str) -> str:
    """A warning about the only text of a run, which has no name of its own."""
    return said.replace("Prompt 'texts-0'", "The text")


def preload(model: Live) -> Job[str]:
    """Load a model before the first text asks for it; what was loaded, in words."""

    def run(job: Job[str]) -> str:
        found = model._loaded(job)
        reads = f"memory at {wording.layers(found.memory_layers)}" if found.memory_layers else "no memory"
        return f"{found.n_layers} layers, {reads}"

    return model.worker.submit((model.key, "load"), run, steps=3)


def attributed(text: str, *, token: int) -> Attributed | None:
    """The live model's attribution of one token if it was made already; nothing is begun."""
    found = live().worker.finished((live().key, "attribute", text, token))
    return found if isinstance(found, Attributed) else None


def neighboured(
    texts: Sequence[str], slot: SlotLookup, *, token: int, layer: int, column: int
) -> Neighbours | None:
    """Who else lives in a row that was read, if the live model found it already; nothing is begun."""
    row = row_of(texts, slot, token=token, layer=layer, column=column)
    found = live().worker.finished((live().key, "neighbours", row))
    return found if isinstance(found, Neighbours) else None


def _listen(model: "SubjectModel", check: Callable[[], None]) -> None:
    """Hear in every block of a pass that the run is to stop: a pass of a large model takes its time."""
    from engram_interp.checkpoints.subject import read_sites

    for site in read_sites(model):
        model.module.get_submodule(model.sites[site]).register_forward_hook(lambda *_: check())


def _is_small(path: Path) -> bool:
    return sum(file.stat().st_size for file in path.glob("*.safetensors")) < _SMALL


@st.cache_resource(show_spinner=False)
def worker() -> Worker:
    """The one worker of this server."""
    return Worker()


@st.cache_resource(show_spinner=False, max_entries=6)
def _live(name: str, path: Path | None) -> Live:
    return Live(name, path, worker())


def state_model(name: str) -> None:
    """Note of which model the open bundle is; a packaged one then runs its prompts."""
    st.session_state[_STATED] = name


def live() -> Live:
    """The model this visitor loaded, else that of the command line, else the packaged one of the bundle."""
    chosen = st.session_state.get(_CHOSEN)
    if isinstance(chosen, Live):
        return chosen
    path = arguments().model
    if path is not None:
        return model_at(path)
    return _live(PLANTED if st.session_state.get(_STATED) == PLANTED else f"{PAIR}/engram", None)


def model_at(path: Path) -> Live:
    """The model in a directory; a packaged one goes by the name that results call it."""
    known = {folder.resolve(): name for name, folder in pairs.with_memory().items()}
    name = known.get(path.resolve())
    return _live(path.resolve().name, path) if name is None else _live(name, None)


def choose_model(model: Live) -> None:
    """Run what this visitor types on `model` from now on."""
    st.session_state[_CHOSEN] = model
