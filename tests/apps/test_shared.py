"""Texts that links speak of: kept on this machine when a link is copied, and found again after a restart."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import streamlit as st

from tests.apps.helpers import EXPLORER, Start, settle, show, written

TEXT = "Kalo met the ren"


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPLORER))
    monkeypatch.setenv("ENGRAM_INTERP_KEPT", str(tmp_path / "kept"))
    st.cache_resource.clear()
    return importlib.import_module("explorer.shared")


def restarted() -> None:
    st.cache_resource.clear()


def test_a_kept_text_outlives_the_server(shared: ModuleType, tmp_path: Path) -> None:
    name = shared.remember("typed", TEXT)
    assert shared.text_of(name) == TEXT
    restarted()
    assert shared.text_of(name) is None  # nobody copied its link
    shared.remember("typed", TEXT)
    shared.save(name, "typed-00000000", "../../typed-00000000")
    assert [file.name for file in (tmp_path / "kept").iterdir()] == [f"{name}.json"]
    restarted()
    assert shared.text_of(name) == TEXT


@pytest.mark.parametrize(
    "held", ["{", "[]", '{"text": 3}', '{"text": "another text"}', "{}", '{"text": "' + "x" * 200_000 + '"}']
)
def test_a_file_that_is_not_the_text_is_passed_over(shared: ModuleType, tmp_path: Path, held: str) -> None:
    name = shared.remember("typed", TEXT)
    restarted()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / f"{name}.json").write_text(held)
    assert shared.text_of(name) is None


def test_a_name_cannot_leave_the_folder(shared: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "typed-12345678.json").write_text(json.dumps({"text": TEXT}))
    assert shared.text_of("../typed-12345678") is None
    assert "put" not in shared.unknown("typed-<b>") and "put" in shared.unknown("typed-12345678")


def test_a_folder_that_cannot_be_written_is_no_harm(shared: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    name = shared.remember("typed", TEXT)
    shared.save(name)
    assert shared.text_of(name) == TEXT


def test_a_link_to_a_text_of_another_machine_opens_with_its_recipe(
    shared: ModuleType, tmp_path: Path, start: Start, bundle: Path, tiny_model: Path
) -> None:
    name = shared.remember("typed", TEXT)
    restarted()
    arguments = (bundle, "--model", tiny_model)
    page = written(start(*arguments, page="tokens", prompt=name))
    assert "was typed elsewhere and is not known here" in page and f"{name}.json" in page
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / f"{name}.json").write_text(shared.recipe(name, TEXT))
    assert "run now by tiny" in written(settle(start(*arguments, page="tokens", prompt=name)))


def test_a_link_brings_the_note_of_a_report(shared: ModuleType, start: Start, bundle: Path) -> None:
    app = start(bundle, page="report")
    app.text_area(key="report note").set_value("Because layer 4.").run()
    name = app.query_params["note"]
    assert name.startswith("note-") and "Because" not in str(dict(app.query_params))
    other = start.again(page="report", note=name)  # type: ignore[attr-defined]  # on a function
    assert other.text_area(key="report note").value == "Because layer 4."
    show(other, "tokens")
    show(other, "report")
    assert other.text_area(key="report note").value == "Because layer 4."
    lost = start.again(page="report", note="note-00000000")  # type: ignore[attr-defined]  # on a function
    assert "its words are not known here" in written(lost)
