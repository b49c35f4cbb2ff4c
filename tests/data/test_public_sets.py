"""Readers of public evaluation sets, on lines of our own in their formats."""

import json
import lzma
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_interp.data import public_sets
from engram_interp.errors import InputError
from tests import support

TAGGED = """The\tO
Old\tbuilding-other
Mill\tbuilding-other
(\tO
1887\tO
)\tO
belongs\tO
to\tO
Ada\tperson-other
,\tO
Bo\tperson-other
.\tO

No\tO
name\tO
here\tO
.\tO

Orvane\tlocation-other
Mara\tperson-other
said\tO
``\tO
yes\tO
''\tO
"""


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_entities_are_runs_of_one_label(tmp_path: Path) -> None:
    path = tmp_path / "tagged.txt.xz"
    path.write_bytes(lzma.compress(TAGGED.encode()))
    found = public_sets.few_nerd(path)
    assert found.texts == ("The Old Mill (1887) belongs to Ada, Bo.", 'Orvane Mara said " yes "')
    named = [[text[a:b] for a, b in spans] for text, spans in zip(found.texts, found.entities, strict=True)]
    assert named == [["Old Mill", "Ada", "Bo"], ["Orvane", "Mara"]]
    assert len(public_sets.few_nerd(path, n=1)) == 1
    path.write_bytes(lzma.compress(b"word without a label\n"))
    with pytest.raises(InputError, match=r"line 1 wants a token, a tab and a label"):
        public_sets.few_nerd(path)
    path.write_bytes(lzma.compress(b"word\tO\n"))
    with pytest.raises(InputError, match="no sentence with an entity"):
        public_sets.few_nerd(path)


def test_support_counts_paragraphs_that_name_both() -> None:
    texts = ["Ada lives in Bree.\nAda went to Cray. Ada saw Bree and Cray.", "Bree is far.\nAdam of Bree"]
    pairs = [("Ada", "Bree"), ("Ada", "Cray"), ("Bree", "Ada"), ("St. Ives-on-Sea", "Bree"), ("?", "x")]
    assert public_sets.support(pairs, texts).tolist() == [2, 1, 3, 0, 0]


def test_support_agrees_with_its_definition() -> None:
    texts = support.documents(40, seed=2)
    words = sorted(set(re.findall(r"[a-z]+", " ".join(texts))))
    pairs = [(str(a), str(b)) for a, b in np.random.default_rng(0).choice(words, (60, 2))]
    paragraphs = [p for text in texts for p in text.split("\n")]
    wanted = [sum(bool(re.search(rf"\b{a}\b", p)) and b in p for p in paragraphs) for a, b in pairs]
    assert public_sets.support(pairs, texts).tolist() == wanted and sum(wanted) > 0


def test_facts_stand_in_their_class_of_support(tmp_path: Path) -> None:
    rows = [
        {
            "relation": "capital",
            "subject": f"Land{i}",
            "object": f"City{i % 5}",
            "prompts": [f"The capital of Land{i} is"],
        }
        for i in range(12)
    ]
    rows.append({**rows[0], "prompts": ["Land0's capital, City0, is"]})  # tells the answer
    rows.append({**rows[1]})  # twice
    rows += [{"relation": "rare", "subject": f"S{i}", "object": f"O{i}", "prompts": ["x"]} for i in range(2)]
    training = [f"Land{i} has City{i % 5}." for i in range(3) for _ in range(6 * i)]
    path = lines(tmp_path / "f.jsonl", rows)
    sets = public_sets.facts_by_support(path, training, n_choices=4)
    assert [one.name for one in sets] == ["facts, support 0", "facts, support 5–49"]
    assert [len(one) for one in sets] == [10, 2]
    for one in sets:
        for probe in one.probes:
            land = int(probe.prompt.removeprefix("The capital of Land").removesuffix(" is"))
            assert probe.answer == f"City{land % 5}" and len(set(probe.choices)) == 4
    again = public_sets.facts_by_support(path, training, n_choices=4)
    assert again == sets and len(public_sets.facts_by_support(path, training, per_class=3)[0]) == 3
    with pytest.raises(InputError, match="no relation with 9 objects"):
        public_sets.facts_by_support(path, training, n_choices=9)


def test_continuation_and_reading(tmp_path: Path) -> None:
    path = lines(tmp_path / "l.jsonl", [{"text": f"a passage that ends in word{i}"} for i in range(9)])
    found = public_sets.lambada(path, n=6)
    assert len(found) == 6
    for probe in found.probes:
        assert probe.prompt == "a passage that ends in" and len(set(probe.choices)) == 4
    rows = [{"question": f"is it {i}", "passage": f"It is {i}.", "answer": i % 3 == 0} for i in range(9)]
    read = public_sets.boolq(lines(tmp_path / "b.jsonl", rows), n=6)
    assert [probe.answer for probe in read.probes] == ["yes"] * 3 + ["no"] * 3
    first = read.probes[0]
    assert first.prompt.startswith("It is ") and first.prompt.endswith(first.bare) and first.others == ("no",)
    with pytest.raises(InputError, match="no question answered yes of at most 3 characters"):
        public_sets.boolq(tmp_path / "b.jsonl", longest=3)
    with pytest.raises(InputError, match=r"has 0 last words .* wants 4"):
        public_sets.lambada(path, longest=3)
    with pytest.raises(InputError, match="line 1 wants an object with text"):
        public_sets.lambada(tmp_path / "b.jsonl")
