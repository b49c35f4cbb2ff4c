"""Training end to end on invented text: it learns, resumes, and keeps to its own directory."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from engram_interp import training
from engram_interp.checkpoints import load_model
from engram_interp.data.documents import documents
from engram_interp.data.packing import encode_stream
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.model.training.evaluate import gate_summary, held_out_loss
from engram_interp.model.training.loop import Progress, Trainer
from engram_interp.model.training.recipe import Recipe, Schedule
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support

STEPS = 30
RECIPE = Recipe(
    name="tiny",
    d_vocab=290,
    model={"n_layers": 2, "d_model": 20, "n_heads": 2, "d_mlp": 28, "n_ctx": 16},
    engram={"layer_ids": (1,), "heads": 2, "d_row": 6, "rows": 60},
    schedule=Schedule(tokens=STEPS * 4 * 16, batch=4, learning_rate=1e-2, warmup=3, evaluate_every=10),
)


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    path = tmp_path / "text.txt"
    path.write_text("\n<|endoftext|>\n".join(support.documents(90)), encoding="utf-8")
    return [path]


@pytest.fixture
def valid(tmp_path: Path) -> list[Path]:
    path = tmp_path / "valid.txt"
    path.write_text("\n<|endoftext|>\n".join(support.documents(12, seed=8)), encoding="utf-8")
    return [path]


def test_it_learns_and_writes_a_model_that_opens(
    tmp_path: Path, texts: list[Path], valid: list[Path]
) -> None:
    seen: list[Progress] = []
    out = training.train(RECIPE, texts, valid=valid, out=tmp_path / "run", on_step=seen.append)
    files = {p.name for p in out.iterdir()}
    assert files == {
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "state",
        "tokenizer.json",
        "training.json",
    }
    facts = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert facts["finished"] is True
    assert facts["recipe"]["schedule"]["tokens"] == facts["trained_tokens"] == STEPS * 64
    assert len(facts["text_sha256"]) == len(facts["valid_sha256"]) == 64
    log = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in log] == [1, 10, 20, 30]
    assert log[-1]["valid_loss"] < log[0]["valid_loss"] - 1
    assert [p.step for p in seen] == list(range(1, STEPS + 1))
    subject = load_model(out)
    assert subject.memory_layers == (1,)
    assert subject.hits[1].sum() == STEPS * 64 * 4
    assert isinstance(subject.module, HookedEngramTransformer)
    stream = encode_stream(documents(valid), subject.tokenizer, separator_id=0)
    assert held_out_loss(subject.module, stream).loss == pytest.approx(facts["valid_loss"], abs=1e-5)


class Crash(Exception):
    """What ends a run in the middle."""


def test_a_crash_and_a_resume_end_as_an_uninterrupted_run(
    tmp_path: Path, texts: list[Path], valid: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.train(RECIPE, texts, valid=valid, out=tmp_path / "whole")
    saving_seldom = Trainer.run

    def saving_always(trainer: Trainer, *, save: Callable[[], None]) -> Iterator[Progress]:
        return saving_seldom(trainer, save=save, save_every_seconds=0.0)

    monkeypatch.setattr(Trainer, "run", saving_always)

    def crash(progress: Progress) -> None:
        if progress.step == 13:
            raise Crash

    out = tmp_path / "crashed"
    with pytest.raises(Crash):
        training.train(RECIPE, texts, valid=valid, out=out, on_step=crash)
    with pytest.raises(InputError, match="already holds a run of this recipe; add --resume"):
        training.train(RECIPE, texts, valid=valid, out=out)
    steps: list[int] = []
    training.train(RECIPE, texts, valid=valid, out=out, resume=True, on_step=lambda p: steps.append(p.step))
    assert steps == list(range(13, STEPS + 1))  # step 13 was not saved yet
    first, second = (load_file(d / "model.safetensors") for d in (whole, out))
    assert all(v.equal(second[k]) for k, v in first.items())
    logs = [
        [json.loads(line)["step"] for line in (d / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for d in (whole, out)
    ]
    assert logs[0] == logs[1]


def test_directories_of_others_are_left_alone(tmp_path: Path, texts: list[Path], valid: list[Path]) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work", encoding="utf-8")
    for resume in (False, True):
        with pytest.raises(InputError, match="does not hold a run of this recipe; nothing was changed"):
            training.train(RECIPE, texts, valid=valid, out=foreign, resume=resume)
    (foreign / "training.json").write_text("{not json", encoding="utf-8")
    with pytest.raises(InputError, match="does not hold a run of this recipe"):
        training.train(RECIPE, texts, valid=valid, out=foreign, resume=True)
    assert {p.name for p in foreign.iterdir()} == {"thesis.tex", "training.json"}
    with pytest.raises(InputError, match=r"text.txt is a file; give the name of a directory as --out"):
        training.train(RECIPE, texts, valid=valid, out=texts[0])


def test_another_recipe_or_text_is_not_resumed(
    tmp_path: Path, texts: list[Path], valid: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(RECIPE, schedule=replace(RECIPE.schedule, tokens=128))
    out = training.train(short, texts, valid=valid, out=tmp_path / "run")
    with pytest.raises(InputError, match="does not hold a run of this recipe"):
        training.train(RECIPE, texts, valid=valid, out=out, resume=True)
    log = (out / "log.jsonl").read_bytes()
    other = tmp_path / "other.txt"
    other.write_text("Kalo met the vel.", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"run trains on text.txt \(.*, and --text gives other.txt, text.txt \("
    ):
        training.train(short, [other, *texts], valid=valid, out=out, resume=True)
    with pytest.raises(InputError, match=r"run holds out valid.txt \(.*, and --valid gives other.txt \("):
        training.train(short, texts, valid=[other], out=out, resume=True)
    other = tmp_path / "tokenizer.json"
    train_tokenizer(support.documents(40, seed=3), d_vocab=290).save(str(other))
    with pytest.raises(
        InputError, match=r"tokenizer.json is not the tokenizer in .*run.tokenizer.json; leave"
    ):
        training.train(short, texts, valid=valid, out=out, resume=True, tokenizer=other)
    assert (out / "log.jsonl").read_bytes() == log


def test_texts_are_told_from_the_start(tmp_path: Path, texts: list[Path], valid: list[Path]) -> None:
    short = replace(RECIPE, schedule=replace(RECIPE.schedule, tokens=128))
    begun: list[dict[str, object]] = []

    def look(progress: Progress) -> None:
        begun.append(json.loads((tmp_path / "run" / "training.json").read_text(encoding="utf-8")))

    out = training.train(short, texts, valid=valid, out=tmp_path / "run", on_step=look)
    facts = json.loads((out / "training.json").read_text(encoding="utf-8"))
    told = ("text_files", "text_sha256", "text_file_sha256", "valid_files", "valid_sha256")
    assert [begun[0][name] for name in told] == [facts[name] for name in told]
    assert facts["text_file_sha256"] == [facts["text_sha256"]] and not begun[0]["finished"]


def test_models_are_kept_along_the_way_and_losses_told_by_stratum(
    tmp_path: Path, texts: list[Path], valid: list[Path]
) -> None:
    out = training.train(RECIPE, texts, valid=valid, out=tmp_path / "run", keep=2)
    kept = sorted((out / "checkpoints").iterdir())
    assert [folder.name for folder in kept] == ["step-000010", "step-000020"]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    subject = load_model(kept[1])
    assert isinstance(subject.module, HookedEngramTransformer)
    stream = encode_stream(documents(valid), subject.tokenizer, separator_id=0)
    at_20 = next(line for line in log if line["step"] == 20)
    found = held_out_loss(subject.module, stream, windows=64)
    assert found.loss == pytest.approx(at_20["valid_loss"], abs=1e-5)
    facts = json.loads((out / "training.json").read_text(encoding="utf-8"))
    strata = facts["valid_strata"]
    told = [s for s in strata.values() if s["tokens"]]
    assert len(told) >= 2
    total, tokens = sum(s["loss"] * s["tokens"] for s in told), sum(s["tokens"] for s in told)
    # The first two tokens of a document end no context of three.
    assert 0 < facts["valid_tokens"] - tokens <= 2 * int((stream == 0).sum())
    assert total / tokens == pytest.approx(facts["valid_loss"], abs=0.2)
    start = facts["gates_at_start"]
    fresh = gate_summary(HookedEngramTransformer(RECIPE.model_config(), token_map=subject.token_map), stream)
    assert np.allclose(start["mean"], fresh["mean"], atol=1e-6)


def test_missing_text_is_said_before_anything_is_written(tmp_path: Path, texts: list[Path]) -> None:
    for given, held_out in (([tmp_path / "no.txt"], []), (texts, [tmp_path / "no.txt"])):
        with pytest.raises(InputError, match=r"No text file at .*no.txt"):
            training.train(RECIPE, given, valid=held_out, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tokenizers_that_do_not_fit_are_refused(tmp_path: Path, texts: list[Path], valid: list[Path]) -> None:
    other = tmp_path / "tokenizer.json"
    support.tokenizer().save(str(other))
    with pytest.raises(InputError, match=rf"wants 290 token ids and the tokenizer has {support.D_VOCAB}"):
        training.train(RECIPE, texts, valid=valid, out=tmp_path / "one", tokenizer=other)
    fitting = replace(
        RECIPE, d_vocab=support.D_VOCAB, schedule=replace(RECIPE.schedule, tokens=128, evaluate_every=5)
    )
    out = training.train(fitting, texts, valid=valid, out=tmp_path / "two", tokenizer=other)
    assert load_model(out).tokenizer.to_str() == support.tokenizer().to_str()
    assert not (tmp_path / "one").exists()


def test_too_little_text_is_said_before_anything_is_written(
    tmp_path: Path, texts: list[Path], valid: list[Path]
) -> None:
    out = tmp_path / "run"
    for _ in range(2):  # a second try says the same
        with pytest.raises(
            InputError,
            match=r"the last 100,000 are held out .*; 0 remain, .* wants 1,921; give --valid or",
        ):
            training.train(RECIPE, texts, out=out)
    greedy = replace(RECIPE, schedule=replace(RECIPE.schedule, tokens=10**6))
    with pytest.raises(InputError, match="wants 1000000 tokens in steps of 64"):
        training.train(greedy, texts, valid=valid, out=out)
    with pytest.raises(InputError, match="one batch wants 100000"):
        training.train(
            replace(RECIPE, schedule=replace(RECIPE.schedule, batch=10**5)), texts, valid=valid, out=out
        )
    assert not out.exists()


def test_the_last_tokens_are_held_out_where_there_is_enough_text(
    tmp_path: Path, texts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_HELD_OUT_TOKENS", 300)
    short = replace(RECIPE, schedule=replace(RECIPE.schedule, tokens=128))
    out = training.train(short, texts, out=tmp_path / "run")
    facts = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert facts["valid_tokens"] == 288  # whole windows of 16, with one token of context
    assert facts["valid_sha256"] is None


def test_a_log_that_a_kill_cut_short_is_resumed(tmp_path: Path, texts: list[Path], valid: list[Path]) -> None:
    short = replace(RECIPE, schedule=replace(RECIPE.schedule, tokens=128))
    out = training.train(short, texts, valid=valid, out=tmp_path / "run")
    log = out / "log.jsonl"
    whole = log.read_text(encoding="utf-8")
    log.write_text(whole + '{"step": 3, "lo', encoding="utf-8")
    training.train(short, texts, valid=valid, out=out, resume=True)
    assert log.read_text(encoding="utf-8") == whole
    log.write_text('{"step": 1, "lo\n' + whole, encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"Line 1 of .*log.jsonl cannot be read; delete that line"):
        training.train(short, texts, valid=valid, out=out, resume=True)


def test_a_config_of_another_model_is_refused_before_training(
    tmp_path: Path, texts: list[Path], valid: list[Path]
) -> None:
    short = replace(RECIPE, schedule=replace(RECIPE.schedule, tokens=128))
    out = training.train(short, texts, valid=valid, out=tmp_path / "run")
    (out / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(InputError, match="was not written by engram-interp"):
        training.train(short, texts, valid=valid, out=out, resume=True)


def test_files_are_replaced_whole(
    tmp_path: Path, texts: list[Path], valid: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(RECIPE, schedule=replace(RECIPE.schedule, tokens=128))
    written: list[str] = []
    whole = Path.replace

    def noted(path: Path, target: Path) -> Path:
        written.append(target.name)
        return whole(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    out = training.train(short, texts, valid=valid, out=tmp_path / "run")
    assert {p.name for p in out.iterdir() if p.is_file()} <= set(written)
    assert written[0] == written[-1] == "training.json"
    assert not list(out.rglob("*.tmp"))
