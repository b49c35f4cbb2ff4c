"""A tiny model with memory, its baseline, and text for them."""

from pathlib import Path

import pytest

from engram_interp.checkpoints.native import save_native
from tests import support
from tests.cli.harness import RECIPE


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with memory, its baseline, text and prompts."""
    folder = tmp_path_factory.mktemp("cli")
    engram = support.model(support.model_config(n_layers=7, memory=support.memory_config()))
    save_native(folder / "engram", engram, tokenizer=support.tokenizer())
    baseline = support.model(support.model_config(n_layers=7), seed=3)
    save_native(folder / "baseline", baseline, tokenizer=support.tokenizer())
    for name, count, seed in (("text", 90, 0), ("valid", 12, 8), ("other", 5, 9)):
        text = "\n<|endoftext|>\n".join(support.documents(count, seed=seed))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    (folder / "one.txt").write_text("Kalo and the vel met in Dor.\n", encoding="utf-8")
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return folder
