"""Losses of a family: equal to what evaluating each run gives, paired, and set beside the seeds' spread."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engram_interp import arms
from engram_interp.arm_losses import join, losses, packaged
from engram_interp.checkpoints import load_model
from engram_interp.cli import app
from engram_interp.data.documents import documents, text_digest
from engram_interp.data.packing import encode_stream
from engram_interp.errors import InputError
from engram_interp.family import train_family
from engram_interp.model.training.evaluate import held_out_loss
from engram_interp.model.training.recipe import Recipe, Schedule
from engram_interp.results import ArmLosses
from tests import support

DENSE = Recipe(
    name="tiny-dense",
    d_vocab=290,
    model={"n_layers": 2, "d_model": 12, "n_heads": 2, "d_mlp": 16, "n_ctx": 16},
    engram=None,
    schedule=Schedule(tokens=8 * 4 * 16, batch=4, learning_rate=1e-2, warmup=2, evaluate_every=3),
    fiction=0,
)
ENGRAM = replace(DENSE, name="tiny-engram", engram={"layer_ids": (1,), "heads": 2, "d_row": 4, "rows": 40})


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense arm of two seeds and an Engram arm of one."""
    folder = tmp_path_factory.mktemp("family")
    for name, count, seed in (("text", 90, 0), ("valid", 30, 8)):
        text = "\n<|endoftext|>\n".join(support.documents(count, seed=seed))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    facts: dict[str, Any] = {"texts": [folder / "text.txt"], "valid": [folder / "valid.txt"]}
    train_family([DENSE], **facts, out=folder / "runs", seeds=(0, 1))
    train_family([ENGRAM], **facts, out=folder / "runs", seeds=(1,))
    return folder


@pytest.fixture(scope="module")
def found(family: Path) -> ArmLosses:
    return losses(arms.load(family / "runs"), [family / "valid.txt"], n_boot=50)


def test_losses_are_those_of_the_saved_weights(family: Path, found: ArmLosses) -> None:
    data = found.data
    assert data["run"].values.tolist() == ["dense seed 0", "dense seed 1", "engram seed 1"]
    for index, name in enumerate(("tiny-dense-seed0", "tiny-dense-seed1", "tiny-engram-seed1")):
        subject = load_model(family / "runs" / name)
        stream = encode_stream(
            documents([family / "valid.txt"]), subject.tokenizer, separator_id=subject.separator_id or 0
        )
        wanted = held_out_loss(subject.module, stream)  # type: ignore[arg-type]  # a native module
        assert float(data["loss"][index]) == pytest.approx(wanted.loss, abs=1e-6)
        assert float(data["recorded_loss"][index]) == pytest.approx(wanted.loss, abs=1e-5)
        assert data.attrs["n_samples"] == wanted.tokens
        assert data["digest"].values[index] == subject.digest


def test_differences_go_to_the_same_seed_and_spread_is_the_seeds(found: ArmLosses) -> None:
    data, loss = found.data, found.data["loss"].values
    assert data["reference"].values.tolist() == ["dense", "engram"]
    assert data["reference_seed"].values.tolist() == [[-1, 1], [0, 1], [1, -1]]
    wanted = [
        [np.nan, loss[0] - loss[2]],
        [loss[1] - loss[0], loss[1] - loss[2]],
        [loss[2] - loss[1], np.nan],
    ]
    np.testing.assert_allclose(data["difference"], wanted, atol=1e-12)
    np.testing.assert_allclose(data["spread"][:2], abs(loss[1] - loss[0]))
    assert np.isnan(data["spread"][2])
    held = ~np.isnan(data["difference"])
    below = data["difference_low"] <= data["difference"]
    assert bool(below.where(held, True).all())
    width, freedom = found.between_seeds()
    # One pair of seeds d apart: the variance is d² / 2, Student's t at one degree of freedom 12.71.
    assert freedom == 1 and width == pytest.approx(12.7062 * abs(loss[1] - loss[0]), rel=1e-4)
    alone = ArmLosses(data=data.isel(run=[0, 2]))
    assert np.isnan(alone.between_seeds()[0]) and alone.between_seeds()[1] == 0
    wide = data["loss_high"] - data["loss_low"]
    paired = (data["difference_high"] - data["difference_low"]).sel(reference="dense")
    assert float(paired[1]) < float(wide[1])  # documents of the same difficulty cancel


def test_what_runs_recorded_stands_beside(found: ArmLosses, tmp_path: Path) -> None:
    data = found.data
    assert data["curve_step"].values.tolist()[0] == [1, 3, 6, 8]
    assert (data["trained_tokens"] == 512).all() and int(data["table_parameters"][2]) > 0
    tokens = data["stratum_tokens"].sum("stratum")
    assert (tokens > 0).all() and (tokens <= data.attrs["n_samples"]).all()
    assert "Against dense (its seeds" in found.summary() and "Against engram (one seed)" in found.summary()
    assert ArmLosses.load(found.save(tmp_path / "l.nc")).summary() == found.summary()
    for figure in (found.plot(), found.plot(reference="engram", theme="dark"), found.plot(quantity="curve")):
        assert figure.data
    lines = found.markdown()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1


