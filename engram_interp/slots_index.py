"""Who else lives in a slot? An index of a reference text over the memory's rows, on disk.

An index holds every n-gram that lies whole inside one document, also where the document is longer than
the model's context. It is bound to a hash layout, a token map and a document boundary, not to weights.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import engram_interp
from engram_interp.checkpoints.native import layout_digest, map_digest
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import hashing
from engram_interp.memory import index as memory_index
from engram_interp.memory.compression import canonical_keys
from engram_interp.memory.counts import NgramCounts
from engram_interp.memory.index import NgramIndex, Progress, quiet

__all__ = [
    "SlotIndex",
    "canonical_names",
    "index",
    "name_of",
    "open_index",
    "refuse_anothers",
    "refuse_without_memory",
]

MANIFEST = "manifest.json"
_MADE_BY = "engram-interp index"
_FORMAT = 1
_CHUNK = 256
_BOUND = ("layout_sha256", "layers", "token_map_sha256", "boundary", "separator_id")
_SAID = {
    "layout_sha256": "hash layout",
    "layers": "set of memory layers",
    "token_map_sha256": "token map",
    "boundary": "document boundary",
    "separator_id": "document separator",
}

_GAP = "∅"
"""Shown in a canonical n-gram where the window looks before the start of the text."""
_JOIN = "|"
"""Between the tokens of a canonical n-gram: compression strips the spaces that would tell words apart."""


def refuse_without_memory(model: SubjectModel) -> hashing.Layout:
    """The hash layout of a model whose addresses are known.

    Raises:
        InputError: If it has no memory, or no layout is known.
    """
    if not model.memory_layers or model.layout is None or model.token_map is None:
        raise InputError(
            f"{model.name} has no memory whose addresses are known; give the model with Engram, or "
            "wrap(…, layout=…)."
        )
    return model.layout


def canonical_names(model: SubjectModel) -> dict[int, str]:
    """The normalised text of every canonical id."""
    assert model.token_map is not None
    keys = canonical_keys(model.tokenizer)
    return {int(canonical): keys[i] for i, canonical in reversed(list(enumerate(model.token_map)))}


def name_of(ids: Iterable[int], names: Mapping[int, str]) -> str:
    """A canonical n-gram as it is shown, ``∅`` where its window looks before the start of the text."""
    return _JOIN.join(names.get(int(i), _GAP) for i in ids)


@dataclass(frozen=True, kw_only=True)
class SlotIndex:
    """An opened index.

    Attributes:
        ngrams: Its n-grams by order and by row.
        names: Normalised text of every canonical id.
        facts: What its manifest says: digests, number of tokens and documents, versions.
    """

    ngrams: NgramIndex
    names: Mapping[int, str]
    facts: Mapping[str, Any]

    def check(self, model: SubjectModel) -> None:
        """Refuse a model with other addresses (InputError), and a folder that was built again since."""
        refuse_anothers(self.facts, model, self.ngrams.folder)
        if _manifest(self.ngrams.folder) != self.facts:
            raise InputError(f"{self.ngrams.folder} was built again since it was opened; open it again.")

    def named(self, order: int, numbers: np.ndarray) -> list[str]:
        """N-grams as they are shown."""
        return [name_of(ids, self.names) for ids in self.ngrams.ids(order, numbers).tolist()]

    def counts(self) -> NgramCounts:
        """How often the text has each n-gram; ``replace(model, counts=…)`` sorts by it."""
        return NgramCounts(
            of=self.ngrams.occurrences,
            tokens=int(self.facts["tokens"]),
            source=f"an index of {int(self.facts['documents']):,} documents",
            text_digest=str(self.facts["text_sha256"]),
        )

    def provenance(self, model: SubjectModel) -> dict[str, Any]:
        """Where numbers from this index come from."""
        return {
            "model": model.name,
            "model_digest": model.digest or "unknown",
            "layout_digest": self.facts["layout_sha256"],
            "text_digest": self.facts["text_sha256"],
            "n_documents": self.facts["documents"],
            "n_samples": self.facts["tokens"],
            "estimator": "exact counts of n-grams that lie whole inside a document",
        }


def _bound(model: SubjectModel) -> dict[str, Any]:
    layout = refuse_without_memory(model)
    assert model.token_map is not None
    return {
        "layout_sha256": layout_digest(layout),
        "layers": list(layout.layer_ids),
        "token_map_sha256": map_digest(model.token_map),
        "boundary": model.boundary,
        "separator_id": model.separator_id,
    }


def index(
    model: SubjectModel,
    corpus: Iterable[str],
    *,
    out: str | Path,
    progress: Progress = quiet,
) -> SlotIndex:
    """Index a reference text: which n-grams live in which row of which head.

    The index is made beside `out` and put there by one rename: interrupted, nothing is left of it, and an
    earlier index stays as it was. Wants about 40 bytes of memory a token.

    Args:
        model: A model with a memory.
        corpus: The text's documents, for example ``documents(["a.txt", "b.txt.xz"])``.
        out: Directory; new, empty, or an earlier index, which is replaced.
        progress: Called with the share done, in [0, 1], and what is being done.

    Raises:
        InputError: If the model has no memory, the text is too short for its n-grams, or `out` holds
            anything that is not an index's.
    """
    if isinstance(corpus, str):
        raise InputError("index wants documents, got one string; give documents([path]), or [text].")
    layout, facts = refuse_without_memory(model), _bound(model)
    target = Path(out).resolve()
    _refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        made = Path(folder) / "index"
        made.mkdir()
        ids, opens, text = _stream(model, corpus, progress)
        assert model.token_map is not None
        n_ids = int(model.token_map.max()) + 1
        age = memory_index.ages(opens, most=layout.max_order - 1)
        memory_index.write(made, ids, age, layout=layout, n_ids=n_ids, progress=progress)
        facts |= text | {"made_by": _MADE_BY, "format": _FORMAT, "version": engram_interp.__version__}
        facts |= {"n_ids": n_ids, "files": sorted(path.name for path in made.iterdir())}
        (made / MANIFEST).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        _refuse_foreign(target)  # once more: building takes minutes
        if target.exists():
            target.rename(Path(folder) / "earlier")
        made.rename(target)
    progress(1.0, "done")
    return open_index(target, model)


def _stream(
    model: SubjectModel, corpus: Iterable[str], progress: Progress
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Canonical ids, where segments open, and what to record of the text."""
    digest, ids, opens, documents = hashlib.sha256(), list[np.ndarray](), list[np.ndarray](), 0
    assert model.token_map is not None
    for chunk in _chunks(corpus):
        documents += len(chunk)
        tokens, first = _encoded(model, chunk)
        segments = hashing.segments(
            torch.from_numpy(tokens)[None], separator_id=model.separator_id, boundary=model.boundary
        )
        if segments is not None:
            first[1:] |= np.diff(segments[0].numpy()) != 0
        ids.append(model.token_map[tokens].astype(np.int32))
        opens.append(first)
        for document in chunk:
            digest.update(document.encode() + b"\0")
        progress(0.0, f"encoding: {documents:,} documents, {sum(map(len, ids)):,} tokens")
    if not ids:
        raise InputError("There are no documents to index; give at least one text that is not empty.")
    facts = {"text_sha256": digest.hexdigest(), "documents": documents, "tokens": sum(map(len, ids))}
    return np.concatenate(ids), np.concatenate(opens), facts


