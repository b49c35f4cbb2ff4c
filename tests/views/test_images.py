"""Figures as files: drawn by a browser that asks no other host, or a reason why not."""

import importlib.util
from xml.etree import ElementTree

import pytest

from engram_interp.errors import InputError
from engram_interp.views import images
from tests.results import samples

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def browser(chromium_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser of the tests is the one that draws."""
    monkeypatch.setenv("BROWSER_PATH", chromium_path)


@pytest.mark.browser
@pytest.mark.usefixtures("browser")
def test_figures_are_drawn_as_svg_and_png_at_their_own_height() -> None:
    figure = samples.depth().plot()
    found = images.images({"map": figure, "shift": samples.depth().plot(view="shift")})
    assert list(found) == ["map", "shift"]
    drawn = ElementTree.fromstring(found["map"])
    assert (drawn.get("width"), drawn.get("height")) == ("900", str(figure.layout.height))
    assert "baseline layer" in found["map"].decode()
    [png] = images.images({"map": figure}, kind="png").values()
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    assert png.startswith(PNG) and (width, height) == (2700, 3 * figure.layout.height)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec

    def without(name: str) -> object:
        return None if name == "kaleido" else known(name)

    monkeypatch.setattr(images, "find_spec", without)
    with pytest.raises(InputError, match=r"pip install 'engram-interp\[export\]'"):
        images.images({})


def test_a_machine_without_a_browser_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from choreographer.browsers.chromium import Chromium

    monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)
    with pytest.raises(InputError, match="Chromium or Chrome, and there is none here"):
        images.images({})
