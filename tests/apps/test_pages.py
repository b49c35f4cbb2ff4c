"""Each page in this process, on a bundle that has every part."""

import re
import sys
from pathlib import Path

import pytest

from engram_interp.results import open_bundle, write_bundle
from tests.apps.helpers import Start, charts, figures, parts, rebuilt, show, typed, written
from tests.results import samples


def test_overview_leads_with_the_headline_beside_its_control(start: Start, bundle: Path) -> None:
    text = written(start(bundle))
    assert "+0.60" in text and "95 % 0.40 to 0.80" in text
    assert "+0.05" in text and "internal control" in text
    assert "Depth of with-memory against without" in text
    assert "layers 7 × 5 · memory at 1, 4 · prompts 2 · lens tables 1 · slots 1" in text


def test_overview_draws_the_map_and_lists_the_questions(start: Start, bundle: Path) -> None:
    app = start(bundle)
    assert figures(app) == 1
    labels = [link.proto.label for link in app.get("page_link")]
    assert labels[:4] == ["1 · Which layer?", "2 · Which token?", "3 · Which slot?", "4 · Does it matter?"]


def test_overview_says_how_the_bundle_was_made(start: Start, bundle: Path) -> None:
    app = start(bundle)
    app.session_state["made"] = True
    text = written(app.run())
    assert "depth · estimator" in text and "minibatch" in text
    assert "layers are counted from 0" in text


