"""What the tests in a browser share: how it is started, and what is asked of a page."""

from urllib.parse import parse_qs, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SLOW = 60_000


def link(page: Page) -> dict[str, str]:
    """What the address says is chosen."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def accessible(page: Page) -> None:
    """No rule of axe is broken, the strip's shadow tree included."""
    found = [f"{rule['id']}: {rule['nodes'][0]['target']}" for rule in Axe().run(page).response["violations"]]
    assert not found, found


def idle(page: Page) -> None:
    """Nothing runs and every figure is drawn."""
    page.wait_for_function(
        "() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
        " && [...document.querySelectorAll('.stPlotlyChart')].every(one => one.querySelector('.main-svg'))"
    )


def no_wider_than_the_window(page: Page) -> bool:
    """Nothing has to be scrolled sideways."""
    wider = page.evaluate("(m => m.scrollWidth - m.clientWidth)(document.querySelector('.stMain'))")
    return bool(wider <= 0)
