"""Invented facts: how often each stands in the text, and what its probe asks."""

import re
from collections import Counter

import pytest

from engram_interp.data import fiction


def test_every_fact_stands_in_the_text_as_often_as_it_says() -> None:
    text = "\n".join(fiction.documents(3))
    facts = fiction.facts(3)
    assert Counter((f.kind, f.count) for f in facts) == {
        (kind, count): fiction.PER_COUNT for kind in fiction.KINDS for count in fiction.COUNTS
    }
    for fact in facts:
        between = r" in the town of " if fact.kind == "birthplace" else " "
        found = re.findall(rf"{fact.subject}\b[^.]*?{between}(\w+)", text)
        assert found == [fact.answer] * fact.count, fact.id


def test_no_subject_stands_for_two_facts() -> None:
    subjects = Counter(fact.subject for fact in fiction.facts(0))
    assert set(subjects.values()) == {1}


def test_a_seed_is_one_text() -> None:
    assert list(fiction.documents(1)) == list(fiction.documents(1))
    assert list(fiction.documents(1)) != list(fiction.documents(2))


@pytest.mark.parametrize("kind", fiction.KINDS)
@pytest.mark.parametrize("count", fiction.COUNTS)
def test_probes_ask_for_the_facts_with_choices_that_are_as_frequent(kind: fiction.Kind, count: int) -> None:
    facts = {fact.id: fact for fact in fiction.facts(0)}
    answers = {f.answer for f in facts.values() if (f.kind, f.count) == (kind, count)}
    found = fiction.probes(0, kind=kind, count=count)
    assert len(found) == fiction.PER_COUNT
    for probe in found.probes:
        fact = facts[probe.id]
        assert probe.answer == fact.answer
        assert probe.prompt.endswith(" in the town of" if kind == "birthplace" else fact.subject)
        assert fact.subject in probe.prompt
        assert fact.answer not in probe.prompt
        assert set(probe.others) < answers
