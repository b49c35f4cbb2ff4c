"""The explorer's entry: ``streamlit run main.py -- [BUNDLE …] [--model PATH]`` (see launch.py)."""

import logging
from pathlib import Path
from typing import Any

import streamlit as st
from explorer import (
    ablate,
    about,
    bar,
    compare,
    layers,
    memory,
    overview,
    report,
    states,
    style,
    tokens,
    tour,
)
from streamlit.errors import FragmentHandledException
from streamlit.navigation.page import StreamlitPage

ICON = Path(__file__).resolve().parent / "icon.png"


def main() -> None:
    """Draw the frame that all pages share, then the page."""
    # With a text of its own the menu at the right is there, which also holds the choice of light and dark.
    menu: Any = {"About": about.HELP}
    st.set_page_config(page_title="Engram explorer", page_icon=str(ICON), layout="wide", menu_items=menu)
    pages = {
        "overview": st.Page(overview.page, title="Overview", default=True),
        "layers": st.Page(layers.page, title="Layers", url_path="layers"),
        "tokens": st.Page(tokens.page, title="Tokens", url_path="tokens"),
        "memory": st.Page(memory.page, title="Memory", url_path="memory"),
        "ablate": st.Page(ablate.page, title="Ablate", url_path="ablate"),
        "compare": st.Page(compare.page, title="Compare", url_path="compare"),
        "report": st.Page(report.page, title="Report", url_path="report"),
    }
    st.session_state["pages"] = pages
    page = st.navigation(list(pages.values()), position="top")
    st.logo(str(ICON), size="small")
    style.inject([one.url_path for one in pages.values()])
    _draw(page)


def _draw(page: StreamlitPage) -> None:
    """The bar and the page; what nobody foresaw is said on the page, and told to the log."""
    finish = None
    try:
        finish = bar.show(page.url_path)
        if finish is not None:
            tour.show()
            page.run()
    except FragmentHandledException:
        raise  # Streamlit has said it already; a rerun and a stop are no Exception
    except Exception as error:
        logging.getLogger(__name__).exception("The page “%s” failed.", page.url_path or "overview")
        states.show(states.surprise(error))
    if finish is not None:
        finish()


main()
