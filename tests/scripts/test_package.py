"""The scripts that fill the package: what training saw is counted, and nothing is written half."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_interp import arms, claims, depth
from engram_interp.arm_losses import losses
from engram_interp.data import fiction
from engram_interp.data.documents import documents
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.family import train_family
from engram_interp.model.training.recipe import Recipe, Schedule
from engram_interp.results import ArmLosses, Result
from scripts import package_arms, package_pair
from tests import claim_samples, support

INVENTED = 24
"""Steps of 64 tokens that invented documents alone would fill."""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense arm that was trained on invented facts, then on text; its losses; a verdict with a result."""
    folder = tmp_path_factory.mktemp("package")
    for name, count, seed in (("text", 90, 0), ("valid", 12, 8)):
        text = "\n<|endoftext|>\n".join(support.documents(count, seed=seed))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    recipe = Recipe(
        name="tiny-dense",
        d_vocab=290,
        model={"n_layers": 1, "d_model": 12, "n_heads": 2, "d_mlp": 16, "n_ctx": 16},
        engram=None,
        schedule=Schedule(tokens=INVENTED * 64, batch=4, evaluate_every=12),
        fiction=0,
    )
    texts: dict[str, Any] = {"texts": [folder / "text.txt"], "valid": [folder / "valid.txt"]}
    train_family([recipe], **texts, out=folder / "runs")
    found = losses(arms.load(folder / "runs"), [folder / "valid.txt"], n_boot=20)
    found.save(folder / "losses.nc")
    claims.keep(claim_samples.verdict(), folder / "claims" / "claim_04", {"losses": found})
    return folder


def test_phrases_are_counted_where_training_saw_them(family: Path) -> None:
    run, texts = family / "runs" / "tiny-dense-seed0", [family / "text.txt"]
    seen = list(package_pair.trained_documents(run, texts))
    [one] = arms.load(family / "runs").runs["dense"].values()
    assert seen == list(one.documents(texts))
    assert seen[0] == next(fiction.documents(0)) != next(documents(texts))
    with pytest.raises(InputError, match=r"was not trained on this text but on text.txt; give those"):
        list(package_pair.trained_documents(run, [family / "valid.txt"]))


def arguments(family: Path, out: Path, *, claimed: str = "claims") -> list[str]:
    given = {"runs": "runs", "losses": "losses.nc", "claims": claimed}
    return [part for k, v in given.items() for part in (f"--{k}", str(family / v))] + ["--out", str(out)]


