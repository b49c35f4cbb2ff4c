"""Overview opens bundles by their path, where no other machine is served."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from engram_interp.results import write_bundle
from tests.apps.helpers import Start, settle, show, written
from tests.results import samples

pytestmark = pytest.mark.usefixtures("local_server")
BUNDLE, MODEL = "path of a bundle", "path of a model"


@pytest.fixture
def elsewhere(bundle: Path, tmp_path: Path) -> Path:
    """A folder that the explorer was not given, with two bundles."""
    shutil.copytree(bundle, tmp_path / "far" / "one.engram")
    write_bundle(tmp_path / "far" / "two.engram", {"depth": samples.depth()})
    return tmp_path / "far"


SAID = [(BUNDLE, "There is no bundle at"), (MODEL, "There is no model at")]


def opened(app: AppTest, key: str, path: Path | str) -> AppTest:
    app.text_input(key=key).set_value(str(path)).run()
    return settle(app)


def test_a_bundle_opens_by_its_path_and_by_its_link_as_long_as_the_server_runs(
    start: Start, bundle: Path, elsewhere: Path
) -> None:
    app = opened(start(bundle), BUNDLE, elsewhere / "two.engram")
    assert "Loaded: two" in written(app) and app.query_params["b"] == "two"
    assert app.text_input(key=BUNDLE).value == ""
    assert set(app.selectbox(key="bar bundle").options) == {"made-up", "two"}
    show(app, "layers")
    assert app.selectbox(key="bar bundle").value == "two"
    assert "Loaded: two" in written(start(bundle, b="two"))
    shutil.rmtree(elsewhere)
    text = written(start(bundle, b="two"))
    assert "There is no bundle “two” here" in text and "There is no bundle at" not in text


def test_the_link_of_a_bundle_that_was_opened_by_its_path_says_where_it_works(
    start: Start, bundle: Path, elsewhere: Path
) -> None:
    start(bundle)
    shelf: Any = sys.modules["explorer.shelf"]
    assert shelf.by_path("made-up") is None
    shelf.add(elsewhere)
    assert shelf.by_path("two") == elsewhere / "two.engram"
    assert shelf.add(elsewhere) == "one" and len(shelf.shelf().bundles) == 3


def test_a_folder_opens_the_first_of_its_bundles_and_lists_the_others(
    start: Start, bundle: Path, elsewhere: Path
) -> None:
    app = opened(start(bundle), BUNDLE, f' "{elsewhere}" ')
    assert "Loaded: one" in written(app)
    app.button(key="open two").click().run()
    assert "Loaded: two" in written(app)


def test_two_bundles_of_one_name_are_told_apart(start: Start, bundle: Path, tmp_path: Path) -> None:
    same = Path(shutil.copytree(bundle, tmp_path / "other" / "made-up.engram"))
    app = opened(start(bundle), BUNDLE, same)
    assert app.query_params["b"] == "made-up-2"
    assert app.button(key="open made-up-2").disabled and not app.button(key="open made-up").disabled


def test_of_many_bundles_the_open_one_stands_first_and_the_rest_in_a_fold(
    start: Start, tmp_path: Path
) -> None:
    for number in range(8):
        write_bundle(tmp_path / f"run-{number}.engram", {"depth": samples.depth()})
    app = start(tmp_path, b="run-7")
    keys = [button.key for button in app.button if str(button.key).startswith("open ")]
    assert keys[0] == "open run-7" and len(keys) == 6
    app.session_state["more bundles"] = True
    app.run()
    assert len([button for button in app.button if str(button.key).startswith("open ")]) == 8


@pytest.mark.parametrize(
    ("place", "why"), [("nowhere", "Nothing is there."), ("", "It is a folder."), ("file", "It is a file.")]
)
@pytest.mark.parametrize(
    ("key", "said"), [(BUNDLE, "There is no bundle at"), (MODEL, "There is no model at")]
)
def test_a_path_that_opens_nothing_is_named_and_what_is_open_stays(
    start: Start, bundle: Path, tmp_path: Path, *, place: str, why: str, key: str, said: str
) -> None:
    (tmp_path / "file").write_text("text", encoding="utf-8")
    app = opened(start(bundle), key, tmp_path / place)
    assert f"{said} {tmp_path / place}." in written(app) and why in written(app)
    assert "Loaded: made-up" in written(app) and app.text_input(key=key).value == str(tmp_path / place)
    assert said not in written(app.run())


@pytest.mark.parametrize("text", ["~nosuchuser/x", "x" * 300, "a\0b"])
@pytest.mark.parametrize(
    ("key", "said"), [(BUNDLE, "There is no bundle at"), (MODEL, "There is no model at")]
)
def test_a_text_that_is_no_path_is_named_too(
    start: Start, bundle: Path, *, text: str, key: str, said: str
) -> None:
    app = opened(start(bundle), key, text)
    assert said in written(app) and "It cannot be looked up" in written(app)
    assert "Loaded: made-up" in written(app)


def test_where_there_is_no_bundle_or_a_damaged_one_another_opens_by_its_path(
    start: Start, bundle: Path, elsewhere: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    app = start(tmp_path / "empty")
    assert "There is no bundle to open." in written(app)
    assert "Loaded: two" in written(opened(app, BUNDLE, elsewhere / "two.engram"))
    st.cache_resource.clear()
    torn = Path(shutil.copytree(bundle, tmp_path / "torn.engram"))
    (torn / "manifest.json").write_text("{", encoding="utf-8")
    app = start(torn)
    assert "This bundle is damaged." in written(app)
    assert "Loaded: two" in written(opened(app, BUNDLE, elsewhere / "two.engram"))


@pytest.mark.parametrize(
    "headers", [{"Host": "engram.example:8501"}, {"Host": "localhost", "X-Forwarded-For": "192.0.2.1"}]
)
def test_behind_a_proxy_no_paths_are_opened(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(type(st.context), "headers", headers)
    assert "Paths are off" in written(start(bundle))


def test_a_server_that_others_reach_opens_no_paths(start: Start, bundle: Path) -> None:
    st.config.set_option("server.address", "0.0.0.0")
    app = start(bundle)
    assert "Paths are off: other machines reach this server." in written(app)
    assert not {BUNDLE, MODEL} & {field.key for field in app.text_input}
