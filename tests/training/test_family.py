"""Families: the same tokenizer and batches for all arms, and a second call that finds them finished."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engram_interp import slots
from engram_interp.checkpoints import load_model
from engram_interp.errors import InputError
from engram_interp.family import train_family
from engram_interp.model.training.loop import Progress
from engram_interp.model.training.recipe import Recipe, Schedule
from tests import support

DENSE = Recipe(
    name="dense",
    d_vocab=290,
    model={"n_layers": 2, "d_model": 12, "n_heads": 2, "d_mlp": 16, "n_ctx": 16},
    engram=None,
    schedule=Schedule(tokens=6 * 4 * 16, batch=4, learning_rate=1e-2, warmup=2, evaluate_every=3),
    fiction=0,
)
SHUFFLED = replace(
    DENSE,
    name="shuffled",
    engram={"layer_ids": (1,), "heads": 2, "d_row": 4, "rows": 40, "reads": "shuffled"},
)


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Any]:
    for name, count, seed in (("text", 90, 0), ("valid", 12, 8)):
        text = "\n<|endoftext|>\n".join(support.documents(count, seed=seed))
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    return {"texts": [tmp_path / "text.txt"], "valid": [tmp_path / "valid.txt"], "out": tmp_path / "runs"}


class Crash(Exception):
    """What ends a run in the middle."""


def test_arms_share_batches_and_a_second_call_goes_on(texts: dict[str, Any]) -> None:
    losses: dict[str, list[float]] = {}
    names: list[str] = []

    def step(now: Progress) -> None:
        losses.setdefault(names[-1], []).append(now.loss)
        if names[-1] == "shuffled-seed0" and now.step == 4 and len(losses) == 2 and "crashed" not in losses:
            losses["crashed"] = []
            raise Crash

    def run() -> list[Path]:
        return train_family([DENSE, SHUFFLED], **texts, seeds=(0, 1), on_run=names.append, on_step=step)

    with pytest.raises(Crash):
        run()
    folders = run()
    assert [folder.name for folder in folders] == [
        "dense-seed0",
        "shuffled-seed0",
        "dense-seed1",
        "shuffled-seed1",
    ]
    assert len(losses["dense-seed0"]) == 6  # not trained again
    # The same initial weights and the same first batch: an untrained memory writes next to nothing.
    assert losses["dense-seed0"][0] == pytest.approx(losses["shuffled-seed0"][0], abs=1e-2)
    assert losses["dense-seed0"][0] != losses["dense-seed1"][0]
    assert (folders[0] / "tokenizer.json").read_bytes() == (folders[3] / "tokenizer.json").read_bytes()
    before = [load_file(folder / "model.safetensors") for folder in folders]
    count = len(losses["shuffled-seed1"])
    run()
    assert len(losses["shuffled-seed1"]) == count
    for folder, weights in zip(folders, before, strict=True):
        for key, value in load_file(folder / "model.safetensors").items():
            assert torch.equal(value, weights[key])


def test_a_shuffled_memory_has_no_address_book(texts: dict[str, Any]) -> None:
    (folder,) = train_family([SHUFFLED], **texts)
    model = load_model(folder)
    with pytest.raises(InputError, match="no memory whose addresses are known"):
        slots.lookup(model, "Only a word")


def test_recipes_of_two_vocabularies_are_no_family(texts: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"one vocabulary.*got vocabularies of \[290, 300\] token ids"):
        train_family([DENSE, replace(DENSE, name="other", d_vocab=300)], **texts)
    with pytest.raises(InputError, match="dense-seed0 occurs twice"):
        train_family([DENSE, DENSE], **texts)
    assert not texts["out"].exists()
