"""Parts that are other than their names say, manifests and pages that fail: what is said, and what to do."""

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from engram_interp import pairs
from engram_interp.results import open_bundle, write_bundle
from tests.apps.helpers import EXPLORER, Start, figures, parts, show, written
from tests.results import samples


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(bundle, tmp_path / "copy.engram"))


def test_a_bundle_whose_depth_map_is_another_result_says_so(start: Start, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other.engram", parts() | {"depth": samples.stitching()})
    for page in ("", "layers"):
        text = written(start(other, page=page))
        assert "In place of its depth map this bundle has another result." in text
        assert "Its part “depth” is a stitching result, and a depth result is wanted." in text


WRONG = {
    "layers": {"second-opinions": "other measures"},
    "tokens": {"lens-table:0": "lens table"},
    "memory": {"gate-selectivity": "gate selectivity", "gate-statistics": "gate statistics",
               "attribution:0": "attribution"},
    "ablate": {"ablation": "ablation effects", "retained": "retained performance"},
}  # fmt: skip


MODELS = {"engram": {"name": "my model"}, "baseline": {"name": "base"}}


@pytest.mark.parametrize(
    ("meta", "command"),
    [
        (
            {"models": MODELS, "prompts": {"source": "texts/my own.jsonl"}},
            "--engram 'PATH/my model' --baseline PATH/base --prompts 'texts/my own.jsonl' --out DIR",
        ),
        (
            {"models": MODELS, "prompts": {"source": "packaged prompts 'entities'"}},
            "--engram 'PATH/my model' --baseline PATH/base --out DIR",
        ),
        ({}, "--engram MODEL --baseline MODEL --prompts FILE --out DIR"),
        (
            {"models": {"engram": {"name": "a\nrm"}}, "prompts": [3]},
            "--engram MODEL --baseline MODEL --prompts FILE --out DIR",
        ),
    ],
)
def test_a_bundle_is_made_anew_from_its_own_models_and_prompts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, meta: dict[str, Any], command: str
) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))
    path = write_bundle(tmp_path / "mine.engram", {"depth": samples.depth()}, meta=meta)
    remake = importlib.import_module("explorer.remake").command
    assert remake(open_bundle(path)) == f"engram-interp report {command}"
    assert remake(open_bundle(pairs.bundle_path("wiki-nano"))) == (
        "engram-interp report --pair wiki-nano --out DIR"
    )


def test_what_is_missing_is_named_with_the_command_that_makes_it(start: Start, tmp_path: Path) -> None:
    kept = {name: part for name, part in parts().items() if name != "depth"}
    app = start(write_bundle(tmp_path / "mine.engram", kept, meta={"models": MODELS}), page="layers")
    assert "The report makes “depth” where the models and prompts allow it:" in written(app)
    assert any("--engram 'PATH/my model' --baseline PATH/base" in code.value for code in app.code)


@pytest.mark.parametrize("page", WRONG)
def test_a_part_of_another_kind_than_its_name_says_says_so(start: Start, tmp_path: Path, page: str) -> None:
    other = write_bundle(tmp_path / "other.engram", parts() | dict.fromkeys(WRONG[page], samples.stitching()))
    text = written(start(other, page=page, prompt="0", tok="8", open="gates"))
    for what in WRONG[page].values():
        assert f"In place of its {what} this bundle has another result." in text


def test_gates_that_are_another_result_are_said_where_nothing_else_carries_the_strip(
    start: Start, tmp_path: Path
) -> None:
    other = write_bundle(
        tmp_path / "other.engram", {"gates": samples.stitching(), "slots:0": samples.depth()}
    )
    text = written(start(other, page="tokens", prompt="0"))
    assert "In place of its gates this bundle has another result." in text


def test_compare_says_which_of_two_parts_of_one_name_is_another_result(
    start: Start, bundle: Path, tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "other.engram", parts() | {"depth": samples.stitching()})
    app = start(bundle, other, page="compare", part="depth", b="made-up", **{"with": "other"})
    assert "In place of its depth map this bundle has another result." in written(app)
    assert figures(app) == 1


def test_every_part_that_is_compared_has_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))
    shelf = importlib.import_module("explorer.shelf")
    assert set(shelf.PARTS) <= set(shelf.KINDS)


@pytest.mark.parametrize(
    ("models", "todo", "command"),
    [
        ({"engram": {"name": "one", "memory_layers": [1]}}, "This bundle is of one model.", "PATH/one"),
        (
            {"engram": {"name": "a", "memory_layers": []}, "baseline": {"name": "b"}},
            "both models of this bundle are without a memory",
            "",
        ),
    ],
)
def test_no_command_is_given_that_cannot_make_what_is_missing(
    start: Start, tmp_path: Path, *, models: dict[str, Any], todo: str, command: str
) -> None:
    kept = {name: part for name, part in parts().items() if name != "depth"}
    app = start(write_bundle(tmp_path / "mine.engram", kept, meta={"models": models}), page="layers")
    assert todo in written(app)
    found = [code.value for code in app.code if "engram-interp report" in code.value]
    assert all(command in one for one in found) and bool(found) == bool(command)


def test_the_planted_model_is_offered_no_report_and_a_damaged_package_is_installed_again(
    start: Start,
) -> None:
    app = start(page="layers", b="planted")
    assert "this bundle is of one model, without a baseline" in written(app)
    assert not [code.value for code in app.code if "engram-interp report" in code.value]
    anew = importlib.import_module("explorer.remake").anew(open_bundle(pairs.bundle_path("planted")))
    assert anew.todo.startswith("It came with the package") and "pip install" in anew.command


@pytest.mark.parametrize("shapes", ["null", "[3]", '"layer"'])
def test_shapes_that_are_none_leave_the_page(start: Start, copy: Path, shapes: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["parts"]["depth"]["shapes"] = json.loads(shapes)
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    text = written(start(copy, page="layers"))
    assert "does not describe part &#x27;depth&#x27; properly" in text and "The lens" in text


def test_a_page_that_fails_says_so_and_the_others_work(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = start(bundle)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by <b>")

    monkeypatch.setattr(sys.modules["explorer.layers"], "page", fail)
    show(app, "layers")
    text = written(app)
    assert not app.exception and "This page failed." in text
    assert "ZeroDivisionError: division by &lt;b&gt;. This is a defect of the tool" in text
    assert caplog.records[-1].exc_info is not None and "layers" in caplog.records[-1].getMessage()
    show(app, "tokens")
    assert "This page failed." not in written(app) and "What was read here" in written(app)


def test_a_page_that_stops_or_runs_again_has_not_failed(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(bundle)
    drawn: list[str] = []

    def twice() -> None:
        drawn.append("page")
        if len(drawn) == 1:
            st.rerun()
        st.stop()

    monkeypatch.setattr(sys.modules["explorer.layers"], "page", twice)
    show(app, "layers")
    assert drawn == ["page", "page"] and not app.exception
    assert "This page failed." not in written(app)
