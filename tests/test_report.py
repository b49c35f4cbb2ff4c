"""The report: every part, one page that needs nothing else, and never half of either."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_interp import report
from engram_interp.capture.encode import encode
from engram_interp.checkpoints import SubjectModel
from engram_interp.data import prompts
from engram_interp.data.prompts import PromptSet
from engram_interp.errors import InputError
from engram_interp.report import folder as folders
from engram_interp.report import layers
from engram_interp.results import AblationEffect, open_bundle
from tests import support

LAYERS = ["depth", "lens-engram", "lens-baseline", "lens-depth", "stitching", "second-opinions"]
GATES = ["gates", "gate-statistics", "gate-selectivity", "gate-information", "gate-usefulness"]
PARTS = [*LAYERS, *GATES, "ablation"]
DOCUMENTS = 26


def engram() -> SubjectModel:
    cfg = support.model_config(n_layers=7, n_ctx=64, memory=support.memory_config())
    return support.subject(cfg, name="tiny/with")


def baseline(*, layers: int = 7) -> SubjectModel:
    return support.subject(support.model_config(n_layers=layers, n_ctx=64), seed=3, name="tiny/without")


def analyse(texts: PromptSet, **given: Any) -> report.Findings:
    with support.shapes_unchecked():
        return report.analyse(engram(), baseline(), texts, name="tiny <pair>", n_boot=50, **given)


@pytest.fixture(scope="module")
def texts() -> PromptSet:
    """Documents of which some do not fit the context; no entities are marked."""
    return prompts.from_texts([f"Kalo {text}" for text in support.documents(DOCUMENTS)], name="p")


@pytest.fixture(scope="module")
def stages() -> list[tuple[float, str]]:
    return []


@pytest.fixture(scope="module")
def found(texts: PromptSet, stages: list[tuple[float, str]]) -> report.Findings:
    training = {"engram": {"valid_loss": 3.25, "trained_tokens": 5_000_000}}
    return analyse(texts, training=training, on_stage=lambda done, name: stages.append((done, name)))


@pytest.fixture(scope="module")
def once(found: report.Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "new" / "out"
    assert report.write(found, out) == out / "index.html"
    return out


@pytest.fixture(scope="module")
def html(once: Path) -> str:
    return (once / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def written(once: Path, tmp_path: Path) -> Path:
    """A report of the test's own."""
    return Path(shutil.copytree(once, tmp_path / "out"))


