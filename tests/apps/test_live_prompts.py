"""Prompts of a bundle and typed texts on a model that is not the bundle's: other tokens, layers, streams."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engram_interp import pairs
from engram_interp.results import GateReading, write_bundle
from tests.apps.helpers import Start, figures, parts, settle, show, typed, written
from tests.results import samples

WITHOUT_SLOTS = "1"
"""Of this prompt the made-up bundle holds gates, of four tokens, and no slots."""


def made(folder: Path, text: str) -> Path:
    """The made-up bundle with `text` as the prompt without slots."""
    data = samples.gate_reading().data
    gates = GateReading(data=data.assign(prompt_text=("prompt", ["Only Kalo saw the mi", text])))
    return write_bundle(folder / "made.engram", parts() | {"gates": gates})


def offered(app: AppTest, key: str) -> list[str]:
    """What a row of choices offers; empty where it is not drawn."""
    return [str(option) for group in app.button_group if group.key == key for option in group.options]


@pytest.mark.parametrize("text", ["K", "Kalo met the ren and the vel"])
def test_a_prompt_that_the_live_model_reads_as_other_tokens_opens(
    start: Start, tiny_model: Path, tmp_path: Path, text: str
) -> None:
    path = made(tmp_path, text)
    app = start(path, "--model", tiny_model, page="tokens", prompt=WITHOUT_SLOTS, tok="3")
    app.button(key="run slots").click().run()
    [count] = re.findall(r"(\d+) tokens, run now by tiny", written(settle(app)))
    token = app.number_input(key="bar token")
    assert int(count) != 4 and token.max == int(count) - 1
    assert token.value == min(3, int(count) - 1)


def test_a_prompt_without_slots_is_ablated_and_once_run_by_its_parts(
    start: Start, tiny_model: Path, tmp_path: Path
) -> None:
    path = made(tmp_path, "Kalo met the ren")
    app = start(path, "--model", tiny_model, page="ablate", prompt=WITHOUT_SLOTS, tok="3")
    assert not any(offered(app, key) for key in ("ab layers", "ab orders", "ab heads"))
    app.button(key="run ablation").click().run()
    assert settle(app).query_params["spec"] == "rows_zero:t3" and "rows_zero" in written(app)
    app.button(key="run ablate").click().run()
    settle(app)
    assert offered(app, "ab layers") == ["1", "2"] and offered(app, "ab orders") == ["2", "3"]
    assert not app.button(key="run ablation").disabled
    next(group for group in app.button_group if group.key == "ab orders").set_value([]).run()
    assert app.button(key="run ablation").disabled


def test_the_packaged_bundle_s_prompts_without_slots_can_be_ablated(start: Start) -> None:
    app = start(page="ablate", b="wiki-nano", prompt="france")
    with_slots = [name for name in app.selectbox(key="bar prompt").options if "slots" in name]
    other = next(name for name in app.selectbox(key="bar prompt").options if name not in with_slots)
    app.selectbox(key="bar prompt").set_value(other).run()
    assert offered(app, "ab layers") == ["1", "4"] and not offered(app, "ab orders")
    assert not app.button(key="run ablation").disabled
    next(group for group in app.button_group if group.key == "ab layers").set_value([]).run()
    assert app.button(key="run ablation").disabled


def test_a_typed_text_offers_the_streams_and_layers_of_the_model_that_ran(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    app = start(bundle, "--model", tiny_model, page="tokens", stream="2")
    app.text_input(key="typed text").set_value("Kalo met the ren").run()
    assert "There is no stream “2”; all streams are shown." in written(settle(app))
    assert app.query_params["stream"] == "all" and app.selectbox(key="bar stream").options == ["0 (only)"]
    assert app.selectbox(key="bar layer").options == ["0", "1 · memory", "2 · memory", "3"]
    show(app, "ablate")
    assert offered(app, "ab layers") == ["1", "2"]
    show(app, "layers")
    assert len(app.selectbox(key="bar layer").options) == 7


def test_a_typed_text_is_ablated_beside_a_bundle_without_gates(
    start: Start, tiny_model: Path, tmp_path: Path
) -> None:
    path = write_bundle(tmp_path / "one.engram", {"depth": parts()["depth"]})
    app = start(path, "--model", tiny_model, page="ablate")
    app.text_input(key="typed text").set_value("Kalo met the ren").run()
    assert not settle(app).button(key="run ablation").disabled


def test_rows_that_another_model_numbered_are_not_looked_up(
    start: Start, tiny_model: Path, tmp_path: Path
) -> None:
    path = made(tmp_path, "Kalo met the ren")
    app = start(path, "--model", tiny_model, page="memory", prompt="0", tok="8", live="on")
    text = written(settle(app))
    assert "These rows are numbered as with-memory hashes; tiny, which runs here, hashes otherwise." in text
    assert "distinct n-gram" not in text
    shown = figures(app)
    app.button(key="run neighbours").click().run()
    assert "distinct n-gram" in written(settle(app)) and figures(app) > shown


def test_a_packaged_model_given_by_its_folder_is_the_one_of_its_bundle(start: Start) -> None:
    folder = pairs.with_memory()["wiki-nano/engram"]
    app = start("--model", folder, page="memory", b="wiki-nano", prompt="napoleon", layer="1", tok="30")
    assert "Which rows were read" in written(app)
    assert "hashes otherwise" not in written(app) and "what is computed is of" not in written(app)
    assert any(node.label == "Compute what is missing with wiki-nano/engram" for node in app.toggle)


def test_half_a_character_is_shown_as_its_bytes_on_every_page(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    app = typed(start(bundle, "--model", tiny_model, page="tokens"), "Kalo 🙂 met")
    text = written(app)
    assert all(f"‹{byte}›" in text for byte in ("F0", "9F", "99", "82")) and "U+FFFD" not in text
    link = dict(app.query_params)
    for page, more in (("memory", {"live": "on"}), ("ablate", {"spec": "rows_zero:t3"}), ("report", {})):
        app = settle(start(bundle, "--model", tiny_model, page=page, **link | {"tok": "3"} | more))
        assert "U+FFFD" not in written(app)


UNKNOWN = pytest.mark.filterwarnings("ignore:.*does not know:UserWarning")  # they also go to the log


@UNKNOWN
def test_words_the_model_does_not_know_are_said_on_the_page(start: Start) -> None:
    app = typed(start(page="tokens", b="planted"), "hello zor vel")
    assert "The text holds words that planted does not know" in written(app)


def test_a_typed_text_that_was_stopped_is_run_again_by_the_button_beside_it(tokens: AppTest) -> None:
    typed(tokens, "Kalo met the ren")
    live, waiting = sys.modules["explorer.live"].live(), sys.modules["explorer.waiting"]
    job = live.read("Kalo met the ren")
    waiting._left().add(job)
    job.stop = True
    tokens.button(key="run typed").click().run()
    assert live.read("Kalo met the ren") is not job


def test_a_link_names_the_model_that_ran_its_text(start: Start, tiny_model: Path) -> None:
    app = typed(start(page="tokens", b="planted"), "nax yod zor vel")
    link = dict(app.query_params)
    assert link["model"] == "planted"
    text = written(settle(start(page="tokens", **link | {"b": "wiki-nano"})))
    assert "run now by planted" in text and "0.996" in text
    said = "The link’s text was run by planted, which runs texts from now on; Overview goes back."
    assert said in written(start(**link | {"b": "wiki-nano"}))
    app = start("--model", tiny_model, **link | {"model": "another"})
    assert "The link’s text was run by another; here tiny runs it." in written(app)
    app.selectbox(key="bar prompt").set_value("fact-amri").run()
    assert "model" not in app.query_params


def test_the_report_names_the_model_of_a_text_that_is_not_the_bundle_s(
    start: Start, tmp_path: Path, tiny_model: Path
) -> None:
    path = write_bundle(
        tmp_path / "mine.engram", parts(), meta={"models": {"engram": {"name": "with-memory"}}}
    )
    app = typed(start(path, "--model", tiny_model, page="tokens"), "Kalo met the ren")
    show(app, "report")
    assert "Gates of “typed: Kalo met the ren”, run by tiny. " in written(settle(app))
    app.session_state["selection"] = replace(
        app.session_state["selection"], settings={"spec": "rows_zero:t3"}
    )
    assert "in “typed: Kalo met the ren”, run by tiny. " in written(settle(app.run()))
    app.selectbox(key="bar prompt").set_value("0").run()
    assert "Gates of “0”. " in written(settle(app))


def test_words_that_an_ablation_s_model_does_not_know_are_said_beside_it(
    start: Start, tmp_path: Path
) -> None:
    link = {"b": "wiki-nano", "prompt": "france", "tok": "16", "off": "rows_zero"}
    app = settle(start("--model", pairs.with_memory()["planted"], page="tokens", **link))
    assert "the switches run planted." in written(app)
    assert "words that planted does not know" in written(app)


def test_an_n_gram_that_stands_nowhere_is_said_to_and_nothing_is_drawn(start: Start) -> None:
    app = typed(start(page="memory", b="wiki-nano", live="on"), "The People's Republic of")
    text = written(settle(app))
    assert "holds no n-gram of the text" in text and "Nowhere in the prompts of the bundle" in text
    assert not [chart for chart in app.get("plotly_chart") if "lives in row" in chart.proto.spec]