def test_records_losses_and_claims_go_to_one_folder(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # a second time it replaces what it wrote
        package_arms.main(arguments(family, tmp_path))
        assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == [
            "arms/losses.nc",
            "arms/tiny-dense-seed0/log.jsonl",
            "arms/tiny-dense-seed0/training.json",
            "claims/claim_04.tar.xz",
            "claims/verdicts.tar.xz",
        ]
    with tarfile.open(tmp_path / "claims" / "claim_04.tar.xz") as results:
        results.extractall(tmp_path, filter="data")
    assert ArmLosses.load(tmp_path / "losses.nc").data.identical(ArmLosses.load(family / "losses.nc").data)
    kept = ArmLosses.load(tmp_path / "arms" / "losses.nc")
    assert capsys.readouterr().out.splitlines()[-1] == kept.summary().splitlines()[-1]
    assert json.loads((tmp_path / "arms" / "tiny-dense-seed0" / "training.json").read_text())["finished"]


def test_a_verdict_joins_those_that_are_there_and_takes_the_place_of_its_claim(
    family: Path, tmp_path: Path
) -> None:
    more = family / "more"
    claims.keep(claim_samples.verdict(remark="again"), more / "claim_04", {})
    claims.keep(claims.verdict(9, [], scope="on nothing"), more / "claim_09", {})
    package_arms.main(arguments(family, tmp_path))
    for pair in ("more", "claims"):
        package_arms.main([*arguments(family, tmp_path, claimed="more"), "--pair", str(family / pair)])
    names = {"verdicts": ["claim-04.nc", "claim-09.nc"], "wiki-nano": ["claim-04.nc", "claim-09.nc"]}
    for archive, expected in names.items():
        with tarfile.open(tmp_path / "claims" / f"{archive}.tar.xz") as kept:
            assert kept.getnames() == expected
            kept.extractall(tmp_path / archive, filter="data")
    assert claims.found([tmp_path / "verdicts"])[4].data.attrs["remark"] == "again"
    assert claims.found([tmp_path / "wiki-nano"])[4].data.attrs["remark"] != "again"


def test_terms_that_intervals_are_drawn_from_lose_digits_that_say_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(700, 5)) for _ in range(3)]
    made = depth.from_activations(xs, xs[::-1], np.arange(700) // 7, n_boot=20, checks="none")
    made.save(tmp_path / "CKA.nc")
    (tmp_path / "short").mkdir()
    kept = Result.load(package_arms.shortened(tmp_path / "CKA.nc", tmp_path / "short"))
    for name in made.data.data_vars:
        if str(name).startswith("hsic"):
            assert not np.array_equal(kept.data[name], made.data[name])
            np.testing.assert_allclose(kept.data[name], made.data[name], rtol=1e-9)
        else:
            assert kept.data[name].identical(made.data[name])
    assert kept.data.attrs == made.data.attrs


def test_nothing_is_written_before_all_has_been_read(family: Path, tmp_path: Path) -> None:
    torn = family / "torn" / "claim_04"
    claims.keep(claim_samples.verdict(), torn, {})
    whole = (torn / "claim-04.nc").read_bytes()
    out = tmp_path / "assets"
    (torn / "claim-04.nc").write_bytes(whole[:-99])
    with pytest.raises(DamagedFileError, match=r"claim-04\.nc"):
        package_arms.main(arguments(family, out, claimed="torn"))
    (torn / "claim-04.nc").write_bytes(whole)
    (out / "claims").mkdir(parents=True)
    for name in ("verdicts", "wiki-nano"):
        (out / "claims" / f"{name}.tar.xz").write_bytes(b"cut short")
        with pytest.raises(DamagedFileError, match=rf"{name}\.tar\.xz cannot be read"):
            package_arms.main(arguments(family, out))
        (out / "claims" / f"{name}.tar.xz").unlink()
    (out / "claims").rmdir()
    out.rmdir()
    (torn / "beside.nc").write_bytes(whole[:-99])
    with pytest.raises(DamagedFileError, match=r"beside\.nc"):
        package_arms.main(arguments(family, out, claimed="torn"))
    with pytest.raises(SystemExit, match=r"nowhere holds no SCRIPT/claim-NN.nc; run a script"):
        package_arms.main(arguments(family, out, claimed="nowhere"))
    assert not out.exists()


def test_runs_without_losses_or_log_are_named(family: Path, tmp_path: Path) -> None:
    found = ArmLosses.load(family / "losses.nc")
    other = replace(found, data=found.data.assign_coords(run=["dense seed 7"]))
    other.save(tmp_path / "other.nc")
    given = [
        "--runs",
        str(family / "runs"),
        "--losses",
        str(tmp_path / "other.nc"),
        "--out",
        str(tmp_path / "o"),
    ]
    with pytest.raises(SystemExit, match=r"other\.nc lacks dense seed 0; measure them again"):
        package_arms.main(given)
    bare = tmp_path / "runs" / "tiny-dense-seed0"
    bare.mkdir(parents=True)
    record = family / "runs" / bare.name / "training.json"
    (bare / "training.json").write_bytes(record.read_bytes())
    with pytest.raises(SystemExit, match=r"tiny-dense-seed0 holds no log\.jsonl"):
        package_arms.main(["--runs", str(bare.parent), *given[2:]])
    assert not (tmp_path / "o").exists()
