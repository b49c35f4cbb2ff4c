"""Bundles whose names, parts and sizes try the pages; and what a page gives away to be pasted elsewhere."""

import ast
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engram_interp import pairs
from engram_interp.results import open_bundle, write_bundle
from tests.apps import awkward
from tests.apps.helpers import Start, charts, figures, written
from tests.results import samples

PICTURE = "![x](http://host.example/x.png) **b** :red[d] <img src=x>"
QUOTED = 'x"]\nimport os'


@pytest.fixture
def altered(bundle: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """Copies the bundle and changes the copy's manifest."""

    def alter(change: Callable[[dict[str, Any]], None]) -> Path:
        copy = Path(shutil.copytree(bundle, tmp_path / "copy.engram"))
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        change(manifest)
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return copy

    return alter


def test_a_part_s_name_is_text_in_labels_and_in_code(
    start: Start, altered: Callable[[Callable[[dict[str, Any]], None]], Path]
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["parts"] |= dict.fromkeys((PICTURE, QUOTED, "q\ud800"), manifest["parts"]["stitching"])

    app = start(altered(change))
    [label] = [one.label for one in app.expander if "host" in one.label]
    assert label.endswith(r"\!\[x\](http\://host.example/x.png) \*\*b\*\* \:red\[d\] \<img src=x\>")
    assert r"Part &#x27;q\ud800&#x27; has a name that is no text; it is ignored." in written(app)
    app.session_state[f"other {QUOTED}"] = True
    app.run()
    [code] = [code.value for code in app.code if "import os" in code.value]
    assert len(ast.parse(code).body) == 5


def test_sizes_that_cannot_be_are_not_believed(
    start: Start, altered: Callable[[Callable[[dict[str, Any]], None]], Path]
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["parts"]["depth"]["shapes"]["layer"] = 10**12

    app = start(altered(change))
    assert len(app.selectbox(key="bar layer").options) == 6  # as the lens curve says
    assert "The depth map in this bundle cannot be read." in written(app)


def test_a_folder_s_name_that_is_no_text_is_spelled_out(start: Start, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"run-\xff.engram")
    try:
        shutil.copytree(bundle, folder)
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    app = start(bundle, tmp_path)
    assert app.selectbox(key="bar bundle").options == ["made-up", r"run-\udcff"]
    app.selectbox(key="bar bundle").set_value(r"run-\udcff").run()
    assert not app.exception and r"Loaded: run-\udcff" in written(app)


def test_a_part_that_the_machine_cannot_read_leaves_the_others(
    start: Start, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram_interp.results import manifest

    whole = manifest.checksum

    def denied(path: Path) -> str:
        if path.name == "depth.nc":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(manifest, "checksum", denied)
    app = start(shutil.copytree(bundle, tmp_path / "copy.engram"), page="layers")
    assert "parts/depth.nc cannot be read (Permission denied)" in written(app) and figures(app) == 1


def test_the_tour_ends_where_there_is_no_other_bundle(start: Start) -> None:
    app = start(pairs.bundle_path("planted"), page="tokens", tour="5")
    assert "Tour 5 of 5" in written(app)
    assert [button.key for button in app.button if str(button.key).startswith("tour")] == [
        "tour back",
        "tour end",
    ]


def _texts(value: Any) -> list[str]:
    """Every text in a figure."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for one in inner for text in _texts(one)]


@pytest.mark.parametrize("page", ["", "layers", "tokens", "memory", "ablate", "compare", "report"])
def test_texts_that_try_a_page_are_text_on_every_page_and_in_the_report(
    start: Start, bundle: Path, tmp_path: Path, page: str
) -> None:
    named = {"lens-engram": samples.convergence(model="<img src=x>")}
    path = write_bundle(tmp_path / "awkward.engram", awkward.parts(long=60) | named)
    app = start(path, bundle, page=page, prompt="awkward", tok="7", layer="1", part="gates")
    drawn = [text for chart in charts(app) for text in _texts(chart)]
    assert drawn or page not in {"layers", "compare"}
    labels = [one.label for one in [*app.expander, *app.selectbox, *app.button, *app.toggle]]
    options = [str(one) for choice in [*app.selectbox, *app.button_group] for one in choice.options]
    for text in [written(app), *drawn, *labels, *options]:
        assert "<img" not in text and "<script>window" not in text and "\u202e" not in text
    if page == "report":
        assemble, scene = sys.modules["explorer.assemble"], sys.modules["explorer.scene"]
        found = scene.scene_of(open_bundle(path))
        shown = assemble.opened(found, found.prompts["awkward"], ["tokens", "memory"], link="/x")
        report = sys.modules["explorer.sections"].page(shown, note="<img src=x>")
        assert "&lt;img" in report and "<img" not in report.split("<script")[0] and "\u202e" not in report
