"""Finding bundles by place, and never outside of the places given."""

from pathlib import Path

from engram_interp.results import write_bundle
from engram_interp.results.finding import find_bundles
from tests.results import samples


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_bundle(path, {"slots:0": samples.slot_lookup()})


def test_a_folder_gives_the_bundles_in_it_and_one_folder_deeper(tmp_path: Path) -> None:
    near, deeper = made(tmp_path / "near.engram"), made(tmp_path / "run" / "near.engram")
    made(tmp_path / "run" / "far" / "away.engram")
    found = find_bundles([tmp_path])
    assert found.bundles == {"near": near, "near-2": deeper}
    assert found.notes == ()


def test_a_bundle_is_found_by_its_name_even_if_it_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "empty.engram").mkdir()
    assert list(find_bundles([tmp_path / "empty.engram"]).bundles) == ["empty"]
    assert list(find_bundles([tmp_path]).bundles) == ["empty"]


def test_a_link_that_leads_out_is_passed_over_and_said(tmp_path: Path) -> None:
    secret = made(tmp_path / "elsewhere" / "secret.engram")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "mine.engram").symlink_to(secret)
    found = find_bundles([tmp_path / "given"])
    assert found.bundles == {}
    assert "is a link that leads out of" in found.notes[0]
    assert "There is no bundle at" in found.notes[1]
