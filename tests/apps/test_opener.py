"""Overview opens bundles and models by their path, for this visitor, where no other machine is served."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from engram_interp.results import write_bundle
from tests.apps.helpers import Start, settle, show, typed, written
from tests.results import samples

BUNDLE, MODEL = "path of a bundle", "path of a model"


@pytest.fixture(autouse=True)
def local() -> Iterator[None]:
    """A server that listens to this machine alone, as the command line starts it."""
    before = st.get_option("server.address")
    st.config.set_option("server.address", "localhost")
    yield
    st.config.set_option("server.address", before)


@pytest.fixture
def elsewhere(bundle: Path, tmp_path: Path) -> Path:
    """A folder that the explorer was not given, with two bundles."""
    shutil.copytree(bundle, tmp_path / "far" / "one.engram")
    write_bundle(tmp_path / "far" / "two.engram", {"depth": samples.depth()})
    return tmp_path / "far"


def opened(app: AppTest, key: str, path: Path | str) -> AppTest:
    app.text_input(key=key).set_value(str(path)).run()
    return settle(app)


def test_a_bundle_opens_by_its_path_and_stays_for_this_visitor(
    start: Start, bundle: Path, elsewhere: Path
) -> None:
    app = opened(start(bundle), BUNDLE, elsewhere / "two.engram")
    assert "Loaded: two" in written(app) and app.query_params["b"] == "two"
    assert app.text_input(key=BUNDLE).value == ""
    assert set(app.selectbox(key="bar bundle").options) == {"made-up", "two"}
    show(app, "layers")
    assert app.selectbox(key="bar bundle").value == "two"
    other = start(bundle, b="two")
    assert "There is no bundle “two” here" in written(other)


def test_a_folder_opens_the_first_of_its_bundles_and_lists_the_others(
    start: Start, bundle: Path, elsewhere: Path
) -> None:
    app = opened(start(bundle), BUNDLE, f' "{elsewhere}" ')
    assert "Loaded: one" in written(app)
    app.button(key="open two").click().run()
    assert "Loaded: two" in written(app)


def test_of_many_bundles_the_open_one_stands_first_and_the_rest_in_a_fold(
    start: Start, bundle: Path, tmp_path: Path
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


def test_a_model_is_loaded_by_its_path_and_runs_what_is_typed(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    app = start(bundle)
    assert "wiki-nano/engram is loaded when a text is run, or now." in written(app)
    opened(app, MODEL, tiny_model)
    assert "tiny, loaded: 4 layers, memory at layers 1 and 2." in written(app)
    show(app, "tokens")
    assert "run now by tiny" in written(typed(app, "Kalo met the ren"))


def test_the_model_that_would_run_is_loaded_ahead(start: Start, bundle: Path, tiny_model: Path) -> None:
    app = start(bundle, "--model", tiny_model)
    app.button(key="load model").click().run()
    assert "tiny, loaded: 4 layers" in written(settle(app))
    assert not [button for button in app.button if button.key == "load model"]


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(
    start: Start, bundle: Path, tiny_model: Path, tmp_path: Path
) -> None:
    torn = Path(shutil.copytree(tiny_model, tmp_path / "torn"))
    (torn / "model.safetensors").write_bytes(b"cut short")
    app = opened(start(bundle, "--model", tiny_model), MODEL, torn)
    assert "This cannot be run." in written(app) and "Give another model." in written(app)
    assert "tiny is loaded when a text is run" in written(app.run())


def test_two_models_of_one_folder_name_do_not_share_results(
    start: Start, bundle: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from engram_interp.checkpoints.native import save_native
    from tests import support

    other = save_native(tmp_path / "tiny", support.model(seed=5), tokenizer=support.tokenizer())
    app = typed(start(bundle, "--model", tiny_model, page="tokens"), "Kalo met the ren")
    [before] = [line for line in written(app).split("<p") if "Token " in line and "gate:" in line]
    show(app, "")
    opened(app, MODEL, other)
    show(app, "tokens")
    [after] = [line for line in written(settle(app)).split("<p") if "Token " in line and "gate:" in line]
    assert "run now by tiny" in written(app) and before != after


def test_a_server_that_others_reach_opens_no_paths(start: Start, bundle: Path) -> None:
    st.config.set_option("server.address", "0.0.0.0")
    app = start(bundle)
    assert "Paths are off: other machines reach this server." in written(app)
    assert not {BUNDLE, MODEL} & {field.key for field in app.text_input}
