"""What the tests of the explorer share: a made-up bundle's parts, and reading what a page shows."""

import ast
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from engram_interp import pairs
from engram_interp.results import Result, open_bundle
from tests.results import memory_samples, samples

REPOSITORY = Path(__file__).resolve().parents[2]
EXPLORER = REPOSITORY / "apps" / "explorer"

Start = Callable[..., AppTest]


def parts() -> dict[str, Result]:
    """Seven layers against five, memory at 1 and 4, three streams, two prompts; the first is whole."""
    return {
        "depth": samples.depth(),
        "lens-engram": samples.convergence(),
        "lens-baseline": samples.convergence(8, model="without"),
        "gates": samples.gate_reading(),
        "gate-statistics": samples.gate_statistics(),
        "gate-selectivity": memory_samples.gate_selectivity(),
        "gate-usefulness": memory_samples.gate_usefulness(),
        "gate-information": open_bundle(pairs.bundle_path("wiki-nano"))["gate-information"],
        "retained": memory_samples.retained_performance(),
        "ablation": samples.ablation_effect(),
        "stitching": samples.stitching(),
        "lens-depth": samples.lens_depth(),
        "lens-depth-tuned": samples.lens_depth(lens="tuned lens"),
        "second-opinions": samples.second_opinions(),
        "lens-table:0": samples.lens_table(),
        "slots:0": samples.slot_lookup(),
        "attribution:0": memory_samples.memory_attribution(),
        "promotion:0": memory_samples.memory_promotion(),
    }


def show(app: AppTest, page: str) -> None:
    """Go to a page, as its link in the header does."""
    found = app._registered_pages.items()
    app._page_hash = next(key for key, info in found if info["url_pathname"] == page)
    app.run()


def settle(app: AppTest) -> AppTest:
    """Draw the page again, as its polling fragment does, until no run is under way."""
    deadline = time.monotonic() + 90
    while app.get("progress") and time.monotonic() < deadline:
        time.sleep(0.1)
        app.run()
    assert not app.exception, app.exception
    return app


def typed(app: AppTest, text: str) -> AppTest:
    """Type a text, and wait for its run."""
    app.text_input(key="typed text").set_value(text).run()
    return settle(app)


def written(app: AppTest) -> str:
    """All HTML and text that the page holds; marks such as ␣ without the element around them."""
    texts = [re.sub(r'<span class="mark">(.*?)</span>', r"\1", node.proto.body) for node in app.get("html")]
    return "\n".join([*texts, *(node.value for node in [*app.markdown, *app.caption])])


def figures(app: AppTest) -> int:
    """How many figures the page holds."""
    return len(app.get("plotly_chart"))


def rebuilt(app: AppTest, holding: str) -> list[object]:
    """What the page's lines that hold a text show, run as in a notebook."""
    lines = [node.value for node in app.code if holding in node.value]
    assert len(lines) == 1, [node.value for node in app.code]
    return ran(lines[0])


def ran(lines: str) -> list[object]:
    """What lines show, run as in a notebook."""
    tree = ast.parse(lines)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    shown: list[object] = []
    space: dict[str, object] = {"display": shown.append}
    exec(compile(tree, "code", "exec"), space)
    value = eval(compile(ast.Expression(last.value), "code", "eval"), space)
    return shown if value is None else [*shown, value]


def charts(app: AppTest) -> list[dict[str, Any]]:
    """The figures that the page holds, as Plotly reads them."""
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def downloads(app: AppTest) -> set[str]:
    """The keys of the page's download buttons."""
    return {button.proto.id.split("-", 2)[2] for button in app.get("download_button")}
