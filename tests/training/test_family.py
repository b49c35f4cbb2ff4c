"""Families: the same tokenizer and batches for all arms, and a second call that finds them finished."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engram_interp import slots
from engram_interp.checkpoints import load_model
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import InputError
from engram_interp.family import _apart, train_family
from engram_interp.model.training.loop import Progress
from engram_interp.model.training.recipe import Recipe, Schedule
from engram_interp.training import find_recipe, packaged_recipes
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


@pytest.mark.parametrize(("family", "least"), [("nano", 13), ("gpu", 4)])
def test_the_packaged_arms_of_a_shape_are_one_family(family: str, least: int) -> None:
    recipes = [find_recipe(name) for name in packaged_recipes() if name.startswith(f"{family}-")]
    assert len(recipes) >= least
    assert not any(_apart(one.to_dict(), recipes[0].to_dict()) for one in recipes)


def test_recipes_of_other_batches_are_no_family(texts: dict[str, Any]) -> None:
    schedule = DENSE.schedule
    for other, words in (
        (replace(DENSE, schedule=replace(schedule, tokens=512)), r"schedule.tokens \(512, not 384\); make"),
        (
            replace(DENSE, schedule=replace(schedule, batch=3, seed=2)),
            r"batch \(3, not 4\), schedule.seed \(",
        ),
        (replace(DENSE, model=DENSE.model | {"n_ctx": 8}), r"model.n_ctx \(8, not 16\)"),
        (replace(DENSE, fiction=None), r"fiction \(None, not 0\)"),
    ):
        with pytest.raises(InputError, match=f"same batches, and late differs from dense in .*{words}"):
            train_family([DENSE, SHUFFLED, replace(other, name="late")], **texts)
    assert not texts["out"].exists()
    alike = replace(DENSE, name="slow", schedule=replace(schedule, learning_rate=1e-3))
    assert len(train_family([DENSE, alike], **texts)) == 2
    longer = replace(SHUFFLED, schedule=replace(schedule, tokens=512))
    with pytest.raises(
        InputError, match=r"dense-seed0 takes other batches: shuffled-seed0 .* \(512, not 384"
    ):
        train_family([longer], **texts)
    assert not (texts["out"] / "shuffled-seed0").exists()


@pytest.mark.parametrize("cut", [False, True], ids=["finished", "cut"])
def test_runs_of_another_text_are_refused(texts: dict[str, Any], tmp_path: Path, cut: bool) -> None:
    def crash(now: Progress) -> None:
        if cut and now.step == 2:
            raise Crash

    with suppress(Crash):
        train_family([DENSE], **texts, on_step=crash)
    run = texts["out"] / "dense-seed0"
    before = (run / "training.json").read_bytes()
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "text.txt"
    other.write_text(texts["texts"][0].read_text(encoding="utf-8") + " More.", encoding="utf-8")
    for change, words in (
        (
            {"texts": [other]},
            r"trains on text.txt \(sha256 \w{8}…\), and --text gives text.txt \(sha256 \w{8}",
        ),
        ({"valid": [other]}, r"holds out valid.txt \(.*\), and --valid gives text.txt \("),
        ({"valid": []}, r"holds out valid.txt \(.*\), and --valid gives the end of the training text; give"),
    ):
        for recipe in (DENSE, SHUFFLED):  # the same arm, or a new one beside it
            with pytest.raises(InputError, match=rf"runs.dense-seed0 {words}"):
                train_family([recipe], **texts | change)
    assert (run / "training.json").read_bytes() == before
    assert not (texts["out"] / "shuffled-seed0").exists()
    train_family([DENSE, SHUFFLED], **texts)


def test_a_run_that_an_earlier_version_began_goes_on(texts: dict[str, Any]) -> None:
    """Records of unfinished runs did not name their texts."""
    train_family([DENSE], **texts)
    mark = texts["out"] / "dense-seed0" / "training.json"
    recipe = json.loads(mark.read_text(encoding="utf-8"))["recipe"]
    mark.write_text(json.dumps({"recipe": recipe, "finished": False}), encoding="utf-8")
    train_family([DENSE], **texts)
    assert json.loads(mark.read_text(encoding="utf-8"))["finished"] is True


def test_a_family_has_one_tokenizer(texts: dict[str, Any], tmp_path: Path) -> None:
    train_family([DENSE], **texts)
    shared, other = texts["out"] / "tokenizer.json", tmp_path / "other.json"
    same = tmp_path / "same.json"
    same.write_text(json.dumps(json.loads(shared.read_text(encoding="utf-8")), indent=1), encoding="utf-8")
    train_tokenizer(support.documents(40, seed=3), d_vocab=290).save(str(other))
    train_family([DENSE, SHUFFLED], **texts, tokenizer=same)
    with pytest.raises(
        InputError, match=r"other.json is another tokenizer than that of the family in .*runs"
    ):
        train_family([DENSE], **texts, tokenizer=other)
    with pytest.raises(InputError, match=r"No tokenizer at .*none.json"):
        train_family([DENSE], **texts, tokenizer=tmp_path / "none.json")
    shared.unlink()
    with pytest.raises(InputError, match=r"dense-seed0.tokenizer.json is another tokenizer"):
        train_family([DENSE], **texts, tokenizer=other)
    assert not shared.exists()
