"""Small models run on what a reader types or picks: one worker for all of them (`worker`)."""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from engram_interp import pairs
from engram_interp.results import AblationComparison, SlotLookup
from explorer.arguments import arguments
from explorer.live_results import Attributed, Neighbours, Reading, row_of, unknown_words
from explorer.model_memory import Held, stamp_of
from explorer.selection import current
from explorer.spec import Spec
from explorer.worker import Job, Worker

if TYPE_CHECKING:
    from engram_interp.slots_index import SlotIndex

PAIR = "wiki-nano"
PLANTED = "planted"
_STATED = "model of the open bundle"
_CHOSEN = "model this visitor loaded"


class Live:
    """One model, loaded by its first job, and the jobs asked of it."""

    def __init__(self, name: str, path: Path | None, worker: Worker, *, stamp: str = "") -> None:
        self.name = name
        self.path = path
        self.key = f"{name} {path or ''} {stamp}"
        """Of its jobs: two folders may bear one name, and a folder be written anew."""
        self.tag = f"{name}~{stamp}" if stamp else name
        """What links call it."""
        self.worker = worker
        self.held = Held(self.source, path)
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
            model = self.held.get(job)
            from engram_interp import gates, lens, slots

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
                notes=unknown_words(found),
            )

        return self.worker.submit((self.key, "read", text), run, steps=5)

    def finished(self, text: str) -> Reading | None:
        """The reading of a text if it was made already; nothing is begun."""
        found = self.worker.finished((self.key, "read", text))
        return found if isinstance(found, Reading) else None

    def compare(self, text: str, spec: Spec) -> Job[AblationComparison]:
        """Predictions after one token, with and without its reads, and under two controls."""

        def run(job: Job[AblationComparison]) -> AblationComparison:
            model = self.held.get(job)
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
            model = self.held.get(job)
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
            model = self.held.get(job)
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


def preload(model: Live) -> Job[str]:
    """Load a model before the first text asks for it; what was loaded, in words."""

    def run(job: Job[str]) -> str:
        model.held.get(job)
        return model.held.told

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


@st.cache_resource(show_spinner=False)
def worker() -> Worker:
    """The one worker of this server."""
    return Worker()


@st.cache_resource(show_spinner=False, max_entries=6)
def _live(name: str, path: Path | None, stamp: str = "") -> Live:
    return Live(name, path, worker(), stamp=stamp)


def state_model(name: str) -> None:
    """Note of which model the open bundle is; a packaged one then runs its prompts."""
    st.session_state[_STATED] = name


def live() -> Live:
    """The model this visitor loaded, else the one that runs unasked; on the tour always the planted one."""
    if current().settings.get("tour") and st.session_state.get(_STATED) == PLANTED:
        return _live(PLANTED, None)
    return chosen_model() or unasked()


def unasked() -> Live:
    """The model of the command line, else the packaged one of the open bundle."""
    path = arguments().model
    if path is not None:
        return model_at(path)
    return _live(PLANTED if st.session_state.get(_STATED) == PLANTED else f"{PAIR}/engram", None)


def model_at(path: Path, *, anew: bool = False) -> Live:
    """The model in a directory; a packaged one goes by the name that results call it.

    Args:
        path: the directory.
        anew: whether to look if it was written anew since; else it is what it was when first asked for.
    """
    path = path.resolve()
    known = {folder.resolve(): name for name, folder in pairs.with_memory().items()}
    if path in known:
        return _live(known[path], None)
    stamps = _stamps()
    if anew or path not in stamps:
        stamps[path] = stamp_of(path)
    return _live(path.name, path, stamps[path])


@st.cache_resource(show_spinner=False)
def _stamps() -> dict[Path, str]:
    """By directory that a model was asked for from: what its files were when it was."""
    return {}


def linked(tag: str) -> Live | None:
    """The model of this server that links call so; None where it is not known here."""
    packaged = pairs.with_memory()
    if tag in packaged:
        return model_at(packaged[tag])
    every = [model_at(path) for path in list(_stamps())]
    return next((model for model in [unasked(), *every] if model.tag == tag), None)


def choose_model(model: Live | None) -> None:
    """Run what this visitor types on `model` from now on; None for the one that would run unasked."""
    st.session_state[_CHOSEN] = model


def chosen_model() -> Live | None:
    """The model that this visitor asked for on a page, if any."""
    found = st.session_state.get(_CHOSEN)
    return found if isinstance(found, Live) else None
