"""Prompt sets: the texts an analysis runs on, with their names and where their entities stand.

A file is `.txt` (one prompt a line, or documents with a line ``<|endoftext|>`` between them) or `.jsonl`
(an object a line with "text" and, if wanted, "id"). Where entities matter they are marked in the text,
``[[New York City]] is large``, and read with ``markup="brackets"``.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeAlias, get_args

from engram_interp.errors import InputError

SEPARATOR = "<|endoftext|>"
"""The line that stands between documents of a text file."""

Markup: TypeAlias = Literal["none", "brackets"]
Span: TypeAlias = tuple[int, int]
"""First character of an entity and the one after its last."""

_BRACKETS = re.compile(r"\[\[|\]\]")
_HEADING = "# id: "


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Texts in a fixed order. Iterating gives the texts.

    Attributes:
        name: What the set is called in results.
        ids: One unique name a text.
        texts: The texts, none of them empty.
        entities: Of each text, the marked entities as `(start, end)` in characters; `()` if none is marked.
        source: Where the texts come from: a path, or a few words.

    Raises:
        InputError: If the columns differ in length, an id occurs twice, a span lies outside its text, or a
            text is empty or cannot be stored.
    """

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    entities: tuple[tuple[Span, ...], ...]
    source: str

    def __post_init__(self) -> None:
        lengths = len(self.ids), len(self.texts), len(self.entities)
        if len(set(lengths)) > 1:
            raise InputError(
                "A prompt set wants one id and one tuple of entities a text, got {} ids, {} texts and {} "
                "tuples of entities.".format(*lengths)
            )
        if not self.texts:
            raise InputError(f"There are no prompts in {self.source}; give at least one.")
        twice = [name for name, count in Counter(self.ids).items() if count > 1]
        if twice:
            raise InputError(f"The prompts of {self.source} want unique ids, {twice[0]!r} occurs twice.")
        for name, text, spans in zip(self.ids, self.texts, self.entities, strict=True):
            _check_text(text, f"Prompt {name!r} of {self.source}")
            for start, end in spans:
                if not 0 <= start < end <= len(text):
                    raise InputError(
                        f"An entity of prompt {name!r} wants to lie within its {len(text)} characters, "
                        f"got {start} to {end}."
                    )

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    @property
    def digest(self) -> str:
        """SHA-256 of the texts in order, hexadecimal; names and entities do not enter."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()

    def head(self, n: int) -> Self:
        """The first `n` prompts, or all if there are fewer.

        Raises:
            InputError: If `n` is less than 1.
        """
        if n < 1:
            raise InputError(f"The head of a prompt set wants at least 1 prompt, got {n}.")
        return replace(self, ids=self.ids[:n], texts=self.texts[:n], entities=self.entities[:n])

    @classmethod
    def load(cls, name: str) -> Self:
        """A packaged set; `available()` lists them.

        "entities" holds 120 encyclopaedic passages on different subjects, about 14 entities marked in each.

        Raises:
            InputError: If no set of that name is packaged.
        """
        if name not in available():
            raise InputError(
                f"No packaged prompts are called {name!r}; there is {', '.join(available())}. For a file of "
                "your own use prompts.from_file(path)."
            )
        text = _packaged().joinpath(f"{name}.txt").read_text(encoding="utf-8")
        return cls._of(_passages(text), name=name, source=f"packaged prompts {name!r}", markup="brackets")

    @classmethod
    def from_file(cls, path: str | Path, *, markup: Markup = "none") -> Self:
        """Prompts of a UTF-8 file.

        Args:
            path: A `.txt` file, of which prompts are stripped of outer white space, or a `.jsonl` file.
            markup: "brackets" reads ``[[…]]`` as an entity and removes the brackets; "none" leaves them.

        Raises:
            InputError: If the file is missing, of another kind, not UTF-8, empty, or holds a prompt that
                cannot be used; the message names the path and, where there is one, the line.
        """
        path = Path(path)
        text = _read(path)
        drafts = _READERS[path.suffix.lower()](text, path)
        return cls._of(drafts, name=path.stem, source=str(path), markup=markup)

    @classmethod
    def from_texts(cls, texts: Sequence[str], *, name: str = "texts", markup: Markup = "none") -> Self:
        """Prompts from strings, taken as they are and named ``name-0``, ``name-1``, ….

        >>> prompts = PromptSet.from_texts(["[[Ada]] is a language."], markup="brackets")
        >>> prompts.texts, prompts.entities
        (('Ada is a language.',), (((0, 3),),))

        Raises:
            InputError: If there is none, or one is empty or no string.
        """
        drafts = [_Draft(f"Text {index}", None, text) for index, text in enumerate(texts)]
        return cls._of(drafts, name=name, source="given texts", markup=markup)

    @classmethod
    def _of(cls, drafts: Sequence["_Draft"], *, name: str, source: str, markup: Markup) -> Self:
        if markup not in get_args(Markup):
            raise InputError(f"The markup of prompts is 'none' or 'brackets', got {markup!r}.")
        for draft in drafts:
            _check_text(draft.text, draft.where)
        marked = [_unmark(d.text, d.where) if markup == "brackets" else (d.text, ()) for d in drafts]
        return cls(
            name=name,
            ids=tuple(f"{name}-{i}" if d.id is None else d.id for i, d in enumerate(drafts)),
            texts=tuple(text for text, _ in marked),
            entities=tuple(spans for _, spans in marked),
            source=source,
        )


load, from_file, from_texts = PromptSet.load, PromptSet.from_file, PromptSet.from_texts


def available() -> list[str]:
    """Names of the packaged prompt sets."""
    found = (entry.name for entry in _packaged().iterdir())
    return sorted(name.removesuffix(".txt") for name in found if name.endswith(".txt"))


def coerce(texts: str | Sequence[str] | PromptSet) -> PromptSet:
    """Whatever an analysis was given as a prompt set; one string is one prompt.

    Raises:
        InputError: If it is something else, or a text in it is empty.
    """
    if isinstance(texts, PromptSet):
        return texts
    if isinstance(texts, str):
        if not texts.strip():
            raise InputError("The prompt is empty; give at least one character of text.")
        return from_texts([texts], name="text")
    if not isinstance(texts, Sequence) or isinstance(texts, bytes | bytearray):
        raise InputError(
            f"Prompts want to be a text, a list of texts or a PromptSet, got {type(texts).__name__}; for a "
            "file use prompts.from_file(path)."
        )
    return from_texts(texts)


class _Draft(NamedTuple):
    """A prompt as it was found: where (for messages), under what id, with its markup."""

    where: str
    id: str | None
    text: str


def _packaged() -> Traversable:
    return files("engram_interp") / "assets" / "prompts"


def _check_text(text: object, where: str) -> None:
    """Refuse what is no text, is empty, or could not be written to a result and read back."""
    if not isinstance(text, str):
        raise InputError(f"{where} wants to be a string, got {type(text).__name__}.")
    if not text.strip():
        raise InputError(f"{where} is empty; remove it or write a text there.")
    if "\0" in text:
        raise InputError(f"{where} holds a NUL character; remove it.")
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise InputError(f"{where} holds half a surrogate pair ({cause.reason}); remove it.") from cause


def _unmark(marked: str, where: str) -> tuple[str, tuple[Span, ...]]:
    """The text without its double brackets, and the spans that they held, outer white space left out."""
    pieces = _BRACKETS.split(marked)
    brackets = _BRACKETS.findall(marked)
    if brackets != ["[[", "]]"] * (len(brackets) // 2):
        raise InputError(
            f"{where} wants entities as [[…]], closed and not nested; its brackets are {' '.join(brackets)}."
        )
    spans, length = [], 0
    for index, piece in enumerate(pieces):
        if index % 2:
            if not piece.strip():
                raise InputError(f"{where} marks an empty entity, [[{piece}]]; put its text inside.")
            start = length + len(piece) - len(piece.lstrip())
            spans.append((start, start + len(piece.strip())))
        length += len(piece)
    return "".join(pieces), tuple(spans)


def _read(path: Path) -> str:
    """The text of a prompt file, with line feeds only."""
    if path.suffix.lower() not in _READERS:
        raise InputError(
            f"Prompts come from a .txt or .jsonl file, got {path}; packaged ones go by name: entities."
        )
    if not path.is_file():
        raise InputError(f"No prompt file at {path}; give the path of a .txt or .jsonl file.")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as cause:
        line = raw[: cause.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line} is not UTF-8 ({cause.reason}); convert the file first."
        ) from cause
    if not text.strip():
        raise InputError(f"{path} is empty; write at least one prompt into it.")
    return text.rstrip()


def _plain(text: str, path: Path) -> list[_Draft]:
    """One prompt a line, or one a document where separator lines occur (also before the first)."""
    lines = text.split("\n")
    ends = [number for number, line in enumerate(lines) if line.strip() == SEPARATOR]
    if not ends:
        return [_Draft(f"{path}, line {number}", None, line.strip()) for number, line in enumerate(lines, 1)]
    bounds = [-1, *ends, len(lines)]
    drafts = [
        _Draft(f"{path}, line {last + 2}", None, "\n".join(lines[last + 1 : end]).strip())
        for last, end in pairwise(bounds)
    ]
    first = 0 if drafts[0].text else 1
    return drafts[first : len(drafts) if drafts[-1].text else -1]


def _objects(text: str, path: Path) -> list[_Draft]:
    """One JSON object a line: "text", and "id" where the file gives names."""
    drafts = []
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as cause:
            raise InputError(f'{where} wants an object such as {{"text": "…"}}; {cause}.') from cause
        if not isinstance(entry, Mapping) or "text" not in entry:
            raise InputError(f'{where} wants an object with "text", got {line[:60]}.')
        name = entry.get("id")
        if not isinstance(name, str | int | None) or name == "":
            raise InputError(f'{where} wants a string as "id", got {name!r}.')
        drafts.append(_Draft(where, None if name is None else str(name), entry["text"]))
    return drafts


def _passages(text: str) -> list[_Draft]:
    """The packaged format: blocks of a heading ``# id: slug`` and wrapped text, after a comment."""
    blocks = [block.partition("\n") for block in text.strip().split("\n\n")]
    return [
        _Draft(heading, heading.removeprefix(_HEADING), " ".join(body.split()))
        for heading, _, body in blocks
        if heading.startswith(_HEADING)
    ]


_READERS: dict[str, Callable[[str, Path], list[_Draft]]] = {".txt": _plain, ".jsonl": _objects}
