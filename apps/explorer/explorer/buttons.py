"""Two buttons that the browser answers by itself: copy a text, save a figure as PNG."""

from collections.abc import Callable

import streamlit as st

_CSS = """
button {
  font: inherit; font-family: var(--st-font); font-size: 14px; line-height: 1.6;
  color: var(--st-text-color); cursor: pointer;
  white-space: nowrap; border-radius: 6px; padding: 0; border: 0; background: none; min-height: 2.5rem;
}
button.framed { width: 100%; border: 1px solid var(--st-border-color); padding: 0 .6rem; }
button:hover { color: var(--st-primary-color); border-color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
"""
_COPY = """
export default function ({ data, parentElement, setTriggerValue }) {
  const button = parentElement.querySelector("button");
  button.className = "framed";
  button.title = data.about;
  button.onclick = async () => {
    if (data.kept) { setTriggerValue("copied", true); }
    try {
      await navigator.clipboard.writeText(data.text);
      button.textContent = "Copied";
    } catch {
      window.prompt("Copy this link", data.text);
    }
    setTimeout(() => { button.textContent = "Copy link"; }, 2000);
  };
}
"""
_IN_SIGHT = """
export default function ({ data }) {
  const cell = document.querySelector(`#${data.of} tr > :nth-child(${data.column})`);
  const frame = cell?.closest(".scroll");
  if (!frame) return;
  const from = cell.offsetLeft, to = from + cell.offsetWidth;
  if (from < frame.scrollLeft || to > frame.scrollLeft + frame.clientWidth) {
    frame.scrollLeft = to - frame.clientWidth / 2;
  }
}
"""
_SAVE = """
export default function ({ data, parentElement }) {
  const button = parentElement.querySelector("button");
  button.title = "The figure as it stands above, at three times its size";
  button.onclick = () => {
    const figure = document.querySelector(`[class~="${data.figure}"] .js-plotly-plot`);
    const own = figure?.querySelector('.modebar-btn[data-title*="png" i], .modebar-btn[aria-label*="png" i]');
    if (own) { own.click(); return; }
    button.textContent = "The figure is not drawn yet";
    setTimeout(() => { button.textContent = "PNG"; }, 2500);
  };
}
"""


def in_sight(column: int, *, of: str) -> None:
    """Scroll a table sideways until one of its columns, counted from 1, can be seen."""
    scroll = st.components.v2.component("engram_in_sight", js=_IN_SIGHT)
    with st.container(key="in-sight"):
        scroll(key=f"in sight {of}", data={"column": column, "of": of})


def copy(link: str, *, about: str, keep: Callable[[], None] | None = None) -> None:
    """A button that puts `link` on the clipboard and says so; where it may not, the link is shown.

    Args:
        link: what is copied.
        about: the button's help.
        keep: called when the button is pressed; None leaves that to the browser alone.
    """
    button = st.components.v2.component("engram_copy", html=_named("Copy link"), css=_CSS, js=_COPY)
    data = {"text": link, "about": about, "kept": keep is not None}
    button(key="copy link", data=data, on_copied_change=keep or (lambda: None))


def save(figure: str, *, key: str) -> None:
    """A button that saves the figure drawn under the key `figure`, or says that it is not drawn."""
    drawn = "st-key-" + "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in figure)
    button = st.components.v2.component("engram_png", html=_named("PNG"), css=_CSS, js=_SAVE)
    button(key=f"png {key}", data={"figure": drawn}, width="content")


def _named(label: str) -> str:
    """A button that has its name from the start, also for a screen reader that comes before the script."""
    return f'<button type="button">{label}</button>'
