"""The look that all pages share; colours come from the views' palettes."""

import re
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
  let left = 4;
  let again;
  const look = () => {
    const shown = getComputedStyle(app).colorScheme === "dark" ? "dark" : "light";
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


def inject() -> None:
    """Put the style sheets into the page, once a run."""
    own = _SHEET.read_text(encoding="utf-8")
    st.html(element("style", Html(f"{style_sheet(theme=theme(), scope=':root')}:root{{--sans:{FONT}}}{own}")))
    with st.container(key="theme-watcher"):
        watch = st.components.v2.component("engram_theme_watcher", js=_WATCH)
        watch(key="theme watcher", data={"drawn": theme()}, on_theme_change=lambda: None)


def html(*children: str) -> None:
    """Draw escaped HTML in the style of the views."""
    st.html(element("div", *children, class_="engram-view"))


def plain(text: str) -> str:
    """Any text for a label, where Streamlit would obey Markdown: images from other hosts among it."""
    return re.sub(r"([\\`*_\[\]!:$~<>])", r"\\\1", visible(text).replace("␣", " "))


def figure(drawn: go.Figure, *, key: str, alt: str) -> None:
    """Draw a figure as its result made it, in the letters of the page."""
    st.plotly_chart(lettered(drawn), theme=None, config=PLOTLY_CONFIG, key=key, alt=alt)


def lettered(drawn: go.Figure) -> go.Figure:
    """`drawn` with the font that Streamlit brings along, so that figures and page read as one."""
    return drawn.update_layout(font={"family": FONT, "size": 14})
