"""The self-contained page: whole, escaped, offline, in light and dark, its figures saved."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engram_interp.views import page, strips
from engram_interp.views.markup import Html, static
from tests.results import samples
from tests.views.test_tokens import ATTACK


@cache
def a_page() -> str:
    sections = [
        page.Section(title=f"Layers {ATTACK}", parts=[f"text {ATTACK}", samples.depth().plot()]),
        page.Section(title="Tokens", parts=[strips.gate_strip(samples.gate_reading().data),
                                            samples.lens_table().plot()]),
        page.Section(title="More", parts=[samples.gate_statistics().plot()], fold="closed"),
    ]  # fmt: skip
    return page.html_page(
        title=f"Report {ATTACK}", lead=ATTACK, sections=sections, manifest={"note": f"</script>{ATTACK}"}
    )


def test_the_page_is_whole_and_escaped() -> None:
    html = a_page()
    assert html.startswith("<!DOCTYPE html>")
    assert html.count("plotly.js v") == 1
    assert "<img src=x" not in html
    assert html.count("<script") == 3
    assert html.count('data-figure="') - static("page.js").count('data-figure="') == 3
    html.encode()


def test_the_page_has_every_figure_and_no_upload() -> None:
    content = re.search(r'<script type="application/json" id="figures">(.*?)</script>', a_page(), re.DOTALL)
    assert content is not None
    data = json.loads(content[1])
    assert len(data["figures"]) == 3
    assert data["config"]["showSendToCloud"] is False
    assert data["dark"]["#ffffff"] == "#14171c"


def test_the_page_forbids_every_host_and_every_foreign_script() -> None:
    policy = re.search(r'content="(default-src[^"]+)"', a_page())
    assert policy is not None
    text = policy[1].replace("&#x27;", "'")
    assert "default-src 'none'" in text
    assert re.findall(r"script-src ([^;]+);", text)[0].count("'sha256-") == 2
    assert "http" not in text
    assert "'unsafe-inline'" not in re.findall(r"script-src ([^;]+);", text)[0]


def test_a_page_without_figures_needs_no_script() -> None:
    html = page.html_page(title="t", sections=[page.Section(title="s", parts=[Html("<p>x</p>")])])
    assert "<script" not in html
    assert "script-src &#x27;none&#x27;" in html
    assert len(html) < 20_000


BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
           "--disable-background-networking", "--disable-component-update"]  # fmt: skip
GROUND = "getComputedStyle(document.querySelector('.main-svg')).backgroundColor"
BUTTONS = "[...document.querySelectorAll('.modebar-btn')].map(button => button.dataset.title ?? '')"


@pytest.mark.browser
def test_a_browser_draws_the_page_offline_in_light_and_dark(tmp_path: Path, chromium_path: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "page.html"
    file.write_text(a_page(), encoding="utf-8")
    heard: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=BROWSER)
        tab = browser.new_page(color_scheme="light")
        tab.on("request", lambda r: heard.append(r.url) if r.url.startswith(("http", "ws")) else None)
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
        tab.goto(file.as_uri())
        tab.wait_for_selector("#section-1 .main-svg")
        assert tab.evaluate(GROUND) == "rgb(255, 255, 255)"
        assert tab.locator(".js-plotly-plot").count() == 2
        tab.click("summary >> nth=0")
        tab.wait_for_selector("#section-2 .main-svg")
        tab.emulate_media(color_scheme="dark")
        seen = [tab.evaluate(GROUND)]
        while seen[-1] != "rgb(20, 23, 28)" and len(seen) < 100:
            tab.wait_for_timeout(100)
            seen.append(tab.evaluate(GROUND))
        titles = tab.evaluate(BUTTONS)
        browser.close()
    assert seen[-1] == "rgb(20, 23, 28)"
    assert heard == []
    assert titles
    assert not [title for title in titles if "hare" in title or "loud" in title]


@pytest.mark.browser
def test_every_figure_of_the_page_is_saved_as_svg_and_png_in_light_colours(
    tmp_path: Path, chromium_path: str
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    file = tmp_path / "page.html"
    file.write_text(a_page(), encoding="utf-8")
    saved: dict[str, bytes] = {}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=BROWSER)
        tab = browser.new_page(color_scheme="dark", accept_downloads=True)
        heard: list[str] = []
        tab.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: heard.append(str(error)))
        waiting: list[Any] = []

        def keep(download: Any) -> None:
            waiting.append(download)

        tab.on("download", keep)
        tab.goto(file.as_uri())
        for name, format_ in (("SVG", "svg"), ("PNG", "png")):
            button = tab.get_by_role("button", name=name, exact=True)
            button.click()
            sync_api.expect(button).to_be_enabled(timeout=60_000)
            for _ in range(600):
                if len(waiting) == 3:
                    break
                tab.wait_for_timeout(50)
            for one in waiting:
                assert one.suggested_filename.endswith(f".{format_}")
                saved[one.suggested_filename] = one.path().read_bytes()
            waiting.clear()
        browser.close()
    assert heard == []
    attack = "-".join(re.findall("[a-z0-9]+", ATTACK.lower()))
    names = [f"report-{attack}-01-layers-{attack}", f"report-{attack}-02-tokens", f"report-{attack}-03-more"]
    assert sorted(saved) == sorted(f"{name}.{kind}" for name in names for kind in ("svg", "png"))
    for name, content in saved.items():
        if name.endswith("svg"):
            text = content.decode()
            assert text.startswith("<svg") and "rgb(255, 255, 255)" in text and "#14171c" not in text
        else:
            assert content.startswith(b"\x89PNG") and int.from_bytes(content[16:20], "big") == 3000
