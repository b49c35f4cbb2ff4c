"""Photograph every page of the explorer, light and dark, into docs/images.

python scripts/screenshots.py [--only memory] [--out docs/images]

Needs Chromium (ENGRAM_INTERP_CHROMIUM names another than Debian's) and the development packages.
"""

import argparse
import importlib.util
import io
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGES = {
    "overview": "/?b=wiki-nano",
    "layers": "/layers?b=wiki-nano&cell=3.4",
    "tokens": "/tokens?b=wiki-nano&prompt=napoleon&layer=1",
    "memory": "/memory?b=planted&prompt=fact-amri&layer=1&tok=4&live=on",
    "ablate": "/ablate?b=wiki-nano&prompt=napoleon&layer=1&tok=30&spec=rows_zero:t30&vs=rows_zero:t30:n3",
    "compare": "/compare?b=wiki-nano&with=planted&part=ablation",
    "report": "/report?b=wiki-nano&prompt=napoleon",
    "tour": "/tokens?b=planted&prompt=fact-amri&layer=1&tok=4&tour=2",
}
WIDTH, MOST, SHOWN = 1360, 1700, 900
"""Pixels: width of the window, height below which a page is cut, width of the picture."""


def launcher() -> ModuleType:
    """apps/explorer/launch.py."""
    path = REPOSITORY / "apps" / "explorer" / "launch.py"
    spec = importlib.util.spec_from_file_location("explorer_launch", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def serving(*bundles: Path | str) -> Iterator[tuple[str, int]]:
    """The explorer's address and process, while it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        launcher().command(bundles, port=port, browser=False),
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
    )
    address = f"http://localhost:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def settle(page: Page) -> None:
    """Wait until nothing runs and every figure is drawn."""
    page.wait_for_selector(".st-key-bar, .engram-state")
    page.wait_for_timeout(300)
    page.wait_for_function(
        "() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
        " && !document.querySelector('.stProgress, .stSkeleton')"
        " && [...document.querySelectorAll('.stPlotlyChart')].every(one => one.querySelector('.main-svg'))",
        timeout=90_000,
    )
    page.wait_for_timeout(600)


def photograph(browser: Browser, address: str, path: str, *, theme: str) -> Image.Image:
    """One page, as tall as what it shows."""
    context = browser.new_context(viewport={"width": WIDTH, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.goto(address + path)
    settle(page)
    height = int(page.evaluate("document.querySelector('.stMainBlockContainer').scrollHeight"))
    page.set_viewport_size({"width": WIDTH, "height": min(height, MOST)})
    settle(page)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return shot.resize((SHOWN, round(shot.height * SHOWN / shot.width)), Image.Resampling.LANCZOS)


def main() -> None:
    """Photograph what was asked for and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "images")
    parser.add_argument("--only", choices=list(PAGES), nargs="*", default=list(PAGES))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("ENGRAM_INTERP_CHROMIUM", "/usr/bin/chromium")
    size = 0
    with serving() as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for name in args.only:
            for theme in ("light", "dark"):
                target = args.out / f"explorer-{name}-{theme}.webp"
                photograph(browser, address, PAGES[name], theme=theme).save(target, quality=36, method=6)
                size += target.stat().st_size
                print(f"{target}: {target.stat().st_size / 1e3:.0f} kB")
        browser.close()
    print(f"all together {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
