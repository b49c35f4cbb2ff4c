"""One self-contained HTML page from sections of text, HTML and figures.

The page works from a file without a network: plotly.js stands in it once, a content security policy
forbids every host, and only the page's own two scripts may run, so that markup which slipped in
would still do nothing. It follows the reader's light or dark setting and prints in light.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from engram_interp.views.markup import Html, element, join, scrolling, static, style_sheet
from engram_interp.views.theme import PLOTLY_CONFIG, exchange

Part: TypeAlias = "str | Html | go.Figure"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it, in order.

    Attributes:
        title: the heading, plain text.
        parts: figures made with the light theme, `Html` as it is, and plain text (escaped) as paragraphs.
        fold: ``closed`` hides the parts until the heading is clicked; they are printed all the same.
    """

    title: str
    parts: Sequence[Part]
    fold: Literal["open", "closed"] = "open"


def html_page(
    *, title: str, sections: Sequence[Section], lead: str = "", manifest: Mapping[str, Any] | None = None
) -> str:
    """The page as text; the caller writes it.

    Args:
        title: heading of the page and of its window.
        sections: shown in this order, and listed below the heading.
        lead: a paragraph under the heading; plain text, or `Html`.
        manifest: how the numbers were made; shown at the end as JSON.
    """
    figures: list[go.Figure] = []
    bodies = [_section(section, index, figures) for index, section in enumerate(sections)]
    contents = [
        element("li", element("a", section.title, href=f"#section-{index}"))
        for index, section in enumerate(sections)
    ]
    body = element(
        "main",
        element("h1", title),
        *([element("p", lead, class_="lead")] if lead else []),
        *([element("nav", element("ul", *contents), aria_label="Contents")] if len(sections) > 2 else []),
        *([_no_script()] if figures else []),
        *bodies,
        *([_provenance(manifest)] if manifest is not None else []),
        class_="engram-view",
    )
    scripts = [Html(get_plotlyjs().replace("\r\n", "\n")), Html(static("page.js"))] if figures else []
    data = [element("script", _data(figures), type="application/json", id="figures")] if figures else []
    return _document(title=title, body=join([body, *data]), scripts=scripts)


def _section(section: Section, index: int, figures: list[go.Figure]) -> Html:
    parts: list[Html] = []
    for part in section.parts:
        if isinstance(part, go.Figure):
            parts.append(_figure_slot(part, len(figures)))
            figures.append(part)
        else:
            parts.append(part if isinstance(part, Html) else element("p", part))
    heading = element("h2", section.title)
    if section.fold == "closed":
        inside = [element("details", element("summary", heading), *parts)]
    else:
        inside = [heading, *parts]
    return element("section", *inside, id=f"section-{index}")


def _figure_slot(figure: go.Figure, number: int) -> Html:
    """The place a figure is drawn in, at its final height so that nothing jumps."""
    height = int(figure.layout.height or 450)
    label = str(figure.layout.title.text or "figure")
    slot = element(
        "div",
        class_="plot",
        role="figure",
        aria_label=label,
        data_figure=str(number),
        style=f"height:{height}px",
    )
    return scrolling(slot, label=label)


def _no_script() -> Html:
    return element(
        "noscript",
        element(
            "p", "The figures need JavaScript, which is off here; text and tables do not.", class_="note"
        ),
    )


def _provenance(manifest: Mapping[str, Any]) -> Html:
    text = json.dumps(manifest, indent=2, ensure_ascii=False, default=str)
    return element(
        "section",
        element("details", element("summary", element("h2", "How this was made")), element("pre", text)),
    )


def _data(figures: Sequence[go.Figure]) -> Html:
    """The figures as JSON that can stand inside a script element whatever their text says."""
    specs = [json.loads(figure.to_json()) for figure in figures]
    text = json.dumps(
        {"figures": specs, "dark": exchange(), "config": PLOTLY_CONFIG},
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _document(*, title: str, body: Html, scripts: Sequence[Html]) -> str:
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style_sheet(scope=":root") + static("page.css"))),
    )
    tail = [element("script", script) for script in scripts]
    page = element("html", head, element("body", body, *tail), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
