"""`index`, and `slots --index`: who else lives in the rows of a prompt."""

import json
from pathlib import Path

import pytest

from engram_interp import slots
from engram_interp.checkpoints import load_model
from tests.checkpoints import v41_files
from tests.cli.harness import one_line, run

TEXT = "nax kal zor vel besto\n<|endoftext|>\nnax yod zor vel amri zor vel\n<|endoftext|>\nyod kal dal\n"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted model's index of three documents; ``kal dal`` shares a row with ``zor vel`` (planted)."""
    folder = tmp_path_factory.mktemp("indexed")
    (folder / "a.txt").write_text(TEXT, encoding="utf-8")
    result = run("index", "planted", "--text", folder / "a.txt", "--out", folder / "index")
    assert result.exit_code == 0, result.stderr
    assert "have company in a head's row" in result.stdout and "Index of 18 tokens" in result.stdout
    assert "encoding: 3 documents, 18 tokens" in result.stderr
    return folder / "index"


def test_slots_name_who_else_lives_there(indexed: Path) -> None:
    result = run("slots", "planted", "--text", "yod zor vel", "--index", indexed, "--json")
    last = [r for r in json.loads(result.stdout)["records"] if r["token"] == 3 and r["layer"] == 1]
    told = [(r["ngram"], r["row_ngrams"], r["row_reads"], r["other"], r["other_count"]) for r in last[:3]]
    assert told == [
        ("zor|vel", 1, 3, None, None),
        ("zor|vel", 1, 3, None, None),
        ("zor|vel", 2, 4, "kal|dal", 1),
    ]
    model = load_model("planted")
    opened = slots.open_index(indexed, model)
    data = slots.occupants(model, opened, layer=1, address=last[2]["address"]).data
    assert (int(data["ngrams"]), int(data["occurrences"])) == (2, 4)


def test_the_table_shows_it_too(indexed: Path) -> None:
    lines = run("slots", "planted", "--text", "yod zor vel", "--index", indexed).stdout.splitlines()
    assert next(line for line in lines if line.startswith("token")).endswith("most frequent other")
    assert any(line.endswith("kal|dal (1)") for line in lines)


def test_an_index_of_another_layout_is_refused(indexed: Path, folder: Path) -> None:
    result = run("slots", folder / "engram", "--text", "Kalo", "--index", indexed)
    one_line(result, "was built with another hash layout", "Build one for this model")


def test_what_cannot_be_indexed(folder: Path, tmp_path: Path) -> None:
    one_line(
        run("index", "planted", "--text", tmp_path / "no.txt", "--out", tmp_path / "i"), "No text file at"
    )
    text = folder / "one.txt"
    one_line(run("index", folder / "baseline", "--text", text, "--out", tmp_path / "i"), "has no memory")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("b")
    one_line(run("index", "planted", "--text", text, "--out", tmp_path / "mine"), "nothing in it was changed")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_the_tables_of_a_model_too_large_to_load(tmp_path: Path) -> None:
    v41_files.write(tmp_path / "book", tables=False)
    (tmp_path / "a.txt").write_text("The Kalo of Dor\n<|endoftext|>\nThe Kalo of Mi\n", encoding="utf-8")
    made = run("index", tmp_path / "book", "--text", tmp_path / "a.txt", "--out", tmp_path / "index")
    assert made.exit_code == 0, made.stderr
    result = run("slots", tmp_path / "book", "--text", "The Kalo", "--index", tmp_path / "index", "--json")
    records = json.loads(result.stdout)["records"]
    last = [r for r in records if r["token"] == records[-1]["token"] and r["order"] == 2]
    assert len(last) == 4 and all(r["row_reads"] >= 2 and r["row_norm"] is None for r in last)
