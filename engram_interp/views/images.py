"""Figures as SVG or PNG files, drawn by a Chromium of this machine that asks no other host.

Needs the extra ``export`` (kaleido) and Chromium or Chrome. Everything else of the views does without.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from threading import Lock
from typing import Any, Literal

import plotly.graph_objects as go

from engram_interp.errors import InputError

Kind = Literal["svg", "png"]
WIDTH = 900
"""Pixels of a figure that has no width of its own; its height is kept."""
PNG_SCALE = 3
_ONE_AT_A_TIME = Lock()


def missing() -> str:
    """What figures cannot be written for want of; empty if they can."""
    if find_spec("kaleido") is None or find_spec("choreographer") is None:  # old kaleidos had none
        return "Figures are written by kaleido 1.3 or later: pip install 'engram-interp[export]'."
    from choreographer.browsers.chromium import Chromium

    if Chromium.find_browser(skip_local=False) is None:
        return "Figures are drawn by Chromium or Chrome, and there is none here; install one of them."
    return ""


def images(figures: Mapping[str, go.Figure], *, kind: Kind = "svg", width: int = WIDTH) -> dict[str, bytes]:
    """Every figure as the content of a file, by its name.

    Args:
        figures: by name.
        kind: ``svg``, or ``png`` at three times the size.
        width: pixels, of figures that have no width of their own.

    Raises:
        InputError: If kaleido or a browser is missing, or the browser does not draw.
    """
    problem = missing()
    if problem:
        raise InputError(problem)
    import kaleido
    from kaleido.errors import KaleidoError

    with _ONE_AT_A_TIME:
        try:
            # Without MathJax, which would come from another host; plotly.js is the installed one.
            kaleido.start_sync_server(n=1, mathjax=False, silence_warnings=True)
            return {name: _drawn(kaleido, one, kind=kind, width=width) for name, one in figures.items()}
        except (KaleidoError, RuntimeError, OSError, TimeoutError) as cause:
            raise InputError(
                f"The browser did not draw the figures ({str(cause) or type(cause).__name__}); see that "
                "Chromium starts here, or save single figures from the page."
            ) from cause
        finally:
            kaleido.stop_sync_server(silence_warnings=True)


def _drawn(kaleido: Any, figure: go.Figure, *, kind: Kind, width: int) -> bytes:
    size = {"width": figure.layout.width or width, "height": figure.layout.height or 460}
    scale = PNG_SCALE if kind == "png" else 1
    drawn: bytes = kaleido.calc_fig_sync(figure, opts={"format": kind, "scale": scale, **size})
    return drawn
