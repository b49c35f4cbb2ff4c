"""The explorer in a real browser, on the packaged pair: what a reader sees first, clicks and types."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from engram_interp import pairs
from engram_interp.results import open_bundle
from engram_interp.views.tokens import visible
from tests.apps.browsing import SLOW, accessible, idle, link
from tests.apps.conftest import KEPT, Held

pytestmark = pytest.mark.browser

MAP = ".js-plotly-plot .heatmaplayer image"
STARTING = 5 * SLOW
"""A run that starts PyTorch first, on a machine that is busy with more."""

Server = tuple[str, int, float]


def loads_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def test_the_map_comes_first_and_without_torch(
    visit: Callable[[str], Page], server: Server, record_property: Callable[[str, object], None]
) -> None:
    page = visit("/")
    page.wait_for_selector(MAP)
    seconds = time.monotonic() - server[2]
    record_property("seconds from the start of the server to the first map", round(seconds, 2))
    print(f"first map after {seconds:.2f} s")  # noqa: T201 - shown with -s, and in the report of a failure
    assert seconds < 60
    expect(page.get_by_text("What you can ask")).to_be_visible()
    accessible(page)
    page.get_by_role("link", name="2 · Which token").click()
    expect(page.locator(".strip .chip").first).to_be_visible()
    if Path("/proc").is_dir():
        assert not loads_torch(server[1])


def test_a_click_on_a_cell_changes_the_panel(visit: Callable[[str], Page]) -> None:
    page = visit("/layers?cell=1.1")
    page.wait_for_selector(MAP)
    expect(page.get_by_text("CKA of Engram layer 1 with baseline layer 1")).to_be_visible()
    plot = page.locator(".js-plotly-plot", has=page.locator(".heatmaplayer image")).locator(".nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    # The middle of column 4 and, counted from below, row 2.
    layers = open_bundle(pairs.bundle_path())["depth"].data.sizes["layer"]
    page.mouse.click(box["x"] + box["width"] * 4.5 / layers, box["y"] + box["height"] * (1 - 2.5 / layers))
    expect(page.get_by_text("CKA of Engram layer 4 with baseline layer 2")).to_be_visible()
    expect(page).to_have_url(re.compile(r"cell=4\.2\b"))
    page.get_by_role("spinbutton", name="Baseline layer").fill("5")
    page.keyboard.press("Enter")
    expect(page.get_by_text("CKA of Engram layer 4 with baseline layer 5")).to_be_visible()


def test_tokens_are_picked_by_pointer_and_by_keyboard(visit: Callable[[str], Page]) -> None:
    page = visit("/tokens")
    chips = page.locator(".strip .chip")
    chips.nth(3).click()
    expect(page).to_have_url(re.compile(r"tok=3\b"))
    expect(page.get_by_text("Memory read at token 3")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(chips.nth(5)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Memory read at token 5")).to_be_visible()
    expect(chips.nth(5)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Home")
    expect(chips.nth(0)).to_be_focused()
    accessible(page)


def test_back_returns_to_the_token_before_and_later_clicks_count(visit: Callable[[str], Page]) -> None:
    page = visit("/tokens?b=wiki-nano&prompt=france&tok=2")
    chips = page.locator(".strip .chip")
    expect(page.get_by_text("Memory read at token 2")).to_be_visible()
    idle(page)
    chips.nth(6).click()
    expect(page).to_have_url(re.compile(r"tok=6\b"))
    expect(page.get_by_text("Memory read at token 6")).to_be_visible()
    idle(page)
    page.go_back()
    expect(page.get_by_text("Memory read at token 2")).to_be_visible()
    assert link(page)["tok"] == "2"
    for position in (4, 5, 8, 9):
        chips.nth(position).click(no_wait_after=True)
    expect(page.get_by_text("Memory read at token 9")).to_be_visible()
    idle(page)
    assert link(page)["tok"] == "9"


def test_one_step_back_is_the_page_before(visit: Callable[[str], Page]) -> None:
    page = visit("/?b=wiki-nano")
    for name, heading in (("Layers", "Layer by layer"), ("Tokens", "What was read here")):
        idle(page)
        page.get_by_role("link", name=name, exact=True).first.click()
        expect(page.get_by_text(heading).first).to_be_visible()
        idle(page)
        expect(page).to_have_url(re.compile("v=1"))
    for heading in ("Layer by layer", "What you can ask"):
        page.go_back()
        expect(page.get_by_text(heading).first).to_be_visible()
        idle(page)


def test_a_link_restores_what_was_chosen(visit: Callable[[str], Page]) -> None:
    page = visit("/layers?b=wiki-nano&cell=3.5&prompt=napoleon&tok=7")
    page.wait_for_selector(MAP)
    expect(page.get_by_text("CKA of Engram layer 3 with baseline layer 5")).to_be_visible()
    page.get_by_role("link", name="Tokens", exact=True).click()
    expect(page.get_by_text("Memory read at token 7")).to_be_visible()
    idle(page)
    assert link(page) == {
        "b": "wiki-nano", "prompt": "napoleon", "layer": "3", "stream": "all", "tok": "7",
        "off": "on", "where": "here", "v": "1",
    }  # fmt: skip


def test_one_click_copies_the_link_and_one_saves_the_figure(visit: Callable[[str], Page]) -> None:
    page = visit("/layers?b=wiki-nano&cell=3.4")
    page.wait_for_selector(MAP)
    idle(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    with page.expect_download() as waited:
        page.get_by_role("button", name="PNG", exact=True).first.click()
    assert waited.value.path().read_bytes().startswith(b"\x89PNG")
    page.evaluate("document.querySelectorAll('.modebar').forEach((one) => one.remove())")
    page.get_by_role("button", name="PNG", exact=True).first.click()
    expect(page.get_by_role("button", name="The figure is not drawn yet")).to_be_visible()


def test_a_typed_phrase_is_looked_up_and_switched_off(visit: Callable[[str], Page]) -> None:
    phrase = pairs.examples()[0]["text"]
    page = visit("/tokens")
    field = page.get_by_label("Type a phrase")
    field.fill(phrase)
    field.press("Enter")
    expect(page.get_by_text("run now by wiki-nano/engram")).to_be_visible()
    idle(page)
    last = int(link(page)["tok"])
    page.locator(".strip .chip").nth(last).click()
    table = page.locator("table", has=page.get_by_text(f"Memory read at token {last}"))
    expect(table.locator("tbody tr")).to_have_count(4)  # two orders at two layers
    page.get_by_role("radio", name="rows → 0").click()
    columns = page.locator(".predictions section")
    expect(columns).to_have_count(4)
    intact = float(columns.nth(0).locator(".answer-share b").inner_text())
    ablated = float(columns.nth(1).locator(".answer-share b").inner_text())
    assert intact != ablated
    assert not list(KEPT.glob("*"))
    page.get_by_role("button", name="Copy link").click()
    deadline = time.monotonic() + 20
    while not (kept := list(KEPT.glob("typed-*.json"))) and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert json.loads(kept[0].read_text())["text"] == phrase
    assert kept[0].stem == link(page)["prompt"]
    page.get_by_text("Every number, and the effect by token").click()
    expect(page.get_by_text("Top predictions with rows_zero")).to_be_visible()
    accessible(page)
    with page.expect_download() as waited:
        page.get_by_role("button", name="PNG", exact=True).click()
    assert waited.value.path().read_bytes().startswith(b"\x89PNG")


PAGES = {
    "/?b=wiki-nano": "What you can ask",
    "/layers?b=wiki-nano": "How early is the answer there?",
    "/tokens?b=planted&prompt=fact-amri&tok=4&tour=2": "Tour 2 of 5",
    "/memory?b=planted&prompt=fact-amri&tok=4": "How full are the tables?",
    "/ablate?b=wiki-nano": "Over all prompts of the bundle",
    "/ablate?b=planted&prompt=fact-amri&tok=4&spec=rows_zero:t4:a3,4&vs=gate_zero:t4": "Two ablations of one",
    "/compare?b=wiki-nano&with=planted&part=ablation": "No interval of the difference",
    "/report?b=planted&prompt=fact-amri": "What goes in",
}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_accessible_in_light_and_dark(visit: Callable[[str], Page], path: str) -> None:
    page = visit(path)
    expect(page.get_by_text(PAGES[path]).first).to_be_visible()
    idle(page)
    accessible(page)
    page.emulate_media(color_scheme="dark")
    expect(page.locator(".stApp")).to_have_css("background-color", "rgb(20, 23, 28)")
    page.wait_for_function(
        "getComputedStyle(document.documentElement).getPropertyValue('--paper') == '#14171c'"
    )
    idle(page)
    accessible(page)


def test_the_menu_turns_the_page_dark_and_says_how_to_read_it(visit: Callable[[str], Page]) -> None:
    page = visit("/layers?b=planted")
    idle(page)
    page.get_by_test_id("stMainMenuButton").click()
    page.get_by_test_id("stMainMenuItem-theme-Dark").click()
    expect(page.locator(".stApp")).to_have_css("background-color", "rgb(20, 23, 28)")
    page.wait_for_function(
        "getComputedStyle(document.documentElement).getPropertyValue('--paper') == '#14171c'"
    )
    title = page.locator(".engram-title").first
    expect(title).to_have_css("color", "rgb(232, 234, 237)")  # what the views draw turns dark too
    page.get_by_role("link", name="Tokens", exact=True).click()
    expect(page.locator(".readout")).to_be_visible()
    page.reload()
    idle(page)
    expect(page.locator(".stApp")).to_have_css("background-color", "rgb(20, 23, 28)")
    expect(page.locator(".readout")).to_have_css("color", "rgb(232, 234, 237)")
    page.get_by_test_id("stMainMenuButton").click()
    page.get_by_role("menuitem", name="About").click()
    expect(page.get_by_text("are counted from 0; the paper counts layers from 1")).to_be_visible()
    accessible(page)


def test_an_ablation_is_stopped_run_again_and_opened_cold_by_its_link(
    visit: Callable[[str], Page], held: Held
) -> None:
    page = visit(f"{held.address}/ablate?b=planted&prompt=fact-amri&tok=4")
    page.get_by_role("button", name="Run at token 4").click()
    expect(page.get_by_text("running with the memory · step 3 of 8")).to_be_visible(timeout=STARTING)
    deadline = time.monotonic() + 60
    while not held.inside and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("The run was stopped.")).to_be_visible()
    expect(page.get_by_text("nothing of it was kept")).to_be_visible()
    expect(page.locator(".predictions")).to_have_count(0)
    page.get_by_role("button", name="Run it again").click()
    expect(page.get_by_text("queued, 1 run is before it")).to_be_visible()
    held.let_go()
    answers = page.locator(".predictions .answer-share b")
    expect(answers).to_have_text(["0.973", "0.002", "0.002", "0.690"])
    assert (
        held.ended == 18
    )  # of the second run: 4, and 7 more draws of 2; the first ended inside its first pass
    assert link(page)["spec"] == "rows_zero:t4"
    cold = visit(f"{held.address}/ablate?" + urlsplit(page.url).query)
    expect(cold.locator(".predictions .answer-share b")).to_have_text(["0.973", "0.002", "0.002", "0.690"])
    for one in (page, cold):
        one.close()  # before its server ends, which it would complain about


def test_ten_visitors_run_ten_prompts_and_each_sees_their_own(visit: Callable[[str], Page]) -> None:
    data = open_bundle(pairs.bundle_path())["gates"].data
    names = [str(name) for name in data["prompt_id"].values[:10]]
    pages = [visit(f"/tokens?b=wiki-nano&prompt={name}&run=live") for name in names]
    for number, (name, page) in enumerate(zip(names, pages, strict=True)):
        expect(page.get_by_text("run now by wiki-nano/engram")).to_be_visible(timeout=STARTING)
        idle(page)
        of = data.isel(prompt=number)
        tokens = [visible(str(text)) for text in of["token_text"].values[of["token_id"].values >= 0]]
        assert page.locator(".strip .text").all_inner_texts() == tokens, name
        assert link(page)["prompt"] == name
        expect(page.locator(".engram-state.error, .stException")).to_have_count(0)


def test_a_report_is_downloaded_and_opens_without_a_network(
    visit: Callable[[str], Page], browser: Browser, tmp_path: Path
) -> None:
    page = visit("/report?b=planted&prompt=fact-amri&tok=4&parts=memory")
    idle(page)
    with page.expect_download() as waited:
        page.get_by_role("button", name="HTML report").click()
    file = tmp_path / "report.html"
    waited.value.save_as(file)
    context = browser.new_context(offline=True)
    offline = context.new_page()
    asked: list[str] = []
    offline.on("request", lambda request: asked.append(request.url))
    offline.goto(file.as_uri())
    expect(offline.locator(".plot .main-svg").first).to_be_visible()
    expect(offline.locator("caption", has_text="Memory read at token 4")).to_be_visible()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    accessible(offline)
    context.close()
