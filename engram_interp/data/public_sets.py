"""Readers of public evaluation sets: entities in sentences, facts by support, continuation, reading.

The sets are other people's and none of them ships with the package: Few-NERD (Ding et al. 2021), factual
triples as in ParaRel, LRE, ROME and PopQA, LAMBADA (Paperno et al. 2016), BoolQ (Clark et al. 2019). Files
are plain or .xz.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from engram_interp.data.documents import read_text
from engram_interp.data.probes import Probe, ProbeSet
from engram_interp.data.prompts import PromptSet, Span
from engram_interp.errors import InputError

__all__ = ["SUPPORT", "boolq", "facts_by_support", "few_nerd", "lambada", "support"]

SUPPORT = ("0", "1–4", "5–49", "≥ 50")
"""Classes of support: how many paragraphs of the training text name both subject and object."""
_EDGES = (1, 5, 50)

_NO_SPACE_BEFORE = frozenset([*".,;:!?%)]}", "'s", "n't", "'", "’s", "’"])
_NO_SPACE_AFTER = frozenset(["(", "[", "{", "$", "£", "#"])
_OUTSIDE = "O"


def few_nerd(path: str | Path, *, n: int = 400, seed: int = 0, name: str = "few-nerd") -> PromptSet:
    """Sentences with their entities, drawn at random, from ``token<TAB>label`` lines.

    Neighbouring tokens of one label are one entity; sentences without an entity are left out. Tokens are
    joined by spaces, but none before closing or after opening punctuation; a blank line ends a sentence.

    Args:
        path: The file.
        n: Sentences to draw; all if there are fewer.
        seed: Of the draw.
        name: Of the prompt set.

    Raises:
        InputError: If the file is missing, a line is no token and label, or no sentence has an entity.
    """
    found: list[tuple[str, tuple[Span, ...]]] = []
    numbered = enumerate(read_text(path).split("\n"), start=1)
    for blank, lines in groupby(numbered, key=lambda line: not line[1].strip()):
        if not blank:
            text, spans = _sentence([_tagged(line, f"{path}, line {number}") for number, line in lines])
            if spans:
                found.append((text, spans))
    if not found:
        raise InputError(f"{path} has no sentence with an entity; it wants lines of a token, a tab, a label.")
    drawn = [found[i] for i in _drawn(len(found), n, seed)]
    return PromptSet(
        name=name,
        ids=tuple(f"{name}-{i}" for i in range(len(drawn))),
        texts=tuple(text for text, _ in drawn),
        entities=tuple(spans for _, spans in drawn),
        source=f"{Path(path).name}, {len(drawn)} sentences drawn with seed {seed}",
    )


def facts_by_support(
    path: str | Path,
    training: Sequence[str],
    *,
    per_class: int = 150,
    n_choices: int = 4,
    seed: int = 0,
    named: str = "facts",
) -> list[ProbeSet]:
    """Factual probes in classes of support, counted in the text that a model was trained on.

    A line is an object with "relation", "subject", "object" and "prompts", of which the first is asked; one
    that has the object in it is left out. Wrong
    choices are other objects of the relation, drawn at random in proportion to how often they occur there, so
    that what is frequent is wrong as often as right.

    Args:
        path: The .jsonl file.
        training: The documents trained on.
        per_class: Probes to draw a class of support; all where there are fewer.
        n_choices: Choices a probe, the right one included; relations with fewer objects are left out.
        seed: Of the draws.
        named: Of the sets: "facts, support 1–4".

    Returns:
        One set a class of `SUPPORT` that has probes.

    Raises:
        InputError: If the file is missing, a line is no such object, or no relation has enough objects.
    """
    rows = [dict(zip(_TRIPLE, row, strict=True)) for row in dict.fromkeys(_triples(path))]
    objects: dict[str, Counter[str]] = {}
    for row in rows:
        objects.setdefault(row["relation"], Counter())[row["object"]] += 1
    rows = [row for row in rows if len(objects[row["relation"]]) >= n_choices]
    if n_choices < 2 or not rows:
        raise InputError(f"{path} has no relation with {max(n_choices, 2)} objects to choose between.")
    counts = support([(row["subject"], row["object"]) for row in rows], training)
    which = np.digitize(counts, _EDGES)
    rng = np.random.default_rng(seed)
    sets = []
    for number, label in enumerate(SUPPORT):
        inside = np.flatnonzero(which == number)
        if not len(inside):
            continue
        chosen = np.sort(rng.choice(inside, min(per_class, len(inside)), replace=False))
        probes = tuple(
            _fact(rows[i], objects[rows[i]["relation"]], n_choices, rng, i) for i in chosen.tolist()
        )
        sets.append(ProbeSet(name=f"{named}, support {label}", kind="facts", probes=probes))
    return sets


def support(pairs: Sequence[tuple[str, str]], training: Sequence[str]) -> np.ndarray:
    """Paragraphs of the training text that name both of a pair, as written: an upper bound of support.

    The subject's longest word must be a word of the paragraph ("Ada" does not stand in "Adam").

    Args:
        pairs: Subject and object.
        training: Documents; a line is a paragraph.

    Returns:
        Counts, int64 [pair].
    """
    by_subject: dict[str, list[int]] = {}
    for number, (subject, _) in enumerate(pairs):
        by_subject.setdefault(subject, []).append(number)
    # A subject is looked for only where its longest word stands: one pass over the words of a paragraph.
    by_word: dict[str, list[str]] = {}
    for subject in by_subject:
        by_word.setdefault(max(_words(subject) or [""], key=len), []).append(subject)
    counts = np.zeros(len(pairs), np.int64)
    for document in training:
        for paragraph in document.split("\n"):
            for word in {*_words(paragraph), ""} & by_word.keys():
                for subject in by_word[word]:
                    if subject in paragraph:
                        for number in by_subject[subject]:
                            counts[number] += pairs[number][1] in paragraph
    return counts


def lambada(
    path: str | Path, *, n: int = 300, n_choices: int = 4, longest: int = 800, seed: int = 0
) -> ProbeSet:
    """Continuation: the last word of a passage, against last words of others, from lines with "text".

    Args:
        path: The .jsonl file.
        n: Probes to draw.
        n_choices: Choices a probe, the right one included.
        longest: Characters a passage may have; longer ones are left out.
        seed: Of the draws.

    Raises:
        InputError: If the file is missing, a line is no such object, or too few passages are short enough.
    """
    cut = [str(row["text"]).strip().rpartition(" ") for row in _objects(path, ("text",))]
    parts = [(text, word) for text, _, word in cut if text and len(text) <= longest]
    words = sorted({word for _, word in parts})
    if len(words) < n_choices:
        raise InputError(f"{path} has {len(words)} last words of passages short enough, wants {n_choices}.")
    rng = np.random.default_rng(seed)
    probes = []
    for i in _drawn(len(parts), n, rng):
        text, word = parts[i]
        others = [w for w in rng.choice(words, n_choices, replace=False).tolist() if w != word][
            : n_choices - 1
        ]
        probes.append(Probe(id=f"lambada-{i}", prompt=text, answer=word, others=tuple(others)))
    return ProbeSet(name="lambada", kind="continuation", probes=tuple(probes))


def boolq(path: str | Path, *, n: int = 300, longest: int = 700, seed: int = 0) -> ProbeSet:
    """Reading: yes or no to a question on a passage, against the same question without the passage.

    Lines have "question", "passage" and "answer", or "label" (true or false); as many of either are drawn.

    Args:
        path: The .jsonl file.
        n: Probes to draw, half of them answered yes.
        longest: Characters that passage and question may have; longer ones are left out.
        seed: Of the draw.

    Raises:
        InputError: If the file is missing, a line is no such object, or no passage of an answer is short
            enough.
    """
    rows = [
        r
        for r in _objects(path, ("question", "passage"))
        if len(str(r["passage"])) + len(str(r["question"])) <= longest
    ]
    rng = np.random.default_rng(seed)
    probes = []
    for answer, word, other in ((True, "yes", "no"), (False, "no", "yes")):
        own = [i for i, row in enumerate(rows) if row.get("answer", row.get("label")) is answer]
        if not own:
            raise InputError(f"{path} has no question answered {word} of at most {longest} characters.")
        for i in (own[k] for k in _drawn(len(own), n // 2, rng)):
            question = f"{str(rows[i]['question']).strip().capitalize()}? Answer:"
            passage = str(rows[i]["passage"]).strip()
            prompt = f"{passage}\n{question}"
            probes.append(Probe(id=f"boolq-{i}", prompt=prompt, bare=question, answer=word, others=(other,)))
    return ProbeSet(name="boolq", kind="reading", probes=tuple(probes))


def _tagged(line: str, where: str) -> tuple[str, str]:
    token, tab, label = line.rstrip("\r").partition("\t")
    if not tab or not token.strip() or not label.strip():
        raise InputError(f"{where} wants a token, a tab and a label, got {line[:60]!r}.")
    return ('"' if token in ("``", "''") else token), label.strip()


def _sentence(tokens: Sequence[tuple[str, str]]) -> tuple[str, tuple[Span, ...]]:
    """A sentence's text and the spans of its entities in characters."""
    text, spans, before = "", list[list[int]](), _OUTSIDE
    for index, (token, label) in enumerate(tokens):
        tight = token in _NO_SPACE_BEFORE or (index > 0 and tokens[index - 1][0] in _NO_SPACE_AFTER)
        text += token if index == 0 or tight else f" {token}"
        if label != _OUTSIDE:
            if label == before:
                spans[-1][1] = len(text)
            else:
                spans.append([len(text) - len(token), len(text)])
        before = label
    return text, tuple((start, end) for start, end in spans)


