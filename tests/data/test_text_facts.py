"""What a record tells of texts, and which other texts it refuses."""

from pathlib import Path
from typing import Any

import pytest

from engram_interp.data.documents import text_digest
from engram_interp.data.text_facts import refuse_other_texts, refuse_trained_texts, text_facts
from engram_interp.errors import InputError


def written(folder: Path, **texts: str) -> list[Path]:
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return [folder / f"{name}.txt" for name in texts]


def test_every_file_is_told_by_name_and_digest(tmp_path: Path) -> None:
    a, b, c = written(tmp_path, a="One.", b="Two.", c="Three.")
    facts = text_facts([b, a], [c])
    assert (facts["text_files"], facts["valid_files"]) == (["b.txt", "a.txt"], ["c.txt"])
    assert facts["text_sha256"] == text_digest([b, a]) != text_digest([a, b])
    assert facts["text_file_sha256"] == [text_digest([b]), text_digest([a])]
    assert facts["valid_sha256"] == text_digest([c])
    assert text_facts([a])["valid_sha256"] is None


def test_the_order_of_files_counts_and_their_names_do_not(tmp_path: Path) -> None:
    a, b, copy = written(tmp_path, a="One.", b="Two.", copy="One.")
    recorded = text_facts([a, b])
    refuse_other_texts("run", recorded, text_facts([copy, b]))
    with pytest.raises(
        InputError, match=r"run trains on a.txt, b.txt \(sha256 .*gives b.txt, a.txt \(sha256"
    ):
        refuse_other_texts("run", recorded, text_facts([b, a]))
    held: dict[str, Any] = recorded | {"valid_sha256": "0" * 64, "valid_files": ["v.txt"]}
    with pytest.raises(
        InputError, match=r"run holds out the end of the training text, and --valid gives v.txt"
    ):
        refuse_other_texts("run", recorded, held)


def test_text_that_one_of_several_files_held_is_refused(tmp_path: Path) -> None:
    a, b, c = written(tmp_path, a="One.", b="Two.", c="Three.")
    runs = {"x": text_facts([a]), "y": text_facts([a, b]), "z": text_facts([c])}
    refuse_trained_texts({"x": runs["x"]}, [b, c])
    with pytest.raises(InputError, match=r"and y trained on b.txt; give another as --text"):
        refuse_trained_texts(runs, [b])
    whole = {"y": {"text_sha256": runs["y"]["text_sha256"]}}  # as earlier versions recorded it
    with pytest.raises(InputError, match=r"and y trained on a.txt, b.txt; give"):
        refuse_trained_texts(whole, [a, b])


def test_text_cannot_be_both_trained_on_and_held_out(tmp_path: Path) -> None:
    a, b, copy = written(tmp_path, a="One.", b="Two.", copy="Two.")
    with pytest.raises(InputError, match=r"copy.txt is to be held out and is the same text as .*b.txt"):
        text_facts([a, b], [copy])
    assert text_facts([a], [b])["valid_files"] == ["b.txt"]