def visible(html: str) -> str:
    """The page's text without scripts, styles and tags."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", bare).split())


def test_every_part_is_there_with_six_examples(found: report.Findings) -> None:
    examples = [example["id"] for example in found.meta["examples"]]
    assert examples == ["p-0", "p-4", "p-9", "p-13", "p-17", "p-22"]
    both = (("lens-table", "slots"), ("attribution", "promotion"))
    each = [f"{kind}:{name}" for kinds in both for name in examples for kind in kinds]
    assert list(found.parts) == [*PARTS, *each, "slot-load"]
    json.dumps(found.meta, allow_nan=False)


def test_stages_are_announced_in_order(found: report.Findings, stages: list[tuple[float, str]]) -> None:
    done = [share for share, _ in stages]
    assert done == sorted(done) and (done[0], done[-1]) == (0.0, 1.0)
    assert len(stages) == 17


def test_examples_point_at_entities_where_these_are_marked() -> None:
    marked = prompts.from_texts(
        [f"[[A]] {text[:20]} the [[Vel]] met [[Dor]]." for text in support.documents(6)], markup="brackets"
    )
    found = analyse(marked)
    for example in found.meta["examples"]:
        first, second, _ = encode(engram(), marked).entity_ends[example["index"]]
        assert first < 3 <= second == example["token"]


def test_the_page_needs_no_other_file_and_no_network(html: str) -> None:
    outside = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert "http" not in re.sub(r"http-equiv", "", outside)
    assert not re.findall(r"<(?:link|img|iframe|script)[^>]+(?:src|href)=", outside)
    assert "default-src 'none'" in unescape(html)
    assert "tiny &lt;pair&gt;" in html
    assert "<pair>" not in html


def test_the_page_says_what_a_reader_asks_in_order(html: str, found: report.Findings) -> None:
    text = visible(html)
    wanted = [
        found.parts["depth"].summary(),
        "Before you read",
        "What was compared",
        "One training run (one seed) of each",
        "Which layers look deeper?",
        "The headline is the mean shift over layers 2, 3 and 4",
        "What the residuals before the first memory read show",
        "How early is the prediction ready?",
        "Where do the gates stand?",
        "null: untrained",
        "The gates among fresh initialisations",
        "Do the gates choose?",
        "By training",
        "Are the gates open where the memory helps?",
        "Which tokens?",
        "Does the memory matter?",
        "control",
        "Which slots?",
        "How it was measured, and what it does not mean",
        "Similarity is not function",
        "How this was made",
    ]
    places = [text.find(" ".join(piece.split())) for piece in wanted]
    assert -1 not in places, wanted[places.index(-1)]
    lead = places.pop(0)
    assert lead < places[0]
    start = text.rfind("What was compared")
    assert start > 0


def test_what_is_not_recorded_is_said(html: str) -> None:
    text = visible(html)
    assert "held-out loss after training (nats per token) 3.250 not recorded" in text
    assert "tokens trained on 5,000,000 not recorded" in text


def test_prompts_that_were_cut_are_named_first(found: report.Findings, html: str) -> None:
    cut = [note for note in found.meta["notes"] if "were analysed" in note]
    assert cut
    assert len(cut) <= 5
    assert len(set(cut)) == len(cut), "each prompt once, not once a model"
    assert visible(html).find("were analysed") < visible(html).find("Which layers look deeper? Every")


def test_one_document_gives_no_interval_and_no_claim() -> None:
    found = analyse(prompts.from_texts(["Kalo and the vel met in Dor, and the Ban of Loka saw Mitas."]))
    notes = " ".join(found.meta["notes"])
    assert "The depth shift has no interval" in notes
    assert "Lens, gates and ablations have no interval" in notes
    assert "at least 20 documents" in notes
    text = visible(report.page(found))
    assert "no claim" in text
    assert "nan" not in re.sub(r"[A-Za-z]nan|nan[A-Za-z]", "", text)


def test_a_baseline_of_another_depth() -> None:
    texts = prompts.from_texts(support.documents(5))
    with support.shapes_unchecked():
        found = report.analyse(engram(), baseline(layers=5), texts, name="x", n_boot=20)
    assert "not compared layer by layer" in visible(report.page(found))


def test_a_missing_part_is_said(found: report.Findings) -> None:
    parts = {name: part for name, part in found.parts.items() if name != "depth"}
    with pytest.raises(InputError, match=r"wants the part 'depth' \(DepthResult\)"):
        report.page(replace(found, parts=parts))


def test_ablations_that_coincide_count_once(found: report.Findings) -> None:
    effect = found.parts["ablation"]
    assert isinstance(effect, AblationEffect)
    assert "output_off, gate_zero and rows_zero coincide" in effect.coinciding()
    apart = effect.data.copy()
    apart["delta_loss"] = apart["delta_loss"] + np.arange(apart.sizes["kind"])
    assert not AblationEffect(data=apart).coinciding()


def test_curves_that_lie_apart_before_the_first_read_are_not_put_down_to_reading(
    found: report.Findings,
) -> None:
    one = found.parts["lens-engram"].data
    other = one.copy()
    for name in ("kl", "kl_low", "kl_high"):
        other[name] = one[name] + 100.0
    said = layers._apart(one, other)
    assert "lower at layers 0, 1, 2, 3, 4 and 5" in said
    assert "Layer 0 is among them" in said
    assert "not due to reading" in said
    assert "At no layer" in layers._apart(one, one)


class TestFolder:
    def test_it_holds_the_page_and_a_bundle_that_opens(self, written: Path, found: report.Findings) -> None:
        assert {p.name for p in written.iterdir()} == {"index.html", "report.json", "tiny-pair.engram"}
        bundle = open_bundle(written / "tiny-pair.engram")
        assert not bundle.problems()
        assert set(bundle.names) == set(found.parts)
        assert bundle["depth"].summary() == found.parts["depth"].summary()
        assert bundle.meta["examples"] == found.meta["examples"]

    def test_an_earlier_report_is_replaced_and_foreign_files_stay(
        self, written: Path, found: report.Findings
    ) -> None:
        (written / "notes.txt").write_text("mine", encoding="utf-8")
        (written / "index.html").write_text("old", encoding="utf-8")
        report.write(replace(found, name="other"), written)
        names = {p.name for p in written.iterdir()}
        assert names == {"index.html", "report.json", "other.engram", "notes.txt"}
        assert (written / "index.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    def test_a_failure_leaves_the_earlier_report_whole(
        self, written: Path, found: report.Findings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = {p: p.read_bytes() for p in written.rglob("*") if p.is_file()}

        def interrupted(_found: object) -> str:
            raise KeyboardInterrupt

        monkeypatch.setattr(folders, "page", interrupted)
        with pytest.raises(KeyboardInterrupt):
            report.write(found, written)
        assert {p: p.read_bytes() for p in written.rglob("*") if p.is_file()} == before

    def test_a_bundle_with_foreign_files_is_not_replaced(self, written: Path, found: report.Findings) -> None:
        (written / "tiny-pair.engram" / "mine.txt").write_text("x", encoding="utf-8")
        page = (written / "index.html").read_bytes()
        with pytest.raises(InputError, match="not ours alone"):
            report.write(found, written)
        assert (written / "index.html").read_bytes() == page

    @pytest.mark.parametrize("foreign", ["mine.txt", "parts/mine.nc", "manifest.json"])
    def test_an_earlier_bundle_with_foreign_files_stays_and_this_is_said(
        self, written: Path, found: report.Findings, foreign: str
    ) -> None:
        earlier = written / "tiny-pair.engram"
        (earlier / foreign).write_text('{"name": "mine"}', encoding="utf-8")
        before = {p: p.read_bytes() for p in earlier.rglob("*") if p.is_file()}
        with pytest.warns(UserWarning, match=rf"engram .* stays, .*not ours alone: it holds {foreign}"):
            report.write(replace(found, name="other"), written)
        assert {p: p.read_bytes() for p in earlier.rglob("*") if p.is_file()} == before

    def test_a_directory_of_somebody_else(self, tmp_path: Path, found: report.Findings) -> None:
        (tmp_path / "report.json").write_text('{"made_by": "me"}', encoding="utf-8")
        with pytest.raises(InputError, match="was not made by engram-interp report"):
            report.write(found, tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["report.json"]

    def test_an_empty_directory_will_do(self, tmp_path: Path) -> None:
        assert report.check(tmp_path) == tmp_path


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_offline(once: Path, chromium_path: str, scheme: Any) -> None:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    asked: list[str] = []
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=flags)
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((once / "index.html").as_uri())
        page.wait_for_selector(".js-plotly-plot .heatmaplayer image")
        drawn = page.locator(".js-plotly-plot").count()
        page.get_by_text("The lens by other measures").last.click()
        page.wait_for_function(f"document.querySelectorAll('.js-plotly-plot').length == {drawn + 2}")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        wide = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert not wrong
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    assert wide <= 1200
