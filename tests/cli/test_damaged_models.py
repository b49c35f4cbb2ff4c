"""Model directories that cannot be used: one sentence each."""

from pathlib import Path

import pytest

from engram_interp.capture import record
from engram_interp.checkpoints import load_model
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import InputError
from tests import support
from tests.cli.harness import one_line, run


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in (folder / "engram").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_weights_cut_short(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    one_line(run("slots", model, "--text", "a"), "model.safetensors", "cut short")


def test_an_unknown_family(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "unheard_of"}', encoding="utf-8")
    one_line(run("slots", model, "--text", "a"), "family 'unheard_of'", "it loads")


def test_a_missing_file(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    one_line(run("slots", model, "--text", "a"), "tokenizer")


def test_a_tokenizer_of_another_compressed_vocabulary(model: Path) -> None:
    other = train_tokenizer([text.swapcase() for text in support.documents(60, seed=4)], d_vocab=331)
    other.save(str(model / "tokenizer.json"))
    one_line(run("slots", model, "--text", "a"), "compresses to another vocabulary", "canonical ids")


def test_an_unknown_site_names_the_near_ones(folder: Path) -> None:
    model = load_model(folder / "engram")
    with pytest.raises(InputError, match=r"no site 'blocks\.1\.engram\.hook_gates'.*hook_gate"):
        record(model, "a", sites=["blocks.1.engram.hook_gates"])
