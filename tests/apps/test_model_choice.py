"""Overview loads models by their path; links, the tour and other bundles keep to the right one."""

import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from engram_interp.checkpoints.native import save_native
from tests import support
from tests.apps.helpers import Start, settle, show, typed, written

pytestmark = pytest.mark.usefixtures("local_server")
MODEL = "path of a model"


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Another model in a folder of the same name."""
    model = support.model(seed=5)
    return save_native(tmp_path / "second" / "tiny", model, tokenizer=support.tokenizer())


def opened(app: AppTest, key: str, path: Path | str) -> AppTest:
    app.text_input(key=key).set_value(str(path)).run()
    return settle(app)


def gates(app: AppTest) -> str:
    """What the page says of the gates at the chosen token."""
    [found] = [line for line in written(app).split("<p") if "Token " in line and "· gate:" in line]
    return found


def live() -> Any:
    """The explorer's module on live models."""
    return sys.modules["explorer.live"]


def test_a_model_is_loaded_by_its_path_and_runs_what_is_typed(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    app = start(bundle)
    assert "wiki-nano/engram, not loaded yet." in written(app)
    opened(app, MODEL, tiny_model)
    assert "tiny, loaded: 4 layers, memory at layers 1 and 2." in written(app)
    show(app, "tokens")
    assert "run now by tiny" in written(typed(app, "Kalo met the ren"))
    show(app, "")
    app.button(key="own model").click().run()
    assert "wiki-nano/engram, not loaded yet." in written(app)


def test_a_model_that_is_asked_for_runs_texts_though_nobody_waits_for_it(
    start: Start, bundle: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(bundle)
    job = sys.modules["explorer.worker"].Job
    with monkeypatch.context() as patch:
        patch.setattr(
            sys.modules["explorer.model_choice"], "preload", lambda _: job(steps=3)
        )  # takes for ever
        app.text_input(key=MODEL).set_value(str(tiny_model)).run()
        assert app.get("progress")
    show(app, "tokens")
    assert "run now by tiny" in written(typed(app, "Kalo met the ren"))


def test_loading_ahead_does_not_keep_the_model_for_other_bundles(start: Start) -> None:
    app = start(b="wiki-nano")
    app.button(key="load model").click().run()
    assert "wiki-nano/engram, loaded: 8 layers, memory at layers 1 and 4." in written(settle(app))
    assert not [button for button in app.button if button.key in {"load model", "own model"}]
    app.selectbox(key="bar bundle").set_value("planted").run()
    assert "planted, not loaded yet." in written(app)


def test_the_tour_runs_the_planted_model_whatever_was_chosen_and_gives_that_back(
    start: Start, tiny_model: Path, second: Path
) -> None:
    app = opened(start("--model", tiny_model), MODEL, second)
    assert "tiny, loaded: 4 layers" in written(app)
    app.button(key="tour start").click().run()
    for _ in range(3):
        app.button(key="tour next").click().run()
    assert "0.973" in written(settle(app)) and "the switches run" not in written(app)
    app.button(key="tour end").click().run()
    show(app, "")
    assert "tiny, loaded: 4 layers" in written(app)


def test_a_text_run_by_a_model_opened_by_its_path_is_run_by_it_for_whoever_opens_the_link(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    app = opened(start(bundle), MODEL, tiny_model)
    show(app, "tokens")
    typed(app, "Kalo met the ren")
    link = dict(app.query_params)
    assert link["model"] == live().model_at(tiny_model).tag
    other = settle(start(bundle, page="tokens", **link))
    assert "run now by tiny" in written(other)
    unknown = start(bundle, **link | {"model": "tiny~000000"})
    assert "The link’s text was run by tiny~000000; here wiki-nano/engram runs it." in written(unknown)


def test_a_link_to_a_text_that_is_not_known_leaves_the_model(start: Start) -> None:
    app = start(b="wiki-nano", prompt="typed-0000abcd", model="planted")
    assert "wiki-nano/engram, not loaded yet." in written(app)


def test_what_a_typed_text_loaded_is_said_to_be_loaded(start: Start, bundle: Path, tiny_model: Path) -> None:
    app = typed(start(bundle, "--model", tiny_model, page="tokens"), "Kalo met the ren")
    show(app, "")
    assert "tiny, loaded: 4 layers" in written(app)


def test_a_model_that_cannot_be_read_leaves_the_one_before_and_is_read_again_once_mended(
    start: Start, bundle: Path, tiny_model: Path, second: Path
) -> None:
    weights = (second / "model.safetensors").read_bytes()
    (second / "model.safetensors").write_bytes(b"cut short")
    app = opened(start(bundle), MODEL, tiny_model)
    opened(app, MODEL, second)
    assert "This cannot be run." in written(app) and "Give another model." in written(app)
    assert app.session_state["model this visitor loaded"].path == tiny_model.resolve()
    (second / "model.safetensors").write_bytes(weights)
    opened(app, MODEL, second)
    assert "tiny, loaded: 4 layers" in written(app) and "This cannot be run." not in written(app)
    assert app.session_state["model this visitor loaded"].path == second.resolve()


def test_files_beside_the_weights_do_not_make_another_model(start: Start, bundle: Path, second: Path) -> None:
    start(bundle)
    before = live().model_at(second)
    (second / "log.jsonl").write_text("{}", encoding="utf-8")
    assert live().model_at(second, anew=True) is before
    (second / "config.json").write_bytes((second / "config.json").read_bytes() + b" ")
    assert live().model_at(second) is before, "it does not change under those who use it"
    assert live().model_at(second, anew=True) is not before


def test_a_stopped_run_does_not_keep_the_model_in_memory(start: Start, bundle: Path) -> None:
    start(bundle)
    worker = sys.modules["explorer.worker"]

    class Held:
        """Stands for a model."""

    found: list[Any] = []

    def run(_: Any) -> None:
        model = Held()
        found.append(weakref.ref(model))
        raise worker.StoppedError("stopped")

    job = live().worker().submit("a stopped run", run, steps=1)
    assert isinstance(job.future.exception(), worker.StoppedError)
    gc.collect()
    assert found[0]() is None


def test_a_load_that_was_stopped_is_taken_up_again(start: Start, bundle: Path, tiny_model: Path) -> None:
    app = start(bundle, "--model", tiny_model)
    job = live().preload(live().model_at(tiny_model))
    job.stop = True
    job.future.cancel()
    app.button(key="load model").click().run()
    assert "tiny, loaded: 4 layers" in written(settle(app))


def test_of_two_models_given_by_path_the_last_stays_in_memory_and_their_results_stay_apart(
    start: Start, bundle: Path, tiny_model: Path, second: Path
) -> None:
    app = opened(start(bundle), MODEL, tiny_model)
    show(app, "tokens")
    before = gates(typed(app, "Kalo met"))
    show(app, "")
    opened(app, MODEL, second)
    assert not live().model_at(tiny_model).held.told and live().model_at(second).held.told
    show(app, "tokens")
    after = gates(settle(app))
    assert "run now by tiny" in written(app) and before != after
