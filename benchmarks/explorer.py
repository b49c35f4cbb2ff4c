"""Time the explorer in a real browser and judge every limit: maps, clicks, live runs, long texts, visitors.

python -m benchmarks.explorer [--visitors 10] [--only clicks live]

Prints every measurement beside its limit, which the worst of them must meet; the exit status is 1 where
one does not. Needs Chromium and the development packages. Another process on the machine shows in every
number.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from benchmarks.explorer_live import live, visitors
from benchmarks.limits import Measured, fresh, table, timed
from engram_interp import pairs
from engram_interp.results import open_bundle, write_bundle
from scripts.screenshots import ARGUMENTS, PAGES, serving, settle
from tests.apps import awkward

MAP = ".js-plotly-plot .heatmaplayer image"
CLICKS = 5
FRAME = 0.2
"""Seconds without a new frame after which scrolling is felt to stand still."""


def first_maps(browser: Browser, *, rounds: int) -> list[Measured]:
    """From the start of the server to the first map, and of a second visitor."""
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        with serving() as (address, _):
            for seconds in (cold, warm):
                start = began if seconds is cold else time.perf_counter()
                context, page = fresh(browser)
                page.goto(address)
                page.wait_for_selector(MAP)
                seconds.append(time.perf_counter() - start)
                context.close()
    return [
        Measured(what="first map, cold (server start included)", values=tuple(cold), limit=5),
        Measured(what="first map, warm", values=tuple(warm), limit=3),
    ]


def memory(browser: Browser) -> list[Measured]:
    """The most memory of a server whose visitor saw every page of a bundle, and whether it loaded PyTorch."""
    with serving() as (address, pid):
        context, page = fresh(browser)
        for path in PAGES.values():
            asked = [part for part in path.split("&") if part.partition("=")[0] not in {"live", "spec", "vs"}]
            page.goto(address + "&".join(asked))
            settle(page)
        context.close()
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        torch = "libtorch" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    return [
        Measured(what="server of bundles, peak", values=(peak / 1024,), limit=350, unit="MB"),
        Measured(what="server of bundles, PyTorch loaded", values=(float(torch),), limit=0, unit=""),
    ]


def clicks(browser: Browser, address: str) -> list[Measured]:
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
    for column in range(CLICKS):
        row = (column + 2) % layers
        x = box["x"] + box["width"] * (column + 0.5) / layers
        y = box["y"] + box["height"] * (1 - (row + 0.5) / layers)
        shown = page.get_by_text(f"CKA of Engram layer {column} with baseline layer {row}")

        def click(x: float = x, y: float = y, shown: Locator = shown) -> None:
            page.mouse.click(x, y)
            shown.wait_for()

        cells.append(timed(click))
        settle(page)
    found = [Measured(what="click on a cell to its panel", values=tuple(cells), limit=1)]
    for path in ("tokens", "memory", "ablate"):
        page.goto(f"{address}/{path}?b=wiki-nano&prompt=napoleon&tok=30")
        settle(page)
        took = tuple(_pick(page, token) for token in range(3, 3 + CLICKS))
        found.append(Measured(what=f"click on a token to its numbers, {path}", values=took, limit=1))
    context.close()
    return found


def _pick(page: Page, token: int) -> float:
    """Seconds from a click on a token to the line that speaks of it, and to the end of the run."""

    def act() -> None:
        page.locator(".strip .chip").nth(token).click()
        page.locator(".readout", has_text=f"Token {token} ").wait_for()
        settled = "document.querySelector('.stApp').dataset.testScriptState === 'notRunning'"
        page.wait_for_function(settled)

    return timed(act)


def long_text(browser: Browser, folder: Path) -> list[Measured]:
    """A prompt of 4,000 tokens: the longest frame while it scrolls, a click."""
    write_bundle(folder / "long.engram", awkward.parts())
    with serving(folder) as (address, _):
        context, page = fresh(browser)
        page.goto(address)
        settle(page)
        page.goto(f"{address}/tokens?b=long&prompt=long&tok=10")
        page.wait_for_function(_CHIPS)
        settle(page)
        frames = tuple(float(page.evaluate(_SCROLL)) / 1000 for _ in range(3))
        took: list[float] = []
        for token in range(20, 25):
            took.append(float(page.evaluate(_CLICK, token)) / 1000)
            settle(page)
        context.close()
    return [
        Measured(what="4,000 tokens: longest frame of a scroll", values=frames, limit=FRAME),
        Measured(what="4,000 tokens: click to numbers", values=tuple(took), limit=1),
    ]


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


def main() -> int:
    """Measure everything once; the exit status."""
    parts = ("maps", "memory", "clicks", "visitors", "live", "long")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="cold starts")
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the first measurement")
    found = measure(args.only, visits=args.visitors, rounds=args.rounds)
    print(table(found))
    return int(not all(one.met for one in found))


def measure(parts: Iterable[str], *, visits: int, rounds: int) -> list[Measured]:
    """The measurements of some parts, in one browser."""
    chromium = os.environ.get("ENGRAM_INTERP_CHROMIUM", "/usr/bin/chromium")
    found: list[Measured] = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        if "maps" in parts:
            found += first_maps(browser, rounds=rounds)
        if "memory" in parts:
            found += memory(browser)
        with serving() as (address, pid):
            if "clicks" in parts:
                found += clicks(browser, address)
            if "visitors" in parts:
                found += visitors(browser, address, pid, count=visits)
            if "live" in parts:
                found += live(browser, address)
        if "long" in parts:
            found += long_text(browser, Path(folder))
        browser.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
