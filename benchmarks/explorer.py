"""Time the explorer in a real browser: first map, clicks, live runs, long texts, ten visitors at once.

python -m benchmarks.explorer [--visitors 10]

Prints one line a measurement with the limit that it is held against. Needs Chromium and the development
packages. Another process on the machine shows in every number.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

from engram_interp import pairs
from engram_interp.results import open_bundle, write_bundle
from scripts.screenshots import ARGUMENTS, serving, settle
from tests.apps import awkward

MAP = ".js-plotly-plot .heatmaplayer image"
CLICKS = 5
PHRASES = (
    "The People's Republic of", "The President of the United", "The Pope John Paul", "The city of New York",
    "The Battle of the Somme", "The University of Oxford", "The river Thames in", "The kingdom of Prussia",
    "The Olympic Games of", "The Second World War",
)  # fmt: skip


def said(what: str, seconds: list[float], limit: float) -> None:
    """One line: least, middle and greatest of the measurements, and the limit."""
    ordered = sorted(seconds)
    middle = ordered[len(ordered) // 2]
    verdict = "met" if middle <= limit else "NOT met"
    print(
        f"{what}: median {middle:.2f} s of {len(ordered)} ({ordered[0]:.2f} to {ordered[-1]:.2f}); "
        f"limit {limit:g} s: {verdict}"
    )


def timed(act: Callable[[], object]) -> float:
    """How long something took, in seconds."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def fresh(browser: Browser) -> tuple[BrowserContext, Page]:
    """A visitor without a cache."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(120_000)
    return context, context.new_page()


def first_maps(browser: Browser, *, rounds: int) -> None:
    """From the start of the server to the first map, and of a second visitor."""
    cold: list[float] = []
    warm: list[float] = []
    served: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        with serving() as (address, pid):
            for seconds in (cold, warm):
                start = began if seconds is cold else time.perf_counter()
                context, page = fresh(browser)
                page.goto(address)
                page.wait_for_selector(MAP)
                seconds.append(time.perf_counter() - start)
                context.close()
            served.append(megabytes(pid))
            loaded = "libtorch" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    said("first map, cold (server start included)", cold, 5)
    said("first map, warm", warm, 3)
    print(f"server that showed a bundle: {max(served):.0f} MB (limit 350); torch loaded: {loaded}")


def clicks(browser: Browser, address: str) -> None:
    """A click on a cell and on a token, until the panel says so."""
    context, page = fresh(browser)
    page.goto(f"{address}/layers?b=wiki-nano&cell=1.1")
    page.wait_for_selector(MAP)
    settle(page)
    plot = page.locator(".js-plotly-plot", has=page.locator(".heatmaplayer image")).locator(".nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    cells: list[float] = []
    layers = open_bundle(pairs.bundle_path())["depth"].data.sizes["layer"]
    for number in range(CLICKS):
        column, row = number % layers, (number + 2) % layers
        x = box["x"] + box["width"] * (column + 0.5) / layers
        y = box["y"] + box["height"] * (1 - (row + 0.5) / layers)
        shown = page.get_by_text(f"CKA of Engram layer {column} with baseline layer {row}")

        def click(x: float = x, y: float = y, shown: Locator = shown) -> None:
            page.mouse.click(x, y)
            shown.wait_for()

        cells.append(timed(click))
        settle(page)
    said("click on a cell to its panel", cells, 1)
    for path in ("tokens", "memory", "ablate"):
        page.goto(f"{address}/{path}?b=wiki-nano&prompt=napoleon&tok=30")
        settle(page)
        said(f"click on a token to its numbers, {path}", [_pick(page, token) for token in range(3, 8)], 1)
    context.close()


def _pick(page: Page, token: int) -> float:
    """Seconds from a click on a token to the line that speaks of it, and to the end of the run."""

    def act() -> None:
        page.locator(".strip .chip").nth(token).click()
        page.locator(".readout", has_text=f"Token {token} ").wait_for()
        settled = "document.querySelector('.stApp').dataset.testScriptState === 'notRunning'"
        page.wait_for_function(settled)

    return timed(act)


def live(browser: Browser, address: str) -> None:
    """A text of 200 tokens typed, until its gates and its lens are there; torch is loaded before."""
    context, page = fresh(browser)
    page.goto(f"{address}/tokens?b=wiki-nano")
    settle(page)
    words = "the history of the city and the river in the north of the country was written by many people "
    took: list[float] = []
    counts: list[int] = []
    for number in range(4):
        text = f"In {1900 + number} " + words * 11

        def act(text: str = text) -> None:
            page.get_by_label("Type a phrase").fill(text)
            page.keyboard.press("Enter")
            page.get_by_text("run now by wiki-nano/engram").wait_for()
            page.locator("#lens-window").wait_for()

        took.append(timed(act))
        counts.append(page.locator(".strip .chip").count())
        page.goto(f"{address}/tokens?b=wiki-nano&prompt=napoleon")
        settle(page)
    print(f"live runs of {min(counts)} tokens; the first of this visit {took[0]:.2f} s")
    said("live run of a typed text to gates and lens", took[1:], 3)
    context.close()


def long_text(browser: Browser, folder: Path) -> None:
    """A prompt of 4,000 tokens: first view, the longest frame while it scrolls, a click."""
    write_bundle(folder / "long.engram", awkward.parts())
    with serving(folder) as (address, _):
        context, page = fresh(browser)
        page.goto(address)
        settle(page)
        page.goto(f"{address}/tokens?b=long&prompt=long&tok=10")
        shown = timed(lambda: page.wait_for_function(_CHIPS))
        settle(page)
        worst = float(page.evaluate(_SCROLL))
        print(
            f"4,000 tokens: strip after {shown:.2f} s; longest frame of a scroll through all {worst:.0f} ms"
        )
        took: list[float] = []
        for token in range(20, 25):
            took.append(float(page.evaluate(_CLICK, token)) / 1000)
            settle(page)
        said("4,000 tokens: click to numbers", took, 1)
        context.close()


_CHIPS = """() => [...document.querySelectorAll('*')].some(
  (one) => one.shadowRoot?.querySelectorAll('.strip .chip').length === 4000)"""
# Timed in the page: Playwright's own search among thousands of nodes takes longer than the explorer.
_CLICK = """async (token) => {
  const host = [...document.querySelectorAll('*')].find((one) => one.shadowRoot?.querySelector('.strip'));
  const began = performance.now();
  host.shadowRoot.querySelectorAll('.chip')[token].click();
  while (!document.querySelector('.readout')?.textContent.includes(`Token ${token} `)) {
    await new Promise((done) => setTimeout(done, 10));
  }
  return performance.now() - began;
}"""
_SCROLL = """async () => {
  const host = [...document.querySelectorAll('*')].find((one) => one.shadowRoot?.querySelector('.strip'));
  const strip = host.shadowRoot.querySelector('.strip');
  let worst = 0, before = performance.now();
  for (let at = 0; at < strip.scrollHeight; at += 200) {
    strip.scrollTop = at;
    await new Promise(requestAnimationFrame);
    worst = Math.max(worst, performance.now() - before);
    before = performance.now();
  }
  return worst;
}"""


def visitors(browser: Browser, address: str, *, count: int) -> None:
    """Visitors who type at once: each must see its own text, and those who wait are told so."""
    pages = []
    for _ in range(count):
        context, page = fresh(browser)
        page.goto(f"{address}/tokens?b=wiki-nano")
        settle(page)
        pages.append((context, page))
    began = time.perf_counter()
    texts = [f"{PHRASES[number % len(PHRASES)]} {number}" for number in range(count)]
    for (_, page), text in zip(pages, texts, strict=True):
        page.get_by_label("Type a phrase").fill(text)
        page.keyboard.press("Enter")
    queued = sum(page.get_by_text("before it").count() for _, page in pages)
    wrong = 0
    for (_, page), text in zip(pages, texts, strict=True):
        page.get_by_text("run now by wiki-nano/engram").wait_for()
        settle(page)
        tokens = "".join(page.locator(".strip .text").all_inner_texts())
        wrong += text.replace(" ", "␣") not in tokens
    print(
        f"{count} visitors at once: done after {time.perf_counter() - began:.1f} s, {wrong} wrong panels, "
        f"{queued} seen waiting in the queue"
    )
    for context, _ in pages:
        context.close()


def main() -> None:
    """Measure everything once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="cold starts")
    args = parser.parse_args()
    chromium = os.environ.get("ENGRAM_INTERP_CHROMIUM", "/usr/bin/chromium")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f} before the first measurement")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        first_maps(browser, rounds=args.rounds)
        with serving() as (address, _):
            clicks(browser, address)
            visitors(browser, address, count=args.visitors)
            live(browser, address)
        long_text(browser, Path(folder))
        browser.close()


if __name__ == "__main__":
    main()
