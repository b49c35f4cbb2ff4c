"""In a real browser: texts that try a page, a text of thousands of tokens, names that are none."""

import re
from collections.abc import Callable
from zipfile import ZipFile

import pytest
from playwright.sync_api import Page, expect

from tests.apps import awkward
from tests.apps.browsing import accessible, idle, no_wider_than_the_window
from tests.apps.conftest import Server

pytestmark = pytest.mark.browser


def test_the_last_token_of_a_long_text_is_scrolled_to_and_picked(
    places: Server, visit: Callable[[str], Page]
) -> None:
    page = visit(f"{places[0]}/tokens?b=awkward&prompt=long&tok=0")
    strip = page.locator(".strip")
    expect(strip.locator(".chip")).to_have_count(awkward.LONG)
    expect(strip.locator(".block")).to_have_count(awkward.LONG // 100)
    idle(page)
    strip.evaluate("(list) => { list.scrollTop = list.scrollHeight; }")
    last = strip.locator(".chip").last
    expect(last).to_be_in_viewport()
    last.click()
    expect(page).to_have_url(re.compile(rf"tok={awkward.LONG - 1}\b"))
    expect(page.get_by_text(f"Memory read at token {awkward.LONG - 1}")).to_be_visible()
    expect(last).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Home")
    expect(strip.locator(".chip").first).to_be_focused()


def test_texts_that_try_a_page_are_shown_as_text_and_a_name_does_not_leave_the_folder(
    places: Server, visit: Callable[[str], Page]
) -> None:
    page = visit(f"{places[0]}/tokens?b=awkward&prompt=awkward&tok=7")
    expect(page.locator(".strip .chip")).to_have_count(len(awkward.WORDS))
    idle(page)
    for word in ('<img␣src=x␣onerror="window.hit=1">', "‹U+202E›evil‹U+202C›", "‹E2 82›"):
        expect(page.locator(".strip .text", has_text=word)).to_be_visible()
    assert page.evaluate("window.hit === undefined && !document.querySelector('img[src=x]')")
    assert no_wider_than_the_window(page)
    accessible(page)
    for name in ("memory", "ablate", "report"):
        page.goto(f"{places[0]}/{name}?b=awkward&prompt=awkward&tok=7")
        expect(page.locator(".stHtml h2").first).to_be_visible()
        idle(page)
        assert no_wider_than_the_window(page), name
        assert page.evaluate("window.hit === undefined && !document.querySelector('img[src=x]')")
    page.goto(f"{places[0]}/layers?b=..%2F..%2Fetc")
    expect(page.get_by_text("There is no bundle “../../etc” here")).to_be_visible()
    page.goto(f"{places[0]}/layers?b=cut")
    expect(page.get_by_text("The depth map in this bundle cannot be read.")).to_be_visible()
    idle(page)
    accessible(page)
    page.get_by_role("link", name="Tokens", exact=True).click()
    expect(page.locator(".strip .chip")).to_have_count(9)


def test_a_bundle_without_prompts_is_accessible_too(visit: Callable[[str], Page], places: Server) -> None:
    page = visit(f"{places[0]}/?b=plain")
    expect(page.get_by_text("Loaded: plain")).to_be_visible()
    idle(page)
    accessible(page)


def test_the_chosen_column_of_the_lens_is_in_sight_at_the_end_of_a_text(visit: Callable[[str], Page]) -> None:
    page = visit("/tokens?b=wiki-nano&prompt=napoleon&tok=212")
    page.set_viewport_size({"width": 1000, "height": 900})
    idle(page)
    frame = page.locator("#lens-window .scroll")
    assert frame.evaluate("(frame) => frame.scrollWidth > frame.clientWidth")
    frame.scroll_into_view_if_needed()
    expect(frame.locator("thead th").last).to_be_in_viewport(ratio=0.9)
    expect(frame.locator("thead th").nth(1)).not_to_be_in_viewport()


def test_a_figure_saved_as_png_brings_the_letters_of_the_page(visit: Callable[[str], Page]) -> None:
    page = visit("/layers?b=wiki-nano&cell=3.4")
    idle(page)
    drawn = "async () => (await new Blob(['<svg>'], {type: 'image/svg+xml'}).text())"
    assert page.evaluate(drawn) == "<svg>", "the font is not fetched before somebody is there"
    page.mouse.move(300, 300)
    for _ in range(100):
        if page.evaluate(drawn) != "<svg>":
            break
        page.wait_for_timeout(100)
    assert page.evaluate(drawn).startswith('<svg><style>@font-face{font-family:"Source Sans"')
    assert page.evaluate("async () => (await new Blob(['<svg>'], {type: 'text/plain'}).text())") == "<svg>"
    assert page.evaluate("async () => (await fetch('/')).blob().then((one) => one instanceof Blob)")
    with_page_s, with_other = (page.evaluate(_INK, family) for family in ("Source Sans", "monospace"))
    assert with_page_s < with_other / 1.5, "letters of the page are narrower than those of the other font"
    with page.expect_download() as waited:
        page.get_by_role("button", name="PNG").first.click()
    assert waited.value.suggested_filename.endswith(".png")


_INK = """async (family) => {
  const text = `<text y="20" font-size="16" font-family="${family}, monospace">${"i".repeat(20)}</text>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="400" height="30">${text}</svg>`;
  const picture = new Image();
  picture.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  await picture.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [400, 30];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, 400, 30).data;
  let last = 0;
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at + 3] > 0) last = Math.max(last, (at / 4) % 400);
  return last;
}"""
"""How far to the right letters reach that are drawn as Plotly draws a PNG."""


def test_the_figures_of_a_report_are_taken_away_as_files(visit: Callable[[str], Page]) -> None:
    page = visit("/report?b=wiki-nano&prompt=napoleon&tok=30&parts=layers")
    idle(page)
    for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as waited:
            page.get_by_role("button", name=f"Figures ({kind}, zip)").click()
        with ZipFile(waited.value.path()) as archive:
            names = archive.namelist()
            assert len(names) > 6 and names[0].startswith("01-layers-do-similarity"), names
            assert all(archive.read(name).startswith(begins) for name in names)


def test_a_page_that_is_none_opens_the_nearest_and_says_so(visit: Callable[[str], Page]) -> None:
    page = visit("/token?b=wiki-nano&prompt=napoleon&tok=12")
    expect(page.get_by_text("There is no page “token”; this one is shown.")).to_be_visible()
    idle(page)
    assert "/tokens?" in page.url and "page=" not in page.url and "tok=12" in page.url


def test_a_typed_text_stays_in_its_field_from_page_to_page(visit: Callable[[str], Page]) -> None:
    page = visit("/tokens?b=wiki-nano")
    page.get_by_label("Type a phrase").fill("The People's Republic of")
    page.keyboard.press("Enter")
    expect(page.get_by_text("run now by wiki-nano/engram")).to_be_visible()
    for name in ("Memory", "Ablate", "Tokens"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page).to_have_url(re.compile(name.lower()))
        idle(page)
        expect(page.get_by_label("Type a phrase")).to_have_value("The People's Republic of")
