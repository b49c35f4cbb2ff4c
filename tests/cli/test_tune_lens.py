"""`tune-lens`: a lens beside a model."""

from pathlib import Path

from engram_interp.checkpoints import load_model
from tests.cli.harness import one_line, run


def test_a_lens_is_written_where_the_model_finds_it(folder: Path, tmp_path: Path) -> None:
    result = run("tune-lens", folder / "engram", "--text", folder / "valid.txt", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "nats raw" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"tuned_lens.safetensors", "tuned_lens.json"}
    assert load_model(folder / "engram").tuned_lens is None


def test_too_little_text(folder: Path, tmp_path: Path) -> None:
    result = run("tune-lens", folder / "engram", "--text", folder / "one.txt", "--out", tmp_path)
    one_line(result, "at least 10 windows", "give more text")
