"""The explorer's entry: ``streamlit run main.py -- [BUNDLE …] [--model PATH]`` (see launch.py)."""

from pathlib import Path

import streamlit as st
from explorer import bar, layers, overview, style, tokens

ICON = Path(__file__).resolve().parent / "icon.png"


def main() -> None:
    """Draw the frame that all pages share, then the page."""
    st.set_page_config(page_title="Engram explorer", page_icon=str(ICON), layout="wide")
    pages = {
        "overview": st.Page(overview.page, title="Overview", default=True),
        "layers": st.Page(layers.page, title="Layers", url_path="layers"),
        "tokens": st.Page(tokens.page, title="Tokens", url_path="tokens"),
    }
    st.session_state["pages"] = pages
    page = st.navigation(list(pages.values()), position="top")
    st.logo(str(ICON), size="small")
    style.inject()
    if bar.show(page.url_path):
        page.run()


main()
