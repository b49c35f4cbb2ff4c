"""The look that all pages share; colours come from the views' palettes."""

import re
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from engram_interp.views.markup import Html, element, style_sheet
from engram_interp.views.theme import PLOTLY_CONFIG, Theme
from engram_interp.views.tokens import visible

# Streamlit recolours itself when the reader's system or the menu turns dark, and does not run the page again.
# A run that is under way can swallow the wish for another: it is said again, a few times.
_WATCH = """
export default function ({ data, setTriggerValue }) {
  const app = document.querySelector(".stApp");
  window.engramOpenedAt ??= location.pathname; // Streamlit keeps the choice by the path that was opened
  const kept = (path) => `stActiveTheme-${path}-v2`;
  const everywhere = () => {
    const chosen = localStorage.getItem(kept(window.engramOpenedAt));
    const root = window.engramOpenedAt.replace(/[^/]*$/, "");
    for (const page of data.pages) {
      if (chosen === null) localStorage.removeItem(kept(root + page));
      else localStorage.setItem(kept(root + page), chosen);
    }
  };
  let left = 4;
  let again;
  const look = () => {
    const shown = getComputedStyle(app).colorScheme === "dark" ? "dark" : "light";
    everywhere();
    if (shown === data.drawn || left === 0) return;
    left -= 1;
    setTriggerValue("theme", shown);
    clearTimeout(again);
    again = setTimeout(look, 1500);
  };
  const observer = new MutationObserver(look);
  observer.observe(app, { attributes: true, attributeFilter: ["class"] });
  look();
  return () => {
    observer.disconnect();
    clearTimeout(again);
  };
}
"""
FONT = '"Source Sans", system-ui, sans-serif'
_SHEET = Path(__file__).with_name("style.css")


def theme() -> Theme:
    """The theme the reader's browser shows."""
    return "dark" if st.context.theme.type == "dark" else "light"


def inject(pages: Sequence[str]) -> None:
    """Put the style sheets into the page, once a run; a choice of light or dark then holds on all `pages`."""
    own = _SHEET.read_text(encoding="utf-8")
    sheet = Html(f"{style_sheet(theme=theme(), scope=':root')}:root{{--sans:{FONT}}}{own}")
    st.html(str(element("style", sheet)))
    with st.container(key="theme-watcher"):
        watch = st.components.v2.component("engram_theme_watcher", js=_WATCH)
        data = {"drawn": theme(), "pages": list(pages)}
        watch(key="theme watcher", data=data, on_theme_change=lambda: None)


def html(*children: str) -> None:
    """Draw escaped HTML in the style of the views, in the colours of the page.

    As plain text: what a notebook shows of `Html` brings a style sheet that follows the reader's system,
    which need not be what the menu chose.
    """
    st.html(str(element("div", *children, class_="engram-view")))


def plain(text: str) -> str:
    """Any text for a label, where Streamlit would obey Markdown: images from other hosts among it."""
    return re.sub(r"([\\`*_\[\]!:$~<>])", r"\\\1", visible(text).replace("␣", " "))


def figure(drawn: go.Figure, *, key: str, alt: str) -> None:
    """Draw a figure as its result made it, in the letters of the page."""
    st.plotly_chart(lettered(drawn), theme=None, config=PLOTLY_CONFIG, key=key, alt=alt)


def lettered(drawn: go.Figure) -> go.Figure:
    """`drawn` with the font that Streamlit brings along, so that figures and page read as one."""
    return drawn.update_layout(font={"family": FONT, "size": 14})
