"""Packaged results of the arms, sorted by model into bundles that the explorer opens."""

import tarfile
from pathlib import Path

import pytest

from engram_interp import arm_bundles
from engram_interp.errors import InputError
from engram_interp.results import DepthResult, open_bundle
from tests.cli.harness import one_line, run


def packaged() -> int:
    """How many results the archives hold."""
    archives = Path(arm_bundles.__file__).parent.joinpath("assets", "claims").glob("claim_*.tar.xz")
    count = 0
    for archive in archives:
        with tarfile.open(archive) as packed:
            count += len([name for name in packed.getnames() if name.endswith(".nc")])
    return count


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the command wrote, and what it said."""
    target = tmp_path_factory.mktemp("made") / "arms"
    done = run("claims", "--bundles", target)
    assert done.exit_code == 0, done.output
    return target, done.output


def test_every_result_of_an_arm_is_in_the_bundle_of_its_model(written: tuple[Path, str]) -> None:
    every = arm_bundles.by_model()
    models = {name: {str(r.data.attrs.get("engram") or r.data.attrs["model"]) for r in parts.values()}
              for name, parts in every.items()}  # fmt: skip
    assert all(len(found) == 1 for found in models.values()), models
    of_no_arm = 5  # claim 10 on the bundled pair (3), the losses of claim 11, the lookup time of claim 19
    assert sum(map(len, every.values())) == packaged() - of_no_arm
    seed = every["nano-engram-seed1"]
    assert {"depth", "lens-depth", "stitching", "gate-selectivity", "gate-usefulness"} < set(seed)
    assert "facts" in str(seed["retained"].data["probe_set"].values)
    assert "all × 0" in str(seed["claim 2: invented-engram-seed1"].data["probe_set"].values)
    folder, said = written
    names = [name.replace(" at step ", "-step-").replace(",", "") for name in every]
    assert sorted(path.stem for path in folder.iterdir()) == sorted(names)
    assert all(str(folder / f"{name}.engram") in said for name in names)
    assert f"engram-interp explore {folder} opens them." in said
    bundle = open_bundle(folder / "nano-engram-seed1.engram")
    assert isinstance(bundle["depth"], DepthResult) and bundle["depth"].summary() == seed["depth"].summary()
    assert "recipe nano-engram, seed 1. Its weights are not shipped" in str(bundle.meta["notes"])
    assert bundle.meta["models"]["engram"] == {"name": "nano-engram-seed1", "memory_layers": [1, 4]}
    kept = open_bundle(folder / "nano-engram-seed1-step-1110.engram")
    assert "as it was at step 1,110" in str(kept.meta["notes"]) and "models" not in kept.meta
    deeper = open_bundle(folder / "nano-deeper-1-seed0.engram")["depth"].summary()
    assert "from layer 1 on (it has no memory) a shift of" in deeper


def test_nothing_gives_way_unless_it_is_told_to(
    written: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = written
    one_line(run("claims", "--bundles", folder), "already", "give another folder")
    one_line(run("claims", "--bundles", folder, "--markdown"), "give it alone")
    few = {"nano-moe-seed0": arm_bundles.by_model()["nano-moe-seed0"]}
    monkeypatch.setattr(arm_bundles, "_by_model", lambda: few)
    with pytest.raises(InputError, match=r"holds nano-moe-seed0.engram already"):
        arm_bundles.write(folder)
    assert arm_bundles.write(folder, overwrite=True) == [folder / "nano-moe-seed0.engram"]
