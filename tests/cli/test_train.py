"""`train`: a model, its progress, and directories that are not its own."""

import json
from pathlib import Path

import pytest
from typer.testing import Result

from engram_interp.checkpoints import load_model
from tests.cli.harness import one_line, run


def train(folder: Path, out: Path, *more: object) -> Result:
    texts = "--text", folder / "text.txt", folder / "other.txt", "--valid", folder / "valid.txt"
    return run("train", folder / "tiny.toml", *texts, "--out", out, *more)


def test_it_writes_a_model_and_says_how_it_goes(folder: Path, tmp_path: Path) -> None:
    result = train(folder, tmp_path / "run", "--threads", 2)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "run")
    assert load_model(tmp_path / "run").memory_layers == (1,)
    facts = json.loads((tmp_path / "run" / "training.json").read_text(encoding="utf-8"))
    assert facts["text_files"] == ["text.txt", "other.txt"]
    for word in ("step 8/8", "loss", "held-out", "tokens/s", "left"):
        assert word in result.stderr
    assert "add --resume" in train(folder, tmp_path / "run").stderr
    assert train(folder, tmp_path / "run", "--resume").exit_code == 0


def test_the_cpu_is_where_it_trains_unless_told(folder: Path, tmp_path: Path) -> None:
    for name, more in (("default", ()), ("cpu", ("--device", "cpu"))):
        assert train(folder, tmp_path / name, "--threads", 1, *more).exit_code == 0
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("default", "cpu")]
    assert models[0] == models[1]
    facts = json.loads((tmp_path / "cpu" / "training.json").read_text(encoding="utf-8"))
    assert facts["device"] == "cpu"


def test_a_device_that_is_not_there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    out = tmp_path / "run"
    result = train(folder, out, "--device", "cuda")
    assert result.exit_code == 1
    assert "which has cpu, got 'cuda'; torch" in result.stderr
    texts = "--text", folder / "text.txt", "--valid", folder / "valid.txt"
    one_line(
        run("family", folder / "tiny.toml", *texts, "--out", out, "--device", "meta"), "has cpu, got 'meta'"
    )
    assert not out.exists()


def test_a_directory_of_somebody_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    result = train(folder, tmp_path)
    assert result.exit_code == 1
    assert "nothing was changed" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_no_such_recipe(folder: Path, tmp_path: Path) -> None:
    result = run("train", "nope", "--text", folder / "text.txt", "--out", tmp_path / "x")
    one_line(result, "No recipe 'nope'", "wiki-nano-engram")
