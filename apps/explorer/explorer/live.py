"""Small models run on what a reader types or picks: one worker for all of them (`worker`).

PyTorch is imported by the first job and by nothing else.
"""

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from engram_interp import pairs
from engram_interp.results import (
    AblationComparison,
    GateReading,
    LensTable,
    MemoryAttribution,
    MemoryPromotion,
    SlotColliders,
    SlotLoad,
    SlotLookup,
    SlotOccupants,
)
from explorer.arguments import arguments
from explorer.spec import Spec
from explorer.worker import Job, Worker

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel
    from engram_interp.slots_index import SlotIndex

PAIR = "wiki-nano"
PLANTED = "planted"
_SMALL = 200e6
_STATED = "model of the open bundle"


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


@dataclass(frozen=True, kw_only=True)
class Attributed:
    """What the reads of one token give a prediction, and what each write promotes."""

    memory: MemoryAttribution
    promotion: MemoryPromotion


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Who shares the rows that one token read, in a reference text; its load where that was asked for."""

    load: SlotLoad | None
    occupants: SlotOccupants
    colliders: SlotColliders | None


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row that an n-gram read, and the text in which others are looked for."""

    digest: str
    ids: tuple[int, ...]
    order: int
    layer: int
    address: int


def _row_of(texts: Sequence[str], slot: SlotLookup, *, token: int, layer: int, column: int) -> _Row:
    at = slot.data.sel(token=token, layer=layer, column=column)
    order, read = int(at["order"]), slot.data["token_id"].values[: token + 1]
    return _Row(
        digest=hashlib.sha1("\0".join(texts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest(),
        ids=tuple(int(one) for one in read[max(token - order + 1, 0) :]),
        order=order,
        layer=layer,
        address=int(at["address"]),
    )


class Live:
    """One model, loaded by its first job, and the jobs asked of it."""

    def __init__(self, name: str, path: Path | None, worker: Worker) -> None:
        self.name = name
        self.path = path
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

        return self.worker.submit((self.name, "read", text), run, steps=5)

    def finished(self, text: str) -> Reading | None:
        """The reading of a text if it was made already; nothing is begun."""
        found = self.worker.finished((self.name, "read", text))
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

        return self.worker.submit((self.name, "compare", text, spec), run, steps=8)

    def compared(self, text: str, spec: Spec) -> AblationComparison | None:
        """The comparison of an ablation if it was made already; nothing is begun."""
        found = self.worker.finished((self.name, "compare", text, spec))
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

        return self.worker.submit((self.name, "attribute", text, token), run, steps=4)

    def neighbours(
        self, texts: Sequence[str], slot: SlotLookup, *, token: int, layer: int, column: int
    ) -> Job[Neighbours]:
        """Who else lives in the row that `column` of a token read, by an index of `texts`."""
        row = _row_of(texts, slot, token=token, layer=layer, column=column)

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

        return self.worker.submit((self.name, "neighbours", row), run, steps=4)

    def _loaded(self, job: Job[Any]) -> "SubjectModel":
        """The model, which from here on hears that `job` is to stop; called in the worker alone."""
        self._job = job
        if self._model is None:
            job.next("starting PyTorch (once, a few seconds)")
            import torch

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


def attributed(text: str, *, token: int) -> Attributed | None:
    """The live model's attribution of one token if it was made already; nothing is begun."""
    found = live().worker.finished((live().name, "attribute", text, token))
    return found if isinstance(found, Attributed) else None


def neighboured(
    texts: Sequence[str], slot: SlotLookup, *, token: int, layer: int, column: int
) -> Neighbours | None:
    """Who else lives in a row that was read, if the live model found it already; nothing is begun."""
    row = _row_of(texts, slot, token=token, layer=layer, column=column)
    found = live().worker.finished((live().name, "neighbours", row))
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


@st.cache_resource(show_spinner=False)
def _live(name: str, path: Path | None) -> Live:
    return Live(name, path, worker())


def state_model(name: str) -> None:
    """Note of which model the open bundle is; a packaged one then runs its prompts."""
    st.session_state[_STATED] = name


def live() -> Live:
    """The model named on the command line, else the packaged one that the open bundle is of."""
    path = arguments().model
    if path is not None:
        known = {folder.resolve(): name for name, folder in pairs.with_memory().items()}
        name = known.get(path.resolve())  # results call it so
        return _live(path.resolve().name, path) if name is None else _live(name, None)
    return _live(PLANTED if st.session_state.get(_STATED) == PLANTED else f"{PAIR}/engram", None)
