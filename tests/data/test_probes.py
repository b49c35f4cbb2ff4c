"""The packaged probes are sound, and files that are not say where."""

import json
from pathlib import Path
from typing import Any

import pytest

from engram_interp.data import probes
from engram_interp.data.probes import Probe, ProbeSet
from engram_interp.errors import InputError

READING = {"id": "a", "passage": "Ada saw Bo.", "question": "Ada saw", "answer": "Bo", "others": ["Ada"]}


@pytest.mark.parametrize(("kind", "count"), [("facts", 84), ("reading", 36), ("continuation", 40)])
def test_the_packaged_probes_are_sound(kind: Any, count: int) -> None:
    found = probes.load(kind)
    assert (found.name, found.kind, len(found)) == (kind, kind, count)
    assert all(bool(p.bare) == (kind == "reading") for p in found.probes)
    assert all(p.prompt.endswith(p.bare) and not p.prompt.endswith(" ") for p in found.probes)
    assert min(len(p.choices) for p in found.probes) >= 3
    if kind == "facts":  # one answer given always is right no more often than a guess
        for choices in {frozenset(p.choices) for p in found.probes}:
            right = [p.answer for p in found.probes if frozenset(p.choices) == choices]
            assert max(map(right.count, choices)) / len(right) <= 1 / len(choices) + 1e-9
    if kind == "reading":  # where the answer stands in its passage tells nothing
        places = [sorted(p.choices, key=p.prompt.index).index(p.answer) for p in found.probes]
        assert all(0.15 < places.count(place) / count < 0.6 for place in range(3))


def test_the_wrong_answers_of_a_fact_are_those_of_its_relation(tmp_path: Path) -> None:
    rows = [("x", "1"), ("x", "2"), ("x", "2"), ("y", "3"), ("y", "4")]
    path = tmp_path / "own.jsonl"
    lines = [
        json.dumps({"id": str(i), "relation": r, "prompt": f"p{i}", "answer": a})
        for i, (r, a) in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    found = probes.from_file(path, kind="facts")
    assert found.name == "own"
    assert [p.choices for p in found.probes] == [("1", "2"), ("2", "1"), ("2", "1"), ("3", "4"), ("4", "3")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 1 wants one JSON object"),
        ("[1]", r"line 1 wants an object with id, passage, question, answer, others for reading, got \[1\]"),
        (json.dumps(READING | {"answer": "Cy"}), r"choices that stand in the passage; 'Cy' does not"),
        (json.dumps(READING | {"others": "Ada"}), r"wants a list of strings as 'others', got 'Ada'"),
        (json.dumps(READING | {"question": ""}), r"wants a string that is not empty as 'question', got ''"),
        (
            json.dumps(READING | {"others": []}),
            r"at least two different choices; there is no wrong one",
        ),
        (json.dumps(READING | {"others": ["Bo"]}), r"at least two different choices; 'Bo' occurs twice"),
        ("", r"The probe set 'own' is empty"),
    ],
)
def test_a_line_that_is_no_probe_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        probes.from_file(path, kind="reading")


def test_files_and_kinds_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No probe file at"):
        probes.from_file(tmp_path / "none.jsonl", kind="facts")
    with pytest.raises(InputError, match="No probes of the kind 'fact'; there are facts, reading"):
        probes.load("fact")  # type: ignore[arg-type]
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8"):
        probes.from_file(tmp_path / "x.jsonl", kind="facts")
    one = Probe(id="a", prompt="p", answer="b", others=("c",))
    with pytest.raises(InputError, match="want unique ids, 'a' occurs twice"):
        ProbeSet(name="s", kind="facts", probes=(one, one))
