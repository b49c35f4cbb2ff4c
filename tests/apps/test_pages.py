"""Each page in this process, on a bundle that has every part."""

import sys
from pathlib import Path

from tests.apps.helpers import Start, figures, show, written


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
    assert labels == ["1 · Which layer?", "2 · Which token?", "3 · Which slot, and does it matter?"]


def test_overview_says_how_the_bundle_was_made(start: Start, bundle: Path) -> None:
    text = written(start(bundle))
    assert "depth · estimator" in text and "minibatch" in text
    assert "layers are counted from 0" in text


def test_layers_shows_the_cell_of_the_link(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", cell="3.4")
    assert figures(app) == 4
    assert "CKA of Engram layer 3 with baseline layer 4" in written(app)
    assert app.number_input(key="cell layer").value == 3
    assert app.query_params["cell"] == "3.4"


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
    assert "They do not agree: similarity and function deeper; raw-lens prediction and tuned-lens" in text
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
    assert "Memory read at token 3 Wales, layer 1" in text
    assert "2-gram <code>two␣3</code> 3-gram <code>one␣two␣3</code>" in text
    assert "What each layer would predict" in text


def test_tokens_shows_token_text_as_text(start: Start, bundle: Path) -> None:
    text = written(start(bundle, page="tokens", tok="4"))
    assert "<img" not in text
    assert "&lt;img" in text


def test_tokens_follows_layer_and_stream_of_the_bar(start: Start, bundle: Path) -> None:
    app = start(bundle, page="tokens", layer="4", stream="max")
    text = written(app)
    assert "ground: layer 4 · max of 3; bars from the top: layer 1 · max of 3; layer 4 · max of 3" in text
    assert "Memory read at token 3 Wales, layer 4" in text
    app.selectbox(key="bar stream").set_value("2").run()
    assert "ground: layer 4 · stream 2" in written(app)
    assert app.query_params["stream"] == "2"


def test_tokens_names_the_nearest_memory_layer(start: Start, bundle: Path) -> None:
    text = written(start(bundle, page="tokens", layer="6"))
    assert "Layer 6 reads no memory; layer 4, the nearest that does, is shown." in text


def test_tokens_shows_the_tests_of_the_gates_and_what_is_retained_when_opened(
    start: Start, bundle: Path
) -> None:
    app = start(bundle, page="tokens")
    text = written(app)
    assert "own against collider rows 0.660 [0.63, 0.70] at layer 4 · stream 2 (untrained 0.490" in text
    assert "Mean gate by training hits" in text and "no untrained null stands beside the strata" in text
    assert "the gate as a predictor of a cost: AUC 0.620" in text
    assert "facts 0.700 [0.67, 0.74] (chance 0.250, baseline 0.600)" in text
    assert figures(app) == 4 and "facts, 40 probes" not in text
    app.session_state["retained"] = True
    app.run()
    assert not app.exception and figures(app) == 5
    assert "facts, 40 probes; chance 0.250" in written(app) and "≥ 50 hits, 20 probes" in written(app)
    next(group for group in app.button_group if group.key == "probe set").set_value("reading").run()
    assert "reading, 24 probes" in written(app) and "so there is nothing to retain" in written(app)


def test_the_selection_stays_from_page_to_page(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", cell="4.2", tok="2")
    app.query_params.clear()
    show(app, "tokens")
    assert app.selectbox(key="bar layer").value == 4
    assert app.number_input(key="bar token").value == 2
    assert app.query_params["layer"] == "4"


def test_a_link_holds_everything_that_is_chosen(start: Start, bundle: Path) -> None:
    app = start(bundle)
    assert dict(app.query_params) == {
        "b": "made-up", "prompt": "0", "layer": "1", "stream": "all", "tok": "3", "v": "1",
    }  # fmt: skip
    assert "b=made-up&prompt=0&layer=1&stream=all&tok=3&v=1" in app.code[0].value


def test_saved_results_are_shown_without_a_live_model(start: Start, bundle: Path) -> None:
    start(bundle, page="tokens")
    live = sys.modules["explorer.live"]
    assert live.live()._model is None and not len(live.worker())
