"""Bundles: what is written is what is read, and damage stays where it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import manifest as manifests
from engram_interp.results import open_bundle, write_bundle
from tests.results import samples

GATES = samples.gate_reading()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = {
        "depth": samples.depth(),
        "lens-engram": samples.convergence(),
        "slots:a/b": samples.slot_lookup(),
    }
    path = tmp_path_factory.mktemp("original") / "pair.engram"
    return write_bundle(path, parts, meta={"command": "report", "seed": 0})


@pytest.fixture
def bundle_path(original: Path, tmp_path: Path) -> Path:
    """A bundle of one's own to damage."""
    return Path(shutil.copytree(original, tmp_path / "pair.engram"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of a bundle in place."""
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    results = samples.every_kind()
    bundle = open_bundle(write_bundle(tmp_path / "all.engram", results))
    assert bundle.names == tuple(results)
    assert bundle.name == "all"
    assert list(bundle) == list(results)
    assert len(bundle) == len(results)
    assert not bundle.notes
    assert not bundle.problems()
    for name, result in results.items():
        assert name in bundle
        assert bundle.kind(name) == result.kind
        xr.testing.assert_identical(bundle[name].data, result.data)


def test_the_manifest_says_how_it_was_made(bundle_path: Path) -> None:
    manifest = open_bundle(bundle_path).manifest
    assert manifest["format"] == {"name": "engram-interp bundle", "version": 1}
    assert manifest["tool"] == "engram-interp"
    assert "counted from 0" in manifest["layer_convention"]
    assert "xarray" in manifest["packages"]
    assert open_bundle(bundle_path).meta == {"command": "report", "seed": 0}
    part = manifest["parts"]["depth"]
    assert part["shapes"]["layer"] == 7
    assert (bundle_path / part["file"]).stat().st_size == part["bytes"]


def test_only_plain_files_lie_in_a_bundle(bundle_path: Path) -> None:
    files = sorted(str(file.relative_to(bundle_path)) for file in bundle_path.rglob("*.*"))
    assert files[0] == "manifest.json"
    assert len(files) == 4
    assert all(file.startswith("parts/") and file.endswith(".nc") for file in files[1:])
    assert not list(bundle_path.parent.glob(".*"))


def test_parts_are_read_once_and_late(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    (bundle_path / bundle.manifest["parts"]["lens-engram"]["file"]).unlink()
    assert bundle["depth"] is bundle["depth"]


def test_names_that_would_share_a_file_do_not(tmp_path: Path) -> None:
    names = ["Depth", "depth", "a b", "a/b", "a:b", "../../up", "x" * 300, "é", "CON"]
    files = [manifests.file_name(name) for name in names]
    assert len({file.lower() for file in files}) == len(names)
    kept = ["a b", "a/b", "../../up"]
    bundle = open_bundle(write_bundle(tmp_path / "n.engram", dict.fromkeys(kept, samples.ablation_effect())))
    assert list(bundle) == kept
    assert not bundle.problems()


def test_an_absent_part_is_named_with_those_there(bundle_path: Path) -> None:
    with pytest.raises(InputError, match="has no part 'gates'; its parts: depth, lens-engram, slots:a/b"):
        open_bundle(bundle_path)["gates"]


def cut(path: Path, manifest: dict[str, Any]) -> None:
    file = path / manifest["parts"]["depth"]["file"]
    file.write_bytes(file.read_bytes()[:-100])


def alter(path: Path, manifest: dict[str, Any]) -> None:
    file = path / manifest["parts"]["depth"]["file"]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def remove(path: Path, manifest: dict[str, Any]) -> None:
    (path / manifest["parts"]["depth"]["file"]).unlink()


def escape(path: Path, manifest: dict[str, Any]) -> None:
    edit(path, lambda m: m["parts"]["depth"].update(file="parts/../../secret.nc"))


def escape_absolutely(path: Path, manifest: dict[str, Any]) -> None:
    edit(path, lambda m: m["parts"]["depth"].update(file="/etc/passwd"))


def escape_by_link(path: Path, manifest: dict[str, Any]) -> None:
    file = path / manifest["parts"]["depth"]["file"]
    outside = path.parent / "outside.nc"
    file.rename(outside)
    file.symlink_to(outside)


def strip_entry(path: Path, manifest: dict[str, Any]) -> None:
    edit(path, lambda m: m["parts"]["depth"].pop("xxh3"))


def null_entry(path: Path, manifest: dict[str, Any]) -> None:
    edit(path, lambda m: m["parts"].update(depth=None))


def reshape(path: Path, manifest: dict[str, Any]) -> None:
    edit(path, lambda m: m["parts"]["depth"]["shapes"].update(layer=30))


def rename_kind(path: Path, manifest: dict[str, Any]) -> None:
    edit(path, lambda m: m["parts"]["depth"].update(kind="gate_reading"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, r"depth.nc has [\d,]+ bytes, the manifest says [\d,]+; it was cut short"),
        (alter, "does not have the checksum that the manifest gives; it was altered"),
        (remove, r"parts/depth.nc is missing; the other parts can still be read"),
        (escape, "names the file 'parts/../../secret.nc', which is not inside parts/; it was not opened"),
        (escape_absolutely, "'/etc/passwd', which is not inside parts/"),
        (escape_by_link, "leads out of the bundle; it was not opened"),
        (strip_entry, "does not describe part 'depth' properly"),
        (null_entry, "does not describe part 'depth' properly"),
        (reshape, "is a depth of shape .* the manifest says depth of .*'layer': 30"),
        (rename_kind, "the manifest says gate_reading"),
    ],
)
def test_a_damaged_part_fails_alone(
    damage: Callable[[Path, dict[str, Any]], None], words: str, bundle_path: Path
) -> None:
    damage(bundle_path, json.loads((bundle_path / "manifest.json").read_text()))
    bundle = open_bundle(bundle_path)
    with pytest.raises(DamagedFileError, match=words):
        bundle["depth"]
    assert bundle["lens-engram"].data.sizes["layer"] == 6
    assert list(bundle.problems()) == ["depth"]


def test_an_unknown_kind_is_passed_over_with_a_note(bundle_path: Path) -> None:
    edit(bundle_path, lambda m: m["parts"]["depth"].update(kind="horoscope"))
    bundle = open_bundle(bundle_path)
    assert "depth" not in bundle
    assert bundle.names == ("lens-engram", "slots:a/b")
    assert bundle.notes == (
        "Part 'depth' is of the kind 'horoscope', which this version does not know; it is ignored.",
    )


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (None, DamagedFileError, r"has no manifest\.json, so it is no bundle or was cut short"),
        ('{"format": {"na', DamagedFileError, r"manifest\.json is not JSON"),
        (b"\xff\xfe\x00", DamagedFileError, "is not JSON"),
        ("[" * 100_000, DamagedFileError, "is not JSON"),
        ("[1, 2]", DamagedFileError, "is not the manifest of an engram-interp bundle"),
        ('{"format": {"name": "other", "version": 1}}', DamagedFileError, "is not the manifest"),
        ('{"format": {"name": "engram-interp bundle", "version": 1}}', DamagedFileError, "lists no parts"),
        ('{"format": {"name": "engram-interp bundle", "version": 3}, "parts": {}}', InputError,
         "made with bundle format 3, this version reads up to 1; upgrade with"),
    ],
)  # fmt: skip
def test_a_bundle_that_cannot_be_opened_says_why(
    content: str | bytes | None, error: type[InputError], words: str, bundle_path: Path
) -> None:
    file = bundle_path / "manifest.json"
    if content is None:
        file.unlink()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content)
    with pytest.raises(error, match=words):
        open_bundle(bundle_path)


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no bundle .*nowhere\.engram"):
        open_bundle(tmp_path / "nowhere.engram")


def test_a_bundle_is_replaced_only_on_request(bundle_path: Path) -> None:
    with pytest.raises(InputError, match="exists; choose another name or pass overwrite=True"):
        write_bundle(bundle_path, {"depth": samples.depth()})
    write_bundle(bundle_path, {"gates": GATES}, overwrite=True)
    assert open_bundle(bundle_path).names == ("gates",)
    assert [path.name for path in bundle_path.parent.iterdir()] == ["pair.engram"]


def make_file(path: Path) -> None:
    path.write_text("mine")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_foreign_manifest(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text('{"format": "something else"}')


def make_link(path: Path) -> None:
    real = write_bundle(path.parent / "real.engram", {})
    path.symlink_to(real)


@pytest.mark.parametrize("make", [make_file, make_folder, make_foreign_manifest, make_link])
def test_what_is_not_ours_is_never_replaced(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "x.engram"
    make(path)
    before = sorted(str(file) for file in tmp_path.rglob("*"))
    with pytest.raises(InputError, match="exists and is not ours"):
        write_bundle(path, {"depth": samples.depth()}, overwrite=True)
    assert sorted(str(file) for file in tmp_path.rglob("*")) == before


def test_a_bundle_with_a_strangers_file_is_not_replaced(bundle_path: Path) -> None:
    (bundle_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"not ours alone: it also holds notes\.txt"):
        write_bundle(bundle_path, {"depth": samples.depth()}, overwrite=True)
    assert (bundle_path / "notes.txt").read_text() == "mine"


def test_a_failed_rewrite_leaves_the_old_bundle(bundle_path: Path) -> None:
    with pytest.raises(InputError, match="meta cannot be written as JSON"):
        write_bundle(bundle_path, {"depth": samples.depth()}, meta={"bad": object()}, overwrite=True)
    assert "lens-engram" in open_bundle(bundle_path)
    assert [path.name for path in bundle_path.parent.iterdir()] == ["pair.engram"]


def test_a_rename_that_fails_brings_the_old_bundle_back(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        write_bundle(bundle_path, {"gates": GATES}, overwrite=True)
    assert "lens-engram" in open_bundle(bundle_path)
    assert [path.name for path in bundle_path.parent.iterdir()] == ["pair.engram"]


def test_a_part_wants_a_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wants a name"):
        write_bundle(tmp_path / "x.engram", {"": samples.depth()})
    assert not list(tmp_path.iterdir())


def test_a_bundle_wants_a_folder_to_lie_in(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        write_bundle(tmp_path / "a" / "x.engram", {})
