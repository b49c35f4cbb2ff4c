"""The report: what is open and nothing else, as the pages show it."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from engram_interp import pairs
from engram_interp.results import MemoryAttribution, open_bundle, write_bundle
from engram_interp.views.similarity import heat_map
from tests.apps.helpers import Start, parts, settle, show, written
from tests.results import samples

TEXT = "Kalo met the ren"
OF_THE_BUNDLE = "Wales"
"""A token of the made-up bundle's first prompt."""


def taken(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the page would take away now."""
    assemble = sys.modules["explorer.assemble"]
    opened, kept = assemble.opened, []

    def keep(*given: Any, **named: Any) -> Any:
        kept.append(opened(*given, **named))
        return kept[-1]

    with monkeypatch.context() as patch:
        patch.setattr(assemble, "opened", keep)
        settle(app.run())
    return kept[-1]


def html(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> str:
    return str(sys.modules["explorer.sections"].page(taken(app, monkeypatch), note=""))


@pytest.fixture
def cold(start: Start, bundle: Path, tiny_model: Path) -> Start:
    """Opens a link to a typed text that was not run since the server started."""
    start(bundle, "--model", tiny_model)

    def run(**link: str) -> AppTest:
        name = sys.modules["explorer.shared"].remember("typed", TEXT)
        again: Start = start.again  # type: ignore[attr-defined]  # on a function
        return again(page="report", prompt=name, **link)

    return run


def test_a_text_that_was_not_run_yet_is_waited_for(cold: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    app = settle(cold(parts="tokens,memory"))
    page = html(app, monkeypatch)
    assert (
        f"Tokens: gates of “typed: {TEXT}”" in page
        and f"Memory: rows that were read of “typed: {TEXT}”" in page
    )
    assert OF_THE_BUNDLE not in page


def test_while_a_text_is_run_nothing_of_another_stands_in_its_place(
    cold: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sys.modules["explorer.worker"].Job
    monkeypatch.setattr(sys.modules["explorer.live"].Live, "read", lambda *_: job(steps=5))
    text = written(cold(parts="tokens"))
    assert "<b>Gate statistics with nulls. </b>" in text and "<b>Gates" not in text


def test_a_prompt_with_slots_and_no_gates_has_no_strip(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bundle(tmp_path / "made.engram", parts() | {"slots:other": samples.slot_lookup()})
    app = start(path, page="report", prompt="other", parts="tokens,memory")
    shown = taken(app, monkeypatch).results
    assert "slots:other" in shown and not [name for name in shown if name.startswith("gates")]


def test_a_prompt_of_the_bundle_is_named_and_comes_alone(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(bundle, page="report", prompt="1", parts="tokens")
    shown = taken(app, monkeypatch)
    assert shown.results["gates:1"].data.sizes["prompt"] == 1
    assert "Tokens: gates of “1”" in html(app, monkeypatch)


def test_the_report_is_drawn_as_the_pages_are_set(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = {"align": "soft", "self": "off", "shift": "peak", "q": "entropy", "log": "on", "view": "sources"}
    app = start(bundle, page="report", prompt="0", tok="8", stream="max", **link)
    assert {name: app.query_params[name] for name in link} == link
    shown, made = taken(app, monkeypatch), open_bundle(bundle)
    drawn = sys.modules["explorer.sections"]._parts
    of = {name: list(drawn(result, shown)) for name, result in shown.results.items()}
    depth, lens, attribution = made["depth"], made["lens-engram"], made["attribution:0"]
    assert isinstance(attribution, MemoryAttribution)
    assert of["depth"][1:] == [
        heat_map(depth.data, alignment="soft", self_reference="hidden"),
        depth.plot(view="shift", alignment="peak"),  # type: ignore[call-arg]  # of a depth result
    ]
    baseline = made["lens-baseline"]
    assert of["lens-engram"][1] == lens.plot(baseline=baseline, quantity="entropy", scale="log")  # type: ignore[call-arg]  # of a lens curve
    assert of["attribution:0"][-1] == attribution.plot(view="sources")
    assert "layer 1 · max of 3" in str(of["gates:0"][1]) and "stream 0" not in str(of["gates:0"][1])


def test_a_link_to_a_report_brings_the_runs_of_its_pages(start: Start) -> None:
    runs = {"spec": "rows_zero:t4", "vs": "output_off:t4", "off": "gate_zero"}
    app = settle(start(page="report", b="planted", prompt="fact-amri", tok="4", parts="ablate", **runs))
    text = written(app)
    for label in ("rows → 0 · at token 4", "output off · at token 4", "gate → 0 · at token 4"):
        assert f"<b>Ablation · {label} in “fact-amri”. </b>" in text
    assert {name: app.query_params[name] for name in runs} == runs


def test_the_report_has_who_shares_the_chosen_row_where_it_stands_and_both_runs(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = {"b": "planted", "prompt": "fact-amri", "tok": "4", "layer": "1", "slot": "3.0"}
    runs = {"spec": "rows_zero:t4", "vs": "output_off:t4"}
    app = settle(start(page="report", parts="memory,ablate", **link, **runs))
    assert app.query_params["slot"] == "3.0"
    page = html(app, monkeypatch)
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    for wanted in (
        "Memory: occupants of",
        "Memory: colliders of",
        "Memory: Where “",
        "Ablation: run A beside",
    ):
        assert [title for title in titles if title.startswith(wanted)], (wanted, titles)
    assert "A: rows → 0 · at token 4" in page and "B: output off · at token 4" in page
    one = settle(start(page="report", parts="memory,ablate", **link, spec="rows_zero:t4", vs=""))
    assert "run A beside" not in html(one, monkeypatch)


def test_the_report_of_a_bundle_without_a_reference_text_looks_through_its_prompts(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = open_bundle(pairs.bundle_path("planted"))
    kept = {name: planted[name] for name in ("gates", "slots:fact-amri")}
    path = write_bundle(tmp_path / "less.engram", kept, meta=dict(planted.meta))
    link = {"prompt": "fact-amri", "tok": "4", "layer": "1", "parts": "memory"}
    app = settle(start(path, page="report", **link))
    assert "<b>Occupants" not in written(app), "nothing is computed unless it is asked for"
    app = settle(start(path, page="report", live="on", **link))
    assert "<b>Occupants of" in written(app) and "<b>Colliders of" in written(app)


def test_what_the_tokens_page_switched_off_is_in_the_report(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    app = start(bundle, "--model", tiny_model, page="tokens")
    app.text_input(key="typed text").set_value(TEXT).run()
    settle(app)
    next(group for group in app.button_group if group.key == "switch").set_value("gate_zero").run()
    settle(app)
    next(group for group in app.button_group if group.key == "switch").set_value("on").run()
    show(app, "report")
    assert "<b>Ablation · gate → 0 · at token" in written(settle(app))


def test_the_report_of_a_token_that_the_bundle_does_not_hold_has_what_was_computed_for_it(
    start: Start,
) -> None:
    link = {"b": "planted", "prompt": "fact-amri", "tok": "3", "parts": "memory"}
    app = settle(start(page="report", **link))
    assert "<b>What the writes promote" not in written(app), "what the bundle holds is of another token"
    app = settle(start(page="report", live="on", **link))
    assert app.query_params["live"] == "on"
    for part in ("What the writes promote", "What the memory gives the prediction"):
        [said] = re.findall(rf"<b>{part} of “fact-amri”. </b><span>(.*?)</span>", written(app))
        assert "token 3" in said


def test_the_report_says_first_whether_the_views_of_depth_agree(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = html(start(bundle, page="report", parts="layers"), monkeypatch)
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert titles[:2] == ["Layers: do similarity, prediction and function agree?", "Layers: depth map"]
    assert "is not shown to make this network effectively deeper" in page


def test_the_sentences_of_the_report_speak_of_the_chosen_token(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(bundle, page="report", parts="tokens,memory", prompt="0", tok="3")
    page = html(app, monkeypatch)
    assert "After token 3 of " in page and "; at token 3, " in page
    assert "After the last of" not in page and "at the last," not in page
    assert "After token 3 of " in written(app)


def test_every_figure_of_the_report_has_a_name_a_file_can_bear(
    start: Start, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = taken(start(bundle, page="report", prompt="0", tok="3"), monkeypatch)
    found = sys.modules["explorer.sections"].figures(shown)
    page = sys.modules["explorer.sections"].page(shown, note="")
    assert len(found) == page.count('class="plot"') > 8
    assert next(iter(found)) == "01-layers-do-similarity-prediction-and-function-agree"
    assert "02-layers-which-layers-resemble-each-other" in found and len(set(found)) == len(found)
    assert all(re.fullmatch(r"\d\d-[a-z0-9-]+", name) for name in found)
