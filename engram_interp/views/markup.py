"""HTML that is escaped by construction, and the one style sheet all fragments share.

`Html` marks text that is already safe. `element` escapes every child that is not `Html` and every
attribute value, so that a token ``<img src=x onerror=…>`` is shown and never obeyed.
"""

import html
from collections.abc import Iterable
from importlib.resources import files
from typing import Literal

from engram_interp.views.theme import DARK, LIGHT, MONO, SANS, Palette, Theme

Scheme = Literal["auto", "light", "dark"]

_VOID = {"br", "hr", "meta", "col"}


class Html(str):
    """A piece of HTML known to be safe to insert as it is; a notebook shows it as it would look."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(fragment(self))


def element(tag: str, *children: str, **attributes: str) -> Html:
    """One element; children that are not `Html` are escaped.

    A trailing underscore in an attribute name is dropped (``class_``), the others become hyphens
    (``aria_label``).

    >>> element("b", "<i>", class_="mark")
    '<b class="mark">&lt;i&gt;</b>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_encodable(value))}"'
        for name, value in attributes.items()
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[str]) -> Html:
    """The children one after another, those that are not `Html` escaped."""
    return Html(
        "".join(child if isinstance(child, Html) else html.escape(_encodable(child)) for child in children)
    )


def scrolling(child: Html, *, label: str) -> Html:
    """A region that scrolls sideways where it is too narrow, and can be reached by keyboard for that."""
    return element("div", child, class_="scroll", tabindex="0", role="group", aria_label=label)


def fragment(*children: str, theme: Scheme = "auto") -> Html:
    """The children with the style sheet in front: what a notebook shows."""
    style = element("style", style_sheet(theme=theme))
    return element("div", style, *children, class_="engram-view")


def _encodable(text: str) -> str:
    """`text` with lone surrogates spelled out, so that any page can be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def style_sheet(*, theme: Scheme = "auto", scope: str = ".engram-view") -> Html:
    """The CSS of every fragment; ``auto`` follows the reader's system, and print is always light.

    Args:
        theme: a fixed theme, or ``auto``.
        scope: the selector that the colours are set on.
    """
    fonts = f"{scope}{{--sans:{SANS};--mono:{MONO}}}"
    light = f"{scope}{{{_variables(LIGHT)}color-scheme:light}}{_chip_text('light')}"
    dark = f"{scope}{{{_variables(DARK)}color-scheme:dark}}{_chip_text('dark')}"
    chosen = {
        "light": light,
        "dark": f"{light}@media screen{{{dark}}}",
        "auto": f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}",
    }[theme]
    return Html(fonts + chosen + static("fragment.css"))


def static(name: str) -> str:
    """The text of a style sheet or script that lies beside this module."""
    return (files("engram_interp.views") / "static" / name).read_text(encoding="utf-8")


def _variables(colours: Palette) -> str:
    names = ("paper", "ink", "muted", "grid", "engram", "baseline", "gate", "null")
    return "".join(f"--{name}:{getattr(colours, name)};" for name in names)


def _chip_text(theme: Theme) -> str:
    """Text on chips: that of black and white which `strips` found to read better in each theme."""
    if theme == "light":
        return ".engram-view .tok{color:#000}.engram-view .tok.deep{color:#fff}"
    return ".engram-view .tok{color:#fff}.engram-view .tok.bright{color:#000}"