def _chunks(corpus: Iterable[str]) -> Iterator[list[str]]:
    source = (document for document in corpus if document)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk


def _encoded(model: SubjectModel, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of documents in a row, each opened by the separator, and where documents start."""
    opening = [] if model.separator_id is None else [model.separator_id]
    encodings = model.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    parts = [np.asarray([*opening, *encoding.ids], np.int64) for encoding in encodings]
    starts = np.cumsum([0, *map(len, parts)])
    first = np.zeros(starts[-1] + 1, bool)
    first[starts] = True
    return np.concatenate(parts), first[:-1]


def open_index(path: str | Path, model: SubjectModel) -> SlotIndex:
    """Open an index that `index` made for a model with the same addresses.

    Raises:
        InputError: If there is none, or it was built with another hash layout, token map or boundary.
        DamagedFileError: If a file of it is missing or cut short.
    """
    folder, layout = Path(path), refuse_without_memory(model)
    facts = _manifest(folder)
    if facts is None:
        raise InputError(f"There is no index at {folder}; make one with engram-interp index.")
    if facts.get("format") != _FORMAT:
        raise InputError(
            f"{folder} is an index of format {facts.get('format')!r} and this version reads {_FORMAT}; build "
            "it again."
        )
    refuse_anothers(facts, model, folder)
    if not {"n_ids", "text_sha256", "documents", "tokens"} <= set(facts):
        raise DamagedFileError(f"{folder / MANIFEST} lacks entries; build the index again.")
    ngrams = memory_index.read(folder, layout=layout, n_ids=int(facts["n_ids"]))
    return SlotIndex(ngrams=ngrams, names=canonical_names(model), facts=facts)


def refuse_anothers(facts: Mapping[str, Any], model: SubjectModel, folder: Path) -> None:
    """Let only an index pass that has the model's addresses.

    Raises:
        InputError: If it was built with another hash layout, token map or boundary.
    """
    wanted = _bound(model)
    for name in _BOUND:
        if facts.get(name) != wanted[name]:
            raise InputError(
                f"The index {folder} was built with another {_SAID[name]} than {model.name} has ({name} "
                f"{_short(facts.get(name))}, wanted {_short(wanted[name])}): its rows are others. Build one "
                "for this model."
            )


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)


def _manifest(folder: Path) -> dict[str, Any] | None:
    """What the manifest in a folder says; None if there is none of ours."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.get("made_by") == _MADE_BY else None


def _refuse_foreign(target: Path) -> None:
    """Let only a new or empty directory pass, or one that holds an index and nothing else.

    Raises:
        InputError: If it holds anything else; nothing is changed.
    """
    if not target.exists():
        return
    facts = _manifest(target)
    own = {MANIFEST, *facts.get("files", [])} if facts is not None else set()
    foreign = (
        sorted(p.name for p in target.iterdir() if p.name not in own) if target.is_dir() else [target.name]
    )
    if foreign:
        raise InputError(
            f"{target} was not made by engram-interp index, or holds more than an index ({foreign[0]}); "
            "nothing in it was changed. Give a new or empty directory."
        )