_TRIPLE = ("relation", "subject", "object", "prompt")


def _triples(path: str | Path) -> Iterator[tuple[str, str, str, str]]:
    for row in _objects(path, ("relation", "subject", "object", "prompts")):
        prompts = row["prompts"]
        asked = prompts[0] if isinstance(prompts, list) and prompts else ""
        answer = str(row["object"]).strip()
        if str(asked).strip() and answer and answer not in asked:  # else the prompt tells it
            yield str(row["relation"]), str(row["subject"]), answer, str(asked).strip()


def _fact(
    row: Mapping[str, str], objects: Counter[str], n_choices: int, rng: np.random.Generator, number: int
) -> Probe:
    others = sorted(set(objects) - {row["object"]})
    weights = np.array([objects[other] for other in others], float)
    drawn = rng.choice(others, n_choices - 1, replace=False, p=weights / weights.sum()).tolist()
    return Probe(id=f"fact-{number}", prompt=row["prompt"], answer=row["object"], others=tuple(drawn))


def _objects(path: str | Path, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as cause:
            raise InputError(f"{path}, line {number} wants one JSON object; {cause}.") from cause
        if not isinstance(row, Mapping) or set(wanted) - set(row):
            raise InputError(
                f"{path}, line {number} wants an object with {', '.join(wanted)}, got {line[:60]}."
            )
        yield row


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text).split()


def _drawn(count: int, n: int, seed: int | np.random.Generator) -> list[int]:
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(count, min(n, count), replace=False).tolist())
