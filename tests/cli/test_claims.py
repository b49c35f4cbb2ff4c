"""`claims`: the scoreboard as a table and as Markdown."""

from pathlib import Path

from engram_interp import claims
from tests import claim_samples
from tests.cli.harness import one_line, run


def test_the_table_shows_every_claim_and_what_would_change_it(tmp_path: Path) -> None:
    claims.keep(claim_samples.verdict(remark="[bold]one seed"), tmp_path, {})
    shown = run("claims", tmp_path)
    assert shown.exit_code == 0
    words = " ".join(shown.stdout.replace("│", " ").split())
    for part in ("contradicted", "not tested", "[bold]one", "claim_04_gates_matter.py", "no script yet"):
        assert part in words
    assert shown.stdout.count("Supported") == 20


def test_markdown_is_one_row_a_claim(tmp_path: Path) -> None:
    claims.keep(claim_samples.verdict(remark="a|b"), tmp_path / "inner", {})
    lines = run("claims", tmp_path, "--markdown").stdout.splitlines()
    assert len(lines) == 22
    assert all(line.count("|") - line.count("\\|") == 6 for line in lines)
    fourth = lines[5]
    assert "| 4 | At this scale" in fourth and "| **contradicted** |" in fourth and "a\\|b" in fourth
    assert "[`claim_04_gates_matter.py`](analyses/claim_04_gates_matter.py)" in fourth
    assert "no script yet" in lines[14]
    assert "Run on the bundled pair" not in "".join(lines)


def test_without_a_folder_the_packaged_verdicts_are_shown() -> None:
    lines = run("claims", "--markdown").stdout.splitlines()
    assert len(lines) == 22
    assert "on the family nano" in lines[4] and "Run on the bundled pair: supported; for: AUC" in lines[4]


def test_a_damaged_verdict_is_named(tmp_path: Path) -> None:
    (tmp_path / "claim-04.nc").write_text("no netCDF")
    one_line(run("claims", tmp_path), "claim-04.nc cannot be read as netCDF-4", "make it anew")