def test_layers_shows_the_cell_of_the_link(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", cell="3.4")
    assert figures(app) == 4
    assert "CKA of Engram layer 3 with baseline layer 4" in written(app)
    assert app.number_input(key="cell layer").value == 3
    assert app.query_params["cell"] == "3.4"


def test_a_cell_without_a_value_says_why_on_hover(start: Start, tmp_path: Path) -> None:
    cka = samples.depth().data["cka"].values.copy()
    cka[3, 2] = float("nan")
    depth = samples.depth(cka=cka, missing={"cka": "one <b>token</b>"})
    app = start(write_bundle(tmp_path / "one.engram", {"depth": depth}), page="layers", cell="3.2")
    [cells] = [trace for chart in charts(app) for trace in chart["data"] if trace.get("name") == "cells"]
    said = [text for text in cells["customdata"] if text.startswith("n/a")]
    assert said == ["n/a: one &lt;b&gt;token&lt;/b&gt;"]
    assert "undefined: one &lt;b&gt;token&lt;/b&gt;" in written(app)


def test_layers_number_fields_pick_a_cell(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", cell="3.4")
    app.number_input(key="cell layer").set_value(1).run()
    app.number_input(key="cell baseline_layer").set_value(0).run()
    text = written(app)
    assert "CKA of Engram layer 1 with baseline layer 0" in text
    assert "an internal control, not evidence of depth" in text
    assert "An edge layer (hatched): the monotone path has few layers to choose from" in text
    assert app.query_params["cell"] == "1.0"


def test_layers_names_the_bias_of_the_soft_index_only_where_that_is_drawn(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", cell="1.0")
    assert "soft index is biased" not in written(app)
    next(group for group in app.button_group if group.key == "alignment").set_value("soft").run()
    assert "An edge layer (hatched): the soft index is biased here" in written(app)


def test_layers_opens_with_the_headline_and_whether_the_views_agree(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers")
    text = written(app)
    assert text.index("+0.60") < text.index("+0.05") < text.index("For these two models: similarity")
    assert "function (stitching) +0.90 layers (95 % interval [0.70, 1.10])" in text
    assert (
        "The views do not agree: similarity and function deeper; raw-lens prediction and tuned-lens" in text
    )
    assert text.index("For these two models") < text.index("Layer by layer")


def test_layers_draws_a_view_when_it_is_opened(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers")
    assert "A low loss says" not in written(app)
    for part, said in (
        ("stitching", "A low loss says"),
        ("lens-depth", "by the raw logit lens"),
        ("lens-depth-tuned", "by the tuned lens"),
        ("second-opinions", "The measures agree in sign"),
    ):
        app.session_state[f"view {part}"] = True
        shown = figures(app)
        app.run()
        assert not app.exception
        assert said in written(app)
        assert figures(app) == shown + 1


def test_layers_offers_the_log_scale_where_it_makes_sense(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers")
    assert not app.toggle(key="log scale").disabled
    app.toggle(key="log scale").set_value(True).run()
    assert not app.exception
    next(group for group in app.button_group if group.key == "quantity").set_value("agreement").run()
    assert app.toggle(key="log scale").disabled


def test_tokens_opens_at_the_token_its_bundle_names(start: Start, bundle: Path) -> None:
    app = start(bundle, page="tokens")
    text = written(app)
    assert app.number_input(key="bar token").value == 3
    assert "Memory read at token 3 Wales, by layer and n-gram." in text
    assert "2-gram <code>two␣3</code> 3-gram <code>one␣two␣3</code>" in text
    assert "What each layer would predict" in text


@pytest.mark.parametrize("page", ["tokens", "memory", "report"])
def test_a_download_does_not_run_the_page_again(start: Start, bundle: Path, page: str) -> None:
    buttons = start(bundle, page=page).get("download_button")
    assert buttons and all(button.proto.ignore_rerun for button in buttons)


def test_tokens_shows_token_text_as_text(start: Start, bundle: Path) -> None:
    text = written(start(bundle, page="tokens", tok="4"))
    assert "<img" not in text
    assert "&lt;img" in text


def test_tokens_follows_layer_and_stream_of_the_bar(start: Start, bundle: Path) -> None:
    app = start(bundle, page="tokens", layer="4", stream="max")
    text = written(app)
    assert "ground: layer 4 · max of 3; bars from the top: layer 1 · max of 3; layer 4 · max of 3" in text
    app.selectbox(key="bar stream").set_value("2").run()
    assert "ground: layer 4 · stream 2" in written(app)
    assert app.query_params["stream"] == "2"


def test_memory_names_the_nearest_memory_layer(start: Start, bundle: Path) -> None:
    text = written(start(bundle, page="memory", layer="6"))
    assert "Layer 6 reads no memory; layer 4, the nearest that does, is shown." in text


def test_memory_shows_the_rows_what_they_promote_and_how_much_came_from_them(
    start: Start, bundle: Path
) -> None:
    app = start(bundle, page="memory", tok="8")
    text = written(app)
    assert "Memory read at token 8" in text and "What this memory promotes" in text
    assert "How much of the prediction came from here?" in text and figures(app) == 2
    assert app.selectbox(key="slot").options[0].startswith("order 2, head 0: row ")
    assert "Who shares the row is not in this bundle." in text
    app.selectbox(key="slot").set_value("3.1").run()
    assert app.query_params["slot"] == "3.1" and app.query_params["view"] == "columns"
    app.number_input(key="bar token").set_value(5).run()
    assert "The bundle does not hold this for token 5." in written(app)


def test_memory_shows_where_the_n_gram_stands_in_the_other_prompts(start: Start) -> None:
    app = start(page="memory", b="wiki-nano", prompt="napoleon", layer="1", tok="5", slot="2.0")
    page = written(app)
    [heading] = re.findall(r"Where “(.*?)” stands in the prompts", page)
    times = re.search(r"stands (\d+) times? in the 120 prompts", page)
    assert times is not None and heading
    [table] = rebuilt(app, "contexts.strongest(")
    assert re.sub(r'<span class="mark">(.*?)</span>', r"\1", str(table)) in page
    app.selectbox(key="slot").set_value("3.0").run()
    [longer] = re.findall(r"Where “(.*?)” stands in the prompts", written(app))
    assert longer.endswith(heading) and len(longer) > len(heading)


def test_memory_shows_no_places_whose_gates_are_of_another_model(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    app = typed(start(bundle, "--model", tiny_model, page="tokens"), "Kalo met the ren")
    show(app, "memory")
    assert "Which rows were read" in written(app)
    assert "stands in the prompts" not in written(app)


def test_memory_shows_the_tests_of_the_gates_when_opened(start: Start, bundle: Path) -> None:
    app = start(bundle, page="memory", tok="8")
    shown = figures(app)
    app.session_state["gates"] = True
    app.run()
    text = written(app)
    assert "own against collider rows 0.660 [0.63, 0.70] at layer 4 · stream 2 (untrained 0.490" in text
    assert (
        "Mean gate by how often training saw" in text and "no untrained null stands beside the strata" in text
    )
    assert "the gate as a predictor of a cost: AUC 0.620" in text
    assert figures(app) == shown + 4


def test_ablate_shows_what_is_retained_when_opened(start: Start, bundle: Path) -> None:
    app = start(bundle, page="ablate")
    assert "facts 0.700 [0.67, 0.74] (chance 0.250, baseline 0.600)" in written(app)
    assert figures(app) == 1 and "facts, 40 probes" not in written(app)
    app.session_state["retained"] = True
    app.run()
    assert not app.exception and figures(app) == 2
    assert "facts, 40 probes; chance 0.250" in written(app) and "≥ 50 times, 20 probes" in written(app)
    next(group for group in app.button_group if group.key == "probe set").set_value("reading").run()
    assert "reading, 24 probes" in written(app) and "so there is nothing to retain" in written(app)


def test_layers_shows_the_map_of_the_data_that_is_chosen(start: Start, tmp_path: Path) -> None:
    cka = samples.depth().data["cka"].values.copy()
    cka[3, 2] = 0.123
    other = samples.depth(cka=cka)
    path = write_bundle(tmp_path / "two.engram", parts() | {"depth:every-token": other})
    app = start(path, page="layers", cell="3.2")
    assert "0.123" not in written(app) and app.selectbox(key="data of the map").value == "depth"
    app.selectbox(key="data of the map").set_value("depth:every-token").run()
    assert "0.123" in written(app) and app.query_params["data"] == "depth:every-token"
    [lines] = [code.value for code in app.code if "headlines.cell" in code.value]
    assert "bundle['depth:every-token']" in lines


def test_report_takes_away_what_is_open(start: Start, bundle: Path) -> None:
    app = start(bundle, page="report", parts="tokens,memory", tok="8")
    text = written(app)
    for said in ("Gates of “0”", "Rows that were read of “0”", "What the memory gives the prediction of “0”"):
        assert f"<b>{said}. </b>" in text
    assert "<b>Depth map" not in text
    assemble = sys.modules["explorer.assemble"]
    scene = sys.modules["explorer.scene"].scene_of(open_bundle(bundle))
    shown = assemble.opened(scene, scene.prompts["0"], ["layers", "memory"], link="/x?b=1")
    page = sys.modules["explorer.sections"].page(shown, note="why <b>")
    assert "why &lt;b&gt;" in page and "Layers: depth map" in page and "Memory read at token" in page
    assert "http://" not in page.split("<script")[0] and "/x?b=1" in page


def test_a_result_that_no_page_is_about_is_on_the_overview(start: Start, tmp_path: Path) -> None:
    kept = {"depth": parts()["depth"], "elsewhere": parts()["stitching"]}
    app = start(write_bundle(tmp_path / "one.engram", kept))
    app.session_state["other elsewhere"] = True
    app.run()
    assert "A low loss says" in written(app) and figures(app) == 2


def test_the_tour_walks_from_page_to_page(start: Start) -> None:
    app = start()
    app.button(key="tour start").click().run()
    assert "Tour 1 of 5" in written(app) and app.query_params["prompt"] == "fact-amri"
    app.button(key="tour next").click().run()
    app.button(key="tour next").click().run()
    assert "Tour 3 of 5" in written(app) and "Memory read at token 4 ␣vel" in written(app)
    app.button(key="tour end").click().run()
    assert "Tour" not in written(app)


def test_the_selection_stays_from_page_to_page(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", cell="4.2", tok="2")
    app.query_params.clear()
    show(app, "tokens")
    assert app.selectbox(key="bar layer").value == 4
    assert app.number_input(key="bar token").value == 2
    assert app.query_params["layer"] == "4"


def test_a_link_holds_everything_that_is_chosen(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(bundle)
    assert dict(app.query_params) == {
        "b": "made-up", "prompt": "0", "layer": "1", "stream": "all", "tok": "3", "v": "1",
    }  # fmt: skip
    copied: list[str] = []
    monkeypatch.setattr(sys.modules["explorer.buttons"], "copy", lambda text, **_: copied.append(text))
    app.run()
    assert copied[0].endswith("?b=made-up&prompt=0&layer=1&stream=all&tok=3&v=1")


def test_saved_results_are_shown_without_a_live_model(start: Start, bundle: Path) -> None:
    start(bundle, page="tokens")
    live = sys.modules["explorer.live"]
    assert live.live().held._model is None and not len(live.worker())
