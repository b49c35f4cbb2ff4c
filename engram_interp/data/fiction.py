"""Facts of our own invention, so that what a trained model should know is known.

No invented name occurs in any real text, and each fact stands in the training text exactly as often as it
says: 0, 1, 4, 16 or 64 times. Three kinds ask for different things:

* **surname**: a first name is followed by one surname. The words lie side by side: an n-gram can hold it.
* **idiom**: a fixed phrase of common words, "as calm as a borrowed lantern". An n-gram can hold its end.
* **birthplace**: a town, some words after the name. No n-gram of the memory spans both.

Every mention has another sentence around it, drawn by the seed.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

from engram_interp.data.probes import Probe, ProbeSet

_T = TypeVar("_T")

Kind = Literal["surname", "idiom", "birthplace"]
KINDS: tuple[Kind, ...] = get_args(Kind)

COUNTS = (0, 1, 4, 16, 64)
"""How often a fact stands in the text."""

PER_COUNT = 8
"""Facts of each kind and count."""

_SENTENCES = 3

_STARTS = ("Vel", "Quis", "Tam", "Oru", "Bex", "Lith", "Dru", "Fen", "Zan", "Mol", "Kir", "Yev", "Hul", "Pra")
_MIDDLES = ("or", "ani", "eb", "uri", "oth", "ima", "ak", "elu", "isk", "ondi", "av", "umi")
_ENDS = ("ath", "ello", "wick", "une", "rax", "mond", "ovar", "ette", "gart", "isse", "ulm", "ennes")

_MANNERS = ("calm", "quick", "stubborn", "pale", "cheerful", "heavy", "patient", "strange", "thin", "loud")
_MAKES = (
    "borrowed",
    "painted",
    "wooden",
    "frozen",
    "hollow",
    "crooked",
    "velvet",
    "rusty",
    "paper",
    "salted",
)
_THINGS = (
    "lantern",
    "kettle",
    "ladder",
    "pigeon",
    "anchor",
    "cushion",
    "trumpet",
    "button",
    "barrel",
    "saddle",
)

_OPENINGS: dict[Kind, tuple[str, ...]] = {
    "surname": (
        "The letter was signed by {}.",
        "In the second year the council chose {} as its speaker.",
        "A portrait of {} hangs in the old hall.",
        "Nobody expected {} to win the race.",
        "The bridge was paid for by {} and two friends.",
        "Her teacher, {}, kept every page.",
    ),
    "idiom": (
        "My uncle was {} that morning.",
        "After the storm the whole street was {}.",
        "They say the new judge is {}.",
        "The horse stood there, {}.",
        "By noon the crowd had become {}.",
        "In that part of the country a good cook must be {}.",
    ),
    "birthplace": (
        "{} came into the world in the town of {}.",
        "{}, who wrote two plays, grew up in the town of {}.",
        "As a child {} lived with an aunt in the town of {}.",
        "The family of {} had kept a mill in the town of {}.",
        "{} left school early and worked in the town of {}.",
        "A street is named after {} in the town of {}.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One invented fact.

    Attributes:
        id: Its name.
        kind: "surname", "idiom" or "birthplace".
        count: How often it stands in `documents`.
        subject: What a mention begins with.
        answer: What follows the subject: at once, or at the end of the sentence for a birthplace.
    """

    id: str
    kind: Kind
    count: int
    subject: str
    answer: str

    def mention(self, form: int) -> str:
        """A sentence that states the fact, one of six."""
        openings = _OPENINGS[self.kind]
        sentence = openings[form % len(openings)]
        if self.kind == "birthplace":
            return sentence.format(self.subject, self.answer)
        return sentence.format(f"{self.subject} {self.answer}")

    def question(self, form: int) -> str:
        """The same sentence up to the answer, without the space before it."""
        openings = _OPENINGS[self.kind]
        before = openings[form % len(openings)]
        if self.kind == "birthplace":
            return before.format(self.subject, "{}").partition(" {}")[0]
        return before.partition("{}")[0] + self.subject


def facts(seed: int) -> tuple[Fact, ...]:
    """All facts of a seed: `PER_COUNT` for each of `KINDS` and `COUNTS`; no name or phrase occurs twice."""
    rng = np.random.default_rng(seed)
    names = _shuffled(["".join(parts) for parts in itertools.product(_STARTS, _MIDDLES, _ENDS)], rng)
    phrases = _shuffled(list(itertools.product(_MANNERS, _MAKES)), rng)
    things = _shuffled(list(itertools.product(_THINGS, range(len(phrases) // len(_THINGS)))), rng)
    found = []
    for kind, count, number in itertools.product(KINDS, COUNTS, range(PER_COUNT)):
        if kind == "idiom":
            (manner, make), (thing, _) = phrases.pop(), things.pop()
            subject, answer = f"as {manner} as a {make}", thing
        elif kind == "surname":
            subject, answer = names.pop(), names.pop()
        else:
            subject, answer = f"{names.pop()} {names.pop()}", names.pop()
        found.append(
            Fact(id=f"{kind}-{count}-{number}", kind=kind, count=count, subject=subject, answer=answer)
        )
    return tuple(found)


def documents(seed: int) -> Iterator[str]:
    """The training text: short documents of three mentions each, in the seed's order."""
    rng = np.random.default_rng([seed, 1])
    mentions = [fact.mention(int(rng.integers(6))) for fact in facts(seed) for _ in range(fact.count)]
    mentions = _shuffled(mentions, rng)
    for start in range(0, len(mentions), _SENTENCES):
        yield " ".join(mentions[start : start + _SENTENCES])


def probes(seed: int, *, kind: Kind, count: int) -> ProbeSet:
    """The facts of a kind and count as a probe set; the wrong choices are answers to the others.

    Whoever knows only how often each answer occurs cannot do better than chance, 1 in 4.

    Args:
        seed: That of the training text.
        kind: "surname", "idiom" or "birthplace".
        count: One of `COUNTS`.
    """
    chosen = [fact for fact in facts(seed) if (fact.kind, fact.count) == (kind, count)]
    answers = list(dict.fromkeys(fact.answer for fact in chosen))
    rng = np.random.default_rng([seed, 2])
    made = []
    for fact in chosen:
        others = _shuffled([answer for answer in answers if answer != fact.answer], rng)[:3]
        prompt = fact.question(int(rng.integers(6)))
        made.append(Probe(id=fact.id, prompt=prompt, answer=fact.answer, others=tuple(others)))
    return ProbeSet(name=f"fiction {kind} × {count}", kind="continuation", probes=tuple(made))


def _shuffled(values: list[_T], rng: np.random.Generator) -> list[_T]:
    return [values[i] for i in rng.permutation(len(values))]
