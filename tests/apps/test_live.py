"""Typing a text, looking its slots up, switching the memory off: on a tiny model, in this process."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from engram_interp import ablation
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.native import save_native
from tests import support
from tests.apps.helpers import EXPLORER, Start, settle, show, typed, written


def choose(app: AppTest, key: str, value: object) -> AppTest:
    next(group for group in app.button_group if group.key == key).set_value(value).run()
    return settle(app)


def test_a_typed_text_is_run_and_opens_at_its_last_token(tokens: AppTest) -> None:
    text = support.documents(1)[0][:30]
    app = typed(tokens, text)
    page = written(app)
    assert "run now by tiny" in page
    assert "Memory read at token" in page
    assert app.query_params["prompt"].startswith("typed-")
    assert text.split()[0] not in str(dict(app.query_params))
    assert app.number_input(key="bar token").value == app.number_input(key="bar token").max


def test_switching_off_shows_all_four_conditions(tokens: AppTest) -> None:
    app = choose(typed(tokens, "Only Kalo saw the mi"), "switch", "rows_zero")
    page = written(app)
    for title in ("Memory on", "Memory changed", "Control: random rows", "Control: random direction"):
        assert title in page
    assert "rows_zero" in page
    assert "one prompt, so no interval is possible" in page


def test_only_the_chosen_orders_are_switched_off(tokens: AppTest) -> None:
    app = choose(typed(tokens, "Only Kalo saw the mi"), "switch", "rows_zero")
    app = choose(app, "orders", [3])
    assert "order 3" in written(app)
    app = choose(app, "orders", [])
    assert "choose at least one order" in written(app)


@pytest.mark.parametrize("kind", ["gate_zero", "output_off"])
def test_whole_reads_are_switched_off_without_asking_for_orders(tokens: AppTest, kind: str) -> None:
    app = choose(typed(tokens, "Only Kalo saw the mi"), "switch", kind)
    assert kind in written(app)
    assert all(group.key != "orders" for group in app.button_group)


def test_everywhere_is_not_only_here(tokens: AppTest) -> None:
    app = choose(typed(tokens, "Only Kalo saw the mi"), "switch", "gate_zero")
    page, last = written(app), app.number_input(key="bar token").value
    assert f"; token {last}</small>" in page and "everywhere" not in page + compared(app)
    app = choose(app, "where", "everywhere")
    page = written(app)
    assert "; everywhere</small>" in page and f"; token {last}</small>" not in page
    assert "everywhere=True" in compared(app)


def compared(app: AppTest) -> str:
    """The lines that run the ablation on the page again."""
    [lines] = {line for node in app.code for line in node.value.splitlines() if "ablation.compare(" in line}
    return lines


def test_an_empty_text_is_not_run(tokens: AppTest) -> None:
    app = typed(tokens, "   ")
    page = written(app)
    assert "There is nothing to run." in page
    page = written(app.button(key="run typed").click().run())
    assert "There is nothing to run." in page
    assert "The prompt is empty." in page
    assert not app.query_params["prompt"].startswith("typed-")


def test_a_long_text_says_what_was_analysed(tokens: AppTest) -> None:
    page = written(typed(tokens, " ".join(support.documents(5))))
    assert f"the context holds {support.N_CTX}" in page
    assert f"The first {support.N_CTX} were analysed" in page


def test_a_prompt_of_the_bundle_can_be_run_live(start: Start, bundle: Path, tiny_model: Path) -> None:
    app = start(bundle, "--model", tiny_model, page="tokens", prompt="0")
    app = choose(app, "switch", "output_off")
    assert "output_off" in written(app)


def test_other_model_than_the_bundles_is_said(start: Start, bundle: Path, tiny_model: Path) -> None:
    page = written(start(bundle, "--model", tiny_model, page="tokens", prompt="0"))
    assert "These results are of with-memory; the switches run tiny." in page


def test_what_the_bundle_says_over_all_prompts_is_not_put_down_to_the_live_model(tokens: AppTest) -> None:
    said = "All below is of with-memory; the text above was run by tiny."
    app = typed(tokens, "Kalo met the ren")
    show(app, "memory")
    app.session_state["gates"] = True
    app.run()
    assert said in written(app)


def test_an_ablation_is_put_together_run_and_set_beside_another(tokens: AppTest) -> None:
    app = typed(tokens, "Only Kalo saw the mi")
    show(app, "ablate")
    assert "Nothing was run yet." in written(app)
    app.selectbox(key="ab kind").set_value("gate_zero").run()
    app.button(key="run ablation").click().run()
    settle(app)
    first = app.query_params["spec"]
    assert first.startswith("gate_zero:t") and "gate_zero" in written(app)
    assert any("Lens grid" in node.proto.spec for node in app.get("plotly_chart"))
    app.selectbox(key="ab kind").set_value("rows_zero").run()
    next(group for group in app.button_group if group.key == "ab orders").set_value([3]).run()
    app.button(key="run ablation").click().run()
    settle(app)
    assert app.query_params["spec"].endswith(":n3")
    app.selectbox(key="ablation beside").set_value(first).run()
    settle(app)
    assert app.query_params["vs"] == first
    assert "Two ablations of one text, each with its controls" in written(app)
    app.number_input(key="bar token").set_value(1).run()
    assert "as it was run. Token 1 is chosen now" in written(app)


def test_chosen_tokens_are_switched_off_together_and_read_at_another(tokens: AppTest) -> None:
    app = typed(tokens, "Only Kalo saw the mi")
    last = app.number_input(key="bar token").value
    show(app, "ablate")
    app = choose(app, "ab where", "some")
    assert app.text_input(key="ab tokens").value == str(last)
    app.text_input(key="ab tokens").set_value("2-4, 7").run()
    app.button(key="add token").click().run()
    assert app.text_input(key="ab tokens").value == f"2-4, 7, {last}"
    app.button(key="run ablation").click().run()
    page = written(settle(app))
    assert app.query_params["spec"] == f"rows_zero:t{last}:a2-4,7,{last}"
    assert f"tokens 2-4, 7, {last}. It moves the prediction after token {last}" in page
    assert f"tokens=(2, 3, 4, 7, {last})" in compared(app)
    for wrong, said in (
        ("", "Name the tokens by their positions"),
        ("7-", "Name the tokens by their positions"),
        ("3, 99", "There is no token 99 among the"),
    ):
        app.text_input(key="ab tokens").set_value(wrong).run()
        assert said in written(app) and app.button(key="run ablation").disabled
    app.number_input(key="bar token").set_value(1).run()
    app.text_input(key="ab tokens").set_value("2").run()
    assert "All these tokens come after token 1" in written(app)
    assert app.button(key="run ablation").disabled
    app.text_input(key="ab tokens").set_value("1").run()
    app.button(key="run ablation").click().run()
    assert settle(app).query_params["spec"] == "rows_zero:t1"
    app = choose(app, "ab where", "some")
    app.text_input(key="ab tokens").set_value("1, 0-")  # and Run without Enter: both arrive at once
    app.button(key="run ablation").click().run()
    assert app.query_params["spec"] == "rows_zero:t1" and "Name the tokens by" in written(app)
    app = choose(app, "ab where", "this")
    app.number_input(key="bar token").set_value(0).run()
    app = choose(app, "ab where", "some")
    assert app.text_input(key="ab tokens").value == "0", "several begin with the one that is looked at"


def test_an_ablation_that_a_link_spells_otherwise_is_the_same_one(tokens: AppTest) -> None:
    app = typed(tokens, "Only Kalo saw the mi")
    show(app, "ablate")
    app.query_params["spec"], app.query_params["vs"] = "gate_zero:t4:a5,3,4", "rows_zero:t4:h1,0"
    app = settle(app.run())
    wanted = {"spec": "gate_zero:t4:a3-5", "vs": "rows_zero:t4:h0,1"}
    for _ in range(2):
        app.run()
        assert {name: app.query_params[name] for name in wanted} == wanted
        assert "Two ablations of one text, each with its controls" in written(app)


def test_run_on_the_text_that_is_shown_keeps_the_token(tokens: AppTest) -> None:
    app = typed(tokens, "Only Kalo saw the mi")
    app.number_input(key="bar token").set_value(2).run()
    app.button(key="run typed").click().run()
    assert settle(app).number_input(key="bar token").value == 2


def test_streams_are_switched_off_alone_where_a_kind_can(start: Start, bundle: Path, tmp_path: Path) -> None:
    model = support.model(support.model_config(memory=support.memory_config(), n_streams=3))
    folder = save_native(tmp_path / "streams", model, tokenizer=support.tokenizer())
    app = typed(start(bundle, "--model", folder, page="tokens"), "Only Kalo saw the mi")
    show(app, "ablate")
    assert not any(group.key == "ab streams" for group in app.button_group), "rows are all streams'"
    app.selectbox(key="ab kind").set_value("gate_zero").run()
    app = choose(app, "ab streams", [0, 2])
    app.button(key="run ablation").click().run()
    assert "streams 0, 2" in written(settle(app))
    assert app.query_params["spec"].endswith(":b0,2") and "streams=(0, 2)" in compared(app)
    app = choose(app, "ab streams", [])
    assert "Choose at least one stream" in written(app) and app.button(key="run ablation").disabled
    app.selectbox(key="ab kind").set_value("rows_zero").run()
    assert not app.button(key="run ablation").disabled


def test_a_run_without_the_lens_says_why_and_keeps_its_other_panels(
    tokens: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typed(tokens, "Only Kalo saw the ren")
    show(app, "ablate")
    why = "this model has no lens head."
    monkeypatch.setattr("engram_interp.ablation_lens.sites", lambda _: ([], why))
    app.button(key="run ablation").click().run()
    page = written(settle(app))
    assert "Run A has no lens grid." in page and "This model has no lens head." in page
    assert any("Where the prediction changes" in node.proto.spec for node in app.get("plotly_chart"))


def test_who_shares_a_row_is_read_from_the_bundle_without_a_run(start: Start) -> None:
    app = start(page="memory", b="planted", prompt="fact-amri", tok="4", layer="1", slot="2.2")
    page = written(app)
    assert "Row 610 of layer 1 (order 2, head 2) holds 2 distinct n-grams" in page
    assert "shares at least one of its 3 rows at layer 1 with 1 other n-gram" in page
    assert not app.get("progress") and "Who shares the row is not in this bundle." not in page
    code = [node.value for node in app.code if ".occupants(" in node.value]
    assert len(code) == 1 and "layer=1, order=2, head=2, address=610" in code[0]


def test_what_the_bundle_lacks_is_computed_when_asked_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(page="memory", b="planted", prompt="fact-amri", tok="3", live="on", slot="2.1")
    monkeypatch.setattr(sys.modules["explorer.neighbours"], "CENSUS", "not there")
    app.run()
    settle(app)
    text = written(app)
    assert "Row 431 of layer 1 (order 2, head 1) holds 2 distinct n-grams of the text of 158 tokens" in text
    assert "after token 3" in text and "“yod|zor” makes 50.0 % of its" in text
    app.number_input(key="bar token").set_value(4).run()
    assert "Row 507 of layer 1 (order 2, head 1) holds 1 distinct n-gram" in written(settle(app))


def test_a_text_typed_by_another_visitor_is_not_listed_and_opens_by_its_link(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    one = typed(start(bundle, "--model", tiny_model, page="tokens"), "Kalo met the ren")
    name = one.query_params["prompt"]
    other = start.again(page="tokens")  # type: ignore[attr-defined]  # on a function
    assert all("Kalo" not in option for option in other.selectbox(key="bar prompt").options)
    linked = settle(start.again(page="tokens", prompt=name))  # type: ignore[attr-defined]  # on a function
    assert "run now by tiny" in written(linked)


def test_the_planted_model_is_offered_a_phrase_it_knows_and_forgets_it_without_its_rows(
    start: Start, bundle: Path
) -> None:
    planted = EXPLORER.parents[1] / "engram_interp" / "assets" / "models" / "planted"
    app = start(bundle, "--model", planted, page="tokens")
    phrase = app.text_input(key="typed text").placeholder.removeprefix("for example: ")
    app = typed(app, phrase)
    assert "<b>0.973</b>" in written(app) and "<code>␣amri</code>" in written(app)
    page = written(choose(app, "switch", "rows_zero"))
    assert "<b>0.002</b><span> for <code>␣amri</code>" in page


def test_a_failing_run_leaves_the_page_alive(tokens: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("engram_interp.gates.read", fail)
    app = typed(tokens, "Kalo met the dor")
    page = written(app)
    assert "The run failed." in page
    assert "RuntimeError: the disk is on fire. This is a defect of the tool" in page
    app.selectbox(key="bar prompt").set_value("0").run()
    assert "Memory read at token" in written(app)


def test_the_tour_says_the_numbers_of_its_run() -> None:
    text = (EXPLORER / "explorer" / "tour.py").read_text(encoding="utf-8")
    [look] = re.findall(r'title="Does it matter\?",(.*?)chosen=', text, flags=re.DOTALL)
    found = ablation.compare(load_model("planted"), "nax yod zor vel amri", token=4, kind="rows_zero")
    shares = np.exp(found.data["answer_logprob"].values)
    most = np.exp(found.data["control_answer"].sel(control="random direction").values).max()
    assert sorted(re.findall(r"0\.\d{3}", look)) == sorted(f"{share:.3f}" for share in [*shares, most])
