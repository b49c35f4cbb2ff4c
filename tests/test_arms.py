"""Arms of a family by name and seed: which are there, which are not, and models kept along the way."""

import json
from pathlib import Path
from typing import Any

import pytest

from engram_interp import arms
from engram_interp.checkpoints.native import save_native
from engram_interp.errors import DamagedFileError, InputError
from tests import support


def run(folder: Path, name: str, *, finished: bool = True, **facts: Any) -> Path:
    """A run of which only the facts are there."""
    place = folder / name
    place.mkdir(parents=True)
    whole = {"recipe": {"fiction": 3, "model": {}}, "finished": finished, "valid_loss": 4.5} | facts
    (place / "training.json").write_text(json.dumps(whole), encoding="utf-8")
    return place


def test_runs_by_arm_and_seed(tmp_path: Path) -> None:
    for name in ("nano-dense-seed1", "nano-dense-seed10", "nano-moe-engram-seed0", "nano-moe-engram-seed1"):
        run(tmp_path, name)
    run(tmp_path, "nano-open-seed0", finished=False)
    (tmp_path / "notes").mkdir()
    found = arms.load(tmp_path)
    assert {arm: list(seeds) for arm, seeds in found.runs.items()} == {"dense": [1, 10], "moe-engram": [0, 1]}
    assert found.first("dense").seed == 1 and found.first("dense").fiction == 3
    assert found.another(found.first("dense")) is found.runs["dense"][10]
    assert found.another(found.runs["dense"][10]) is found.runs["dense"][1]
    assert [(one.name, other.name) for one, other in found.pairs("dense", "moe-engram")] == [
        ("nano-dense-seed1", "nano-moe-engram-seed1")
    ]
    assert found.pairs("dense", "open") == []
    assert found.lacking("dense", "open", "late") == "arm open is unfinished, arm late is missing"
    assert found.scope("dense", "open") == f"on the family {tmp_path.name}, 2 seeds"
    with pytest.raises(InputError, match=r"arm open is unfinished; the family .* has dense, moe-engram"):
        found.first("open")


def test_folders_that_are_no_family(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*; give one that engram-interp family has written"):
        arms.load(tmp_path / "absent")
    run(tmp_path, "nano-dense-seed0", finished=False)
    with pytest.raises(InputError, match="no finished run; unfinished: nano-dense-seed0"):
        arms.load(tmp_path)
    run(tmp_path, "other-dense-seed0")
    with pytest.raises(InputError, match="several families"):
        arms.load(tmp_path)


def logged(place: Path, *losses: tuple[int, float]) -> str:
    """A log with these evaluations."""
    log = "".join(json.dumps({"step": step, "valid_loss": loss}) + "\n" for step, loss in losses)
    (place / "log.jsonl").write_text(log, encoding="utf-8")
    return log


def test_the_kept_models_around_equal_loss(tmp_path: Path) -> None:
    place = run(tmp_path, "nano-engram-seed0")
    tiny = support.model()
    for step in (10, 25, 40):
        save_native(place / "checkpoints" / f"step-{step:06}", tiny, tokenizer=support.tokenizer(), hits=None)
    log = logged(place, (1, 8.0), (20, 6.0), (40, 5.0))
    # The whole held-out text is harder than the windows that the log is of: 4.5 there, 5.6 here.
    logged(run(tmp_path, "nano-dense-seed0"), (1, 8.0), (40, 5.6))
    logged(run(tmp_path, "nano-good-seed0"), (40, 4.9))
    logged(run(tmp_path, "nano-bad-seed0"), (40, 7.5))
    logged(run(tmp_path, "nano-strange-seed0", valid_sha256="other"), (40, 5.6))
    run(tmp_path, "nano-silent-seed0")
    found = arms.load(tmp_path)
    one = found.first("engram")
    assert one.kept_losses() == pytest.approx({10: 8 - 2 * 9 / 19, 25: 5.75, 40: 5.0})
    (step, less, model), (later, more, _) = one.around(found.first("dense"))
    assert (step, model.name, later) == (25, "nano-engram-seed0 at step 25", 40)
    assert (less, more) == pytest.approx((0.15, -0.6))
    assert [step for step, _, _ in one.around(found.first("good"))] == [40]
    assert [step for step, _, _ in one.around(found.first("bad"))] == [10]
    with pytest.raises(InputError, match="held out different texts"):
        one.around(found.first("strange"))
    with pytest.raises(InputError, match="nano-silent-seed0 has no log"):
        one.around(found.first("silent"))
    (place / "log.jsonl").write_text(log + "{cut", encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"log\.jsonl cannot be read as JSON lines"):
        one.log()


def test_a_run_without_kept_models_says_so(tmp_path: Path) -> None:
    run(tmp_path, "nano-engram-seed0")
    logged(run(tmp_path, "nano-dense-seed0"), (40, 5.0))
    found = arms.load(tmp_path)
    with pytest.raises(InputError, match="kept no models along the way"):
        found.first("engram").around(found.first("dense"))


def test_the_packaged_pair_takes_the_place_of_two_arms() -> None:
    found = arms.bundled()
    assert found.scope("engram", "dense") == "on the bundled pair wiki-nano, one training run of each"
    assert [run.name for run in map(found.first, ("dense", "engram"))] == [
        "wiki-nano/baseline",
        "wiki-nano/engram",
    ]
    assert found.first("engram").loss < found.first("dense").loss
    assert found.first("dense").load().memory_layers == ()
    assert found.another(found.first("dense")) is None
    with pytest.raises(InputError, match="No packaged pair 'absent'"):
        arms.bundled("absent")
