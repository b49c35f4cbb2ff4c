"""`report`: its options, and what it refuses."""

from pathlib import Path

from tests.cli.harness import one_line, run


def test_options_that_exclude_each_other(folder: Path, tmp_path: Path) -> None:
    models = "--engram", folder / "engram", "--baseline", folder / "baseline"
    assert run("report", "--pair", "wiki-nano", *models, "--out", tmp_path / "r").exit_code == 2
    alone = run("report", *models[:2], "--out", tmp_path / "r")
    assert alone.exit_code == 2
    assert "--baseline is missing" in alone.stderr
    assert run("report", "--markup", "none", "--out", tmp_path / "r").exit_code == 2
    assert run("report").exit_code == 2
    assert not (tmp_path / "r").exists()


def test_a_directory_of_somebody_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine", encoding="utf-8")
    one_line(run("report", "--out", tmp_path), "was not made by engram-interp report")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == "mine"
    one_line(run("report", "--out", tmp_path / "index.html"), "is not a directory")


def test_inputs_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    out = "--out", tmp_path / "r"
    one_line(run("report", "--pair", "nope", *out), "No packaged pair 'nope'", "wiki-nano")
    one_line(run("report", "--prompts", tmp_path / "no.txt", *out), "No prompt file at")
    missing = "--engram", folder / "engram", "--baseline", tmp_path / "no"
    one_line(run("report", *missing, *out), "No model directory at")
    swapped = "--engram", folder / "baseline", "--baseline", folder / "engram"
    one_line(run("report", *swapped, *out), "has no memory to report on")
    assert not (tmp_path / "r").exists()


def test_one_prompt_gives_numbers_and_says_that_no_interval_is_possible(folder: Path, tmp_path: Path) -> None:
    models = "--engram", folder / "engram", "--baseline", folder / "baseline"
    result = run("report", *models, "--prompts", folder / "one.txt", "--out", tmp_path / "r")
    assert result.exit_code == 0, result.stderr
    assert "no interval is possible" in result.stdout
    assert "no interval" in result.stderr.lower()
    assert "100%  done" in result.stderr
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    assert "Before you read" in page
    assert (tmp_path / "r" / "engram-vs-baseline.engram" / "manifest.json").is_file()
