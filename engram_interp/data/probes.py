"""Probes: questions with one right answer among a few, scored by likelihood.

A file is `.jsonl`, one object a line. "facts" have "prompt", "answer" and "relation": the wrong choices
are the answers of the other facts of that relation. "reading" has "passage", "question", "answer" and
"others", of which all choices stand in the passage. "continuation" has "text", "answer" and "others". Every
line has an "id". A text is followed by a space and the answer.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from engram_interp.errors import InputError

ProbeKind = Literal["facts", "reading", "continuation"]
KINDS: tuple[ProbeKind, ...] = get_args(ProbeKind)
_FIELDS: dict[ProbeKind, tuple[str, ...]] = {
    "facts": ("relation", "prompt", "answer"),
    "reading": ("passage", "question", "answer", "others"),
    "continuation": ("text", "answer", "others"),
}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One question.

    Attributes:
        id: Its name.
        prompt: What the answer follows, after a space.
        bare: The prompt without the passage that answers it; empty where there is none: choices are then
            compared with themselves after the separator alone.
        answer: The right choice.
        others: The wrong choices, at least one.

    Raises:
        InputError: If a text is empty or a choice occurs twice.
    """

    id: str
    prompt: str
    answer: str
    others: tuple[str, ...]
    bare: str = ""

    def __post_init__(self) -> None:
        texts = (self.prompt, *self.choices)
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise InputError(f"Probe {self.id!r} wants a text and choices that are not empty, got {texts}.")
        twice = [choice for choice, count in Counter(self.choices).items() if count > 1]
        if twice or not self.others:
            what = f"{twice[0]!r} occurs twice" if twice else "there is no wrong one"
            raise InputError(f"Probe {self.id!r} wants at least two different choices; {what}.")

    @property
    def choices(self) -> tuple[str, ...]:
        """All choices, the right one first."""
        return (self.answer, *self.others)


@dataclass(frozen=True, kw_only=True)
class ProbeSet:
    """Probes of one kind.

    Attributes:
        name: What results call the set.
        kind: "facts", "reading" or "continuation".
        probes: The probes, at least one, with unique ids.
    """

    name: str
    kind: ProbeKind
    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        if not self.probes:
            raise InputError(f"The probe set {self.name!r} is empty; give at least one probe.")
        twice = [name for name, count in Counter(probe.id for probe in self.probes).items() if count > 1]
        if twice:
            raise InputError(f"The probes of {self.name!r} want unique ids, {twice[0]!r} occurs twice.")

    def __len__(self) -> int:
        return len(self.probes)


def load(kind: ProbeKind) -> ProbeSet:
    """The packaged probes of a kind, written for this project: 84 facts, 36 short passages, 40 continuations.

    >>> load("facts").probes[0].prompt
    'The capital of France is'

    Raises:
        InputError: If there is no such kind.
    """
    _check_kind(kind)
    text = (files("engram_interp") / "assets" / "probes" / f"{kind}.jsonl").read_text(encoding="utf-8")
    return _parsed(text, kind=kind, name=kind, where=f"packaged probes {kind!r}")


def from_file(path: str | Path, *, kind: ProbeKind) -> ProbeSet:
    """Probes of a UTF-8 `.jsonl` file.

    Raises:
        InputError: If the file is missing, not UTF-8, or a line is no probe of that kind; the message names
            the line.
    """
    _check_kind(kind)
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No probe file at {path}; give the path of a .jsonl file.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as cause:
        raise InputError(f"{path} is not UTF-8 ({cause.reason}); convert the file first.") from cause
    return _parsed(text, kind=kind, name=path.stem, where=str(path))


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InputError(f"No probes of the kind {kind!r}; there are {', '.join(KINDS)}.")


def _parsed(text: str, *, kind: ProbeKind, name: str, where: str) -> ProbeSet:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    entries = [_entry(line, kind=kind, where=f"{where}, line {number}") for number, line in lines]
    if kind == "facts":
        answers: dict[str, dict[str, None]] = {}
        for entry in entries:
            answers.setdefault(entry["relation"], {})[entry["answer"]] = None
        for entry in entries:
            entry["others"] = [a for a in answers[entry["relation"]] if a != entry["answer"]]
    return ProbeSet(name=name, kind=kind, probes=tuple(_probe(entry, kind) for entry in entries))


def _entry(line: str, *, kind: ProbeKind, where: str) -> dict[str, Any]:
    wanted = ("id", *_FIELDS[kind])
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as cause:
        raise InputError(f"{where} wants one JSON object; {cause}.") from cause
    if not isinstance(entry, Mapping) or set(wanted) - set(entry):
        raise InputError(f"{where} wants an object with {', '.join(wanted)} for {kind}, got {line[:60]}.")
    for field in wanted:
        value = entry[field]
        listed = field == "others"
        fits = isinstance(value, list) and all(isinstance(v, str) for v in value) if listed else value
        if not fits or not (listed or isinstance(value, str)):
            what = "a list of strings" if listed else "a string that is not empty"
            raise InputError(f"{where} wants {what} as {field!r}, got {value!r}.")
    absent = [c for c in (entry["answer"], *entry.get("others", ())) if c not in entry.get("passage", c)]
    if kind == "reading" and absent:
        raise InputError(f"{where} wants choices that stand in the passage; {absent[0]!r} does not.")
    return dict(entry)


def _probe(entry: Mapping[str, Any], kind: ProbeKind) -> Probe:
    prompt = {"facts": "prompt", "reading": "question", "continuation": "text"}[kind]
    text = entry[prompt]
    return Probe(
        id=entry["id"],
        prompt=f"{entry['passage']} {text}" if kind == "reading" else text,
        bare=text if kind == "reading" else "",
        answer=entry["answer"],
        others=tuple(entry["others"]),
    )
