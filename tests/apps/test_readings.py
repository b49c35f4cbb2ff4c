"""What the pages read off the packaged pair: the soft index at any k, the gates at one token."""

from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from engram_interp import pairs
from engram_interp.results import DepthResult, open_bundle
from tests.apps.helpers import Start, charts, rebuilt, written


def test_layers_shows_the_soft_index_at_the_k_of_the_link_and_leaves_the_rest(start: Start) -> None:
    def drawn(app: AppTest) -> object:
        *_, figure = rebuilt(app, 'plot(view="shift"')
        return figure

    app = start(page="layers", b="wiki-nano", align="soft", shift="soft", k="3", cell="1.2")
    depth = open_bundle(pairs.bundle_path("wiki-nano"))["depth"]
    assert isinstance(depth, DepthResult)
    assert "alignment: soft index (paper, eq. 9), k = 3" in str(charts(app))
    assert drawn(app) == depth.at_k(3).plot(view="shift", alignment="soft")
    headline = f"{float(depth.data['headline']):+.2f}"
    assert headline in written(app) and app.query_params["k"] == "3"
    app.selectbox(key="k of the soft index").set_value("").run()
    assert drawn(app) == depth.plot(view="shift", alignment="soft") and headline in written(app)
    app = start(page="layers", b="wiki-nano", align="soft", k="99")
    assert "k=99 is none of" in written(app)
    assert "k" not in app.run().query_params and "k = 5" in str(charts(app))
    app = start(page="layers", b="wiki-nano", align="soft", k="5")
    assert " is none of " not in written(app) and "k = 5" in str(charts(app))
    app = start(page="layers", b="wiki-nano", k="3")
    assert not [box for box in app.selectbox if box.key == "k of the soft index"], "the path knows no k"


def test_tokens_sets_the_gates_here_beside_the_text_and_an_untrained_gate(start: Start) -> None:
    app = start(page="tokens", b="wiki-nano", prompt="napoleon", tok="30")
    page = written(app)
    assert "How open are the gates here" in page
    [table] = rebuilt(app, "gate_here.gates_here(")
    assert str(table) in page and page.count("untrained 0.2") == 2


def test_the_shift_by_layer_follows_the_alignment_of_the_map_and_can_leave_it(
    start: Start, bundle: Path
) -> None:
    app = start(bundle, page="layers", cell="3.4")

    def chosen(key: str) -> Any:
        return next(group for group in app.button_group if group.key == key)

    chosen("alignment").set_value("soft").run()
    assert (app.query_params["align"], app.query_params["shift"]) == ("soft", "soft")
    chosen("estimate").set_value("peak").run()
    assert (app.query_params["align"], app.query_params["shift"]) == ("soft", "peak")
    chosen("alignment").set_value("none").run()
    assert (app.query_params["align"], app.query_params["shift"]) == ("none", "peak")
