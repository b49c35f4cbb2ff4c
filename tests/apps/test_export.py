"""What a panel gives away: tables that say which result a value is of, and lines that draw it again."""

import importlib
import io
import json
import math
import re
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zipfile import ZipFile

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from engram_interp.errors import InputError
from engram_interp.results import links, open_bundle, write_bundle
from engram_interp.views.markup import Html
from tests.apps.helpers import EXPLORER, Start, charts, downloads, parts, ran, rebuilt, settle, show
from tests.results import memory_samples, samples

VIEWS = "view stitching,view lens-depth,view lens-depth-tuned,view second-opinions"


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


PLANTED = {"b": "planted", "prompt": "fact-amri", "tok": "4"}
PAGES = {
    "every view, without self-reference": (
        "layers",
        {"self": "off", "cell": "1.0", "align": "peak", "open": VIEWS},
    ),
    "one stream": ("tokens", {"prompt": "0", "tok": "3", "stream": "2"}),
    "gates, edits and tables": ("memory", {"prompt": "0", "tok": "8", "view": "parts", "open": "gates"}),
    "retained": ("ablate", {"prompt": "0", "open": "retained", "probes": "reading"}),
    "planted": ("tokens", PLANTED),
    "planted, switched off": ("tokens", {**PLANTED, "off": "rows_zero"}),
    "planted rows": ("memory", {**PLANTED, "layer": "2", "open": "gates"}),
    "planted ablation": ("ablate", {**PLANTED, "spec": "rows_zero:t4"}),
}


@pytest.mark.parametrize("case", PAGES)
def test_the_lines_of_every_panel_draw_what_the_panel_shows(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    page, link = PAGES[case]
    given = (
        []
        if "planted" in case
        else [write_bundle(tmp_path / "made-up.engram", parts() | {"edits": memory_samples.edit_report()})]
    )
    app = settle(start(*given, page=page, **link))
    monkeypatch.chdir(tmp_path)
    body = "".join(node.proto.body for node in app.get("html"))
    shown = [_traces(chart) for chart in charts(app)]
    drawn = [
        traces for code in app.code if code.language == "python" for traces in _rebuilt(code.value, body)
    ]
    pairs = [_alike(one, other) for one in drawn for other in shown]
    alike = np.array(pairs, bool).reshape(len(drawn), len(shown))
    assert alike.any(axis=1).all(), "a figure is drawn that the page does not show"
    assert alike.any(axis=0).all(), "a figure is shown that no lines draw"


def _alike(one: Any, other: Any) -> bool:
    """The same, numbers to five digits: a model that runs twice need not give the last bits again."""
    if isinstance(one, dict) and "bdata" in one:
        a, b = (np.frombuffer(b64decode(each["bdata"]), each["dtype"]) for each in (one, other))
        return len(a) == len(b) and bool(np.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-7)
    return bool(one == other)


def _rebuilt(lines: str, body: str) -> list[Any]:
    """The traces of the figures that lines draw; the tables that they show are on the page."""
    found: list[Any] = []
    for value in ran(lines):
        if isinstance(value, go.Figure):
            found.append(_traces(json.loads(value.to_json())))
            continue
        assert isinstance(value, Html)
        if 'class="strip"' in value:  # on the page a component that can be clicked
            names = re.findall(r'class="row-name">([^<]+)<', value)
            assert f"bars from the top: {'; '.join(names)}<" in body
        else:
            assert value in body, lines
    return found


def _traces(chart: dict[str, Any]) -> list[dict[str, Any]]:
    """A figure's traces, without the squares that pick a cell and what stands on hover in their place."""
    hover = ("hoverinfo", "hovertemplate", "customdata")
    return [
        {name: value for name, value in trace.items() if name not in hover}
        for trace in chart["data"]
        if trace.get("name") != "cells"
    ]


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


@pytest.mark.parametrize(
    "part",
    [
        "gate-statistics",
        "gate-selectivity",
        "stitching",
        "lens-depth-tuned",
        "retained",
        "elsewhere",
        "edits",
    ],
)
def test_the_address_of_a_part_shows_it(start: Start, tmp_path: Path, part: str) -> None:
    more = {"elsewhere": samples.lens_depth(), "edits": memory_samples.edit_report()}
    path = write_bundle(tmp_path / "made-up.engram", parts() | more)
    result = open_bundle(path)[part]
    link = urlsplit(result.app_url())
    app = start(path, page=link.path[1:], **dict(parse_qsl(link.query)))
    shown = [trace for chart in charts(app) for trace in _traces(chart)]
    assert all(trace in shown for trace in _traces(json.loads(result.plot().to_json())))


def test_every_part_that_a_page_looks_for_has_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))
    assert {*links.PLACES, *links.OF_PROMPTS} == set(importlib.import_module("explorer.shelf").KINDS)


def test_a_table_holds_the_rows_of_its_panel_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))
    csv = importlib.import_module("explorer.export").csv
    gates = samples.gate_reading()
    whole, one = (csv(gates, rows).decode() for rows in ({}, {"prompt": [1], "token": range(2)}))
    assert "; shown: prompt 1; shown: token 0, 1" in one and "shown:" not in whole
    frame = pd.read_csv(io.StringIO(one), comment="#")
    assert set(frame["prompt"].dropna()) == {1} and set(frame["token"].dropna()) == {0, 1}
    data = gates.data["gate"].sel(prompt=1).isel(token=slice(0, 2))
    found = frame[frame["variable"] == "gate"]["value"].astype(float)
    assert sorted(found) == pytest.approx(sorted(data.values.ravel()))
    assert len(whole.splitlines()) > len(one.splitlines())


def test_panels_about_one_token_give_away_what_is_said_of_it_and_its_rows(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(bundle, page="tokens", prompt="0", tok="3")
    export = importlib.import_module("explorer.export")
    given: dict[str, dict[str, Any]] = {}
    row = export._row

    def kept(**panel: Any) -> None:
        given[panel["key"]] = panel
        row(**panel)

    monkeypatch.setattr(export, "_row", kept)
    app.run()
    app.query_params.update(length="3")
    show(app, "memory")
    pages = {key: panel["page"]().decode() for key, panel in given.items()}
    for wanted in ("lens_window", "reads_table", "slot_table"):
        [key] = [key for key in pages if wanted in key]
        assert "oken 3" in pages[key] and "After the last of" not in pages[key]
        assert "at the last," not in pages[key]
        frame = pd.read_csv(io.BytesIO(given[key]["table"]()), comment="#")
        tokens = set(frame["token"].dropna())
        assert 3 in tokens and (tokens == {3} or wanted == "lens_window")
    [rows] = [panel["table"]() for key, panel in given.items() if "slot_table" in key]
    orders = pd.read_csv(io.BytesIO(rows), comment="#").query("variable == 'order'")["value"]
    assert set(orders.astype(int)) == {3}


def test_where_no_browser_draws_the_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))
    export = importlib.import_module("explorer.export")
    made: list[Any] = []
    monkeypatch.setattr(
        export.st, "download_button", lambda label, data, **more: made.append((label, data, more))
    )
    monkeypatch.setattr(export.images, "missing", lambda: "")

    def fails(*_: object, **__: object) -> None:
        raise InputError("The browser did not draw the figures (it ended); see that it starts.")

    monkeypatch.setattr(export.images, "images", fails)
    export.pictures(dict, kind="svg", name="mine")
    [(label, data, more)] = made
    assert label == "Figures (SVG, zip)" and more["file_name"] == "mine-svg.zip"
    with ZipFile(io.BytesIO(data())) as archive:
        assert "did not draw" in archive.read("NOT DRAWN.txt").decode()
