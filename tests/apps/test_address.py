"""The address of an open page: it follows every choice, and nothing that is chosen is undone by it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.apps.helpers import Start, written


@pytest.mark.parametrize(
    ("version", "said"),
    [(None, "This bundle is damaged."), (99, "This bundle was made by a newer version.")],
)
def test_a_link_to_a_bundle_that_cannot_be_opened_lets_the_reader_open_another(
    start: Start, bundle: Path, tmp_path: Path, version: int | None, said: str
) -> None:
    cut = Path(shutil.copytree(bundle, tmp_path / "cut.engram"))
    manifest = json.loads((cut / "manifest.json").read_text(encoding="utf-8"))
    manifest["format"]["version"] = version
    (cut / "manifest.json").write_text("{" if version is None else json.dumps(manifest), encoding="utf-8")
    app = start(bundle, cut, b="cut", prompt="0", tok="2")
    assert said in written(app)
    app.selectbox(key="bar bundle").set_value("made-up").run()
    assert "Loaded: made-up" in written(app) and app.query_params["b"] == "made-up"


def test_a_click_before_the_browser_has_the_new_address_is_not_undone(start: Start, bundle: Path) -> None:
    app = start(bundle, page="tokens", tok="3")
    before = dict(app.query_params)
    app.number_input(key="bar token").set_value(4).run()
    app.query_params.clear()
    app.query_params.update(before)  # the browser is one write behind
    app.number_input(key="bar token").set_value(5).run()
    assert app.number_input(key="bar token").value == 5 and app.query_params["tok"] == "5"


def test_a_new_link_is_taken_over_in_an_open_page(start: Start, bundle: Path) -> None:
    app = start(bundle, page="tokens", tok="3")
    app.query_params["tok"] = "6"
    app.run()
    assert app.number_input(key="bar token").value == 6


def test_a_whole_link_empties_what_it_leaves_out_and_a_short_one_keeps_it(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", open="view stitching")
    whole = {name: value for name, value in app.query_params.items() if name != "open"}
    assert "v" in whole and "open" not in whole
    short = {"b": "made-up", "cell": "2.2"}
    app.query_params.clear()
    app.query_params.update(short)
    app.run()
    assert app.query_params["open"] == "view stitching"
    app.query_params.clear()
    app.query_params.update(whole)  # as Back asks for the address before the fold was opened
    app.run()
    assert "open" not in app.query_params
