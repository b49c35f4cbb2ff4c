"""What a panel gives away: tables that say which result a value is of, and lines that draw it again."""

import importlib
import io
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pandas as pd
import plotly.graph_objects as go
import pytest

from engram_interp.errors import InputError
from engram_interp.results import links, open_bundle, registry, write_bundle
from engram_interp.views.markup import Html
from tests.apps.helpers import EXPLORER, Start, downloads, parts, rebuilt, settle
from tests.results import samples


def test_the_agreement_is_taken_away_whole(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers")
    (figure,) = rebuilt(app, "agreement.views")
    assert isinstance(figure, go.Figure) and len(figure.data) >= 2
    assert {"csv together agreement", "html together agreement"} <= downloads(app)


def test_what_is_compared_is_taken_away_too(start: Start, bundle: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other.engram", parts())
    app = start(bundle, other, page="compare", b="made-up", **{"with": "other", "part": "depth"})
    (table,) = rebuilt(app, "comparing.depth_numbers")
    assert isinstance(table, Html) and "A: made-up" in table and "B: other" in table
    strips = rebuilt(app, "gate_strip(a[")
    assert len(strips) == 2 and all(isinstance(strip, Html) for strip in strips)
    assert {"csv together numbers of depth", "csv together gates of both"} <= downloads(app)


def test_two_runs_are_taken_away_side_by_side(start: Start) -> None:
    app = start(
        page="ablate", b="planted", prompt="fact-amri", tok="4", spec="rows_zero:t4", vs="gate_zero:t4"
    )
    table, figure = rebuilt(settle(app), "comparing.runs_table")
    assert isinstance(table, Html) and "rows" in table and isinstance(figure, go.Figure)
    assert "csv together both runs" in downloads(app)


def test_several_results_in_one_table_say_which_a_value_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))
    export = importlib.import_module("explorer.export")
    text = export.csv_of_several({"A": samples.depth(), "B, β": samples.stitching()}).decode()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line[:4] for line in comments] == ["# A:", "# B,"]
    frame = pd.read_csv(io.StringIO(text), comment="#")
    assert frame.columns[0] == "of" and set(frame["of"]) == {"A", "B, β"}
    assert len(frame) == len(samples.depth().to_frame()) + len(samples.stitching().to_frame())


def test_a_piece_of_html_shows_itself_in_a_notebook() -> None:
    shown = Html("<b>bold</b>")._repr_html_()
    assert shown.startswith('<div class="engram-view"><style>') and "<b>bold</b>" in shown


def test_a_part_of_a_bundle_knows_its_address(start: Start, bundle: Path) -> None:
    slots = open_bundle(bundle)["slots:0"]
    link = urlsplit(slots.app_url(layer=4, token=2, server="http://host:1/"))
    assert (link.netloc, link.path) == ("host:1", "/memory")
    app = start(bundle, page=link.path[1:], **dict(parse_qsl(link.query)))
    assert {name: app.query_params[name] for name in ("b", "prompt", "layer", "tok")} == {
        "b": "made-up", "prompt": "0", "layer": "4", "tok": "2",
    }  # fmt: skip
    with pytest.raises(InputError, match="was not read from one; write it with write_bundle"):
        samples.depth().app_url()
    assert set(links.PAGES) <= set(registry.kinds())
    assert set(links.PAGES.values()) == {"layers", "tokens", "memory", "ablate"}