def test_losses_measured_apart_join_to_the_whole(family: Path, found: ArmLosses) -> None:
    def part(*names: str) -> ArmLosses:
        whole = arms.load(family / "runs")
        kept = {arm: {s: r for s, r in seeds.items() if r.name in names} for arm, seeds in whole.runs.items()}
        some = replace(whole, runs={arm: seeds for arm, seeds in kept.items() if seeds})
        return losses(some, [family / "valid.txt"], n_boot=50)

    one, two = part("tiny-dense-seed0", "tiny-dense-seed1"), part("tiny-engram-seed1")
    whole = join([two, one], n_boot=50)
    assert whole.data.drop_vars("digest").drop_attrs().equals(found.data.drop_vars("digest").drop_attrs())
    assert join([two, one], family="the family tiny", n_boot=50).data.attrs["family"] == "the family tiny"
    other = ArmLosses(data=one.data.assign_attrs(text_digest="another"))
    with pytest.raises(InputError, match="text_digest differ"):
        join([one, other])
    with pytest.raises(InputError, match="at least one result"):
        join([])


def test_what_is_refused(family: Path, tmp_path: Path) -> None:
    whole = arms.load(family / "runs")
    with pytest.raises(InputError, match=r"wants one of moe in the family runs; it has none"):
        losses(whole, [family / "valid.txt"], references=["moe"])
    bare = tmp_path / "nano-dense-seed0"
    bare.mkdir()
    facts = json.loads((family / "runs" / "tiny-dense-seed0" / "training.json").read_text("utf-8"))
    (bare / "training.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(InputError, match="weights are not there"):
        losses(arms.load(tmp_path), [family / "valid.txt"])


def _records(folder: Path, family: Path, **texts: dict[str, Any]) -> arms.Arms:
    """Copies of runs with changed records, without their weights."""
    for name, changes in texts.items():
        place = folder / name.replace("_", "-")
        place.mkdir(parents=True)
        facts = json.loads((family / "runs" / "tiny-dense-seed0" / "training.json").read_text("utf-8"))
        (place / "training.json").write_text(json.dumps(facts | changes), encoding="utf-8")
    return arms.load(folder)


def test_runs_of_different_texts_are_not_compared(family: Path, tmp_path: Path) -> None:
    other = {"text_sha256": "0123456789", "text_files": ["b.txt", "c.txt"]}
    mixed = _records(tmp_path, family, tiny_dense_seed0={}, tiny_dense_seed1={}, tiny_engram_seed0=other)
    with pytest.raises(
        InputError,
        match=r"on different texts: tiny-dense-seed0, tiny-dense-seed1 on text.txt \(sha256 \w{8}…\); "
        r"tiny-engram-seed0 on b.txt, c.txt \(sha256 01234567…\)\. Compare",
    ):
        losses(mixed, [family / "valid.txt"])


def test_text_that_was_trained_on_is_not_held_out(family: Path, tmp_path: Path) -> None:
    whole, valid = arms.load(family / "runs"), family / "valid.txt"
    for texts in ([family / "text.txt"], [valid, family / "text.txt"]):
        with pytest.raises(
            InputError, match=r"tiny-dense-seed0, .*, tiny-engram-seed1 trained on text.txt; give"
        ):
            losses(whole, texts)
    digest = text_digest([valid])
    earlier = _records(
        tmp_path / "a", family, tiny_dense_seed0={"text_sha256": digest, "text_file_sha256": []}
    )
    of_several = _records(tmp_path / "b", family, tiny_dense_seed0={"text_file_sha256": ["0", digest]})
    for leaky in (earlier, of_several):
        with pytest.raises(
            InputError, match=r"text that was held out, and tiny-dense-seed0 trained on valid.txt"
        ):
            losses(leaky, [valid])
    bare: dict[str, Any] = {
        "text_sha256": None,
        "text_file_sha256": [],
    }  # a record that says nothing of its text
    with pytest.raises(InputError, match="weights are not there"):
        losses(_records(tmp_path / "c", family, tiny_dense_seed0={}, tiny_dense_seed1=bare), [valid])


def test_a_folder_to_save_into_is_wanted_before_anything_is_measured(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    monkeypatch.setattr("engram_interp.arm_losses.losses", lambda *_, **__: measured.append("all"))
    out = tmp_path / "absent" / "losses.nc"
    run = ["losses", str(family / "runs"), "--text", str(family / "valid.txt"), "--out", str(out)]
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 1 and "There is no folder" in done.output and "make it first" in done.output
    assert not measured


def test_the_command_saves_and_prints(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "losses.nc"
    run = ["losses", str(family / "runs"), "--text", str(family / "valid.txt"), "--out", str(out)]
    first = CliRunner().invoke(app, [*run, "--markdown"])
    assert first.exit_code == 0 and "| dense |" in first.output
    assert ArmLosses.load(out).data.sizes["run"] == 3
    again = CliRunner().invoke(app, run)
    assert again.exit_code == 1 and "exists; give the name of a new file" in again.output
    half = CliRunner().invoke(app, ["losses", str(family / "runs")])
    assert half.exit_code == 1 and "a folder and --text, or neither" in half.output


def test_the_packaged_losses_stand_beside_their_records() -> None:
    data = packaged().data
    records = arms.load(Path(arms.__file__).parent / "assets" / "arms")
    assert data.attrs["n_documents"] > 100 and {"dense seed 0", "dense seed 1"} <= set(data["run"].values)
    for index, name in enumerate(data["run"].values.tolist()):
        run = records.runs[str(data["arm"].values[index])][int(data["seed"].values[index])]
        assert f"{run.arm} seed {run.seed}" == name and run.log()[-1]["step"] == 2441
        assert run.training["trained_tokens"] == int(data["trained_tokens"][index]) == 4_999_168
        assert float(data["loss"][index]) == pytest.approx(run.loss, abs=1e-4)  # as the run recorded it
        with pytest.raises(InputError, match="its weights are not there"):
            run.load()
