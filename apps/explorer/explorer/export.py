"""Taking a panel away: its numbers as CSV, its figure as PNG or HTML, and the lines that draw it again."""

import io
from collections.abc import Callable, Mapping
from zipfile import ZIP_DEFLATED, ZipFile

import plotly.graph_objects as go
import streamlit as st

from engram_interp.results import Bundle, Result
from engram_interp.views.page import Section, html_page
from explorer import buttons

OFFLINE = "One file that opens without a network."


def tools(
    result: Result,
    *,
    bundle: Bundle | None,
    part: str,
    call: str,
    code: str = "",
    figure: Callable[[], go.Figure] | None = None,
    drawn: str = "",
) -> None:
    """CSV, PNG, HTML and code of one panel.

    Args:
        result: what the panel shows.
        bundle: where it comes from; None for a live run.
        part: its name in the bundle.
        call: the method that draws it.
        code: the lines that make a live result, as `result`.
        figure: draws it in light colours; by default the result's own figure.
        drawn: the key under which its figure stands on the page; empty where there is none to save as PNG.
    """
    file = part.replace(":", "-")
    key = f"{'live' if bundle is None else bundle.name} {part} {call}"
    with st.container(horizontal=True, gap="small", key=f"tools {key}"):
        st.download_button(
            "CSV",
            data=lambda: csv(result),
            file_name=f"{file}.csv",
            mime="text/csv",
            key=f"csv {key}",
            on_click="ignore",
            type="tertiary",
            help="Tidy: one row a value, with its unit; the first line says where it comes from.",
        )
        if drawn:
            buttons.save(drawn, key=key)
        st.download_button(
            "HTML",
            data=lambda: _html(result, part, result.plot if figure is None else figure),
            file_name=f"{file}.html",
            mime="text/html",
            key=f"html {key}",
            on_click="ignore",
            type="tertiary",
            help=OFFLINE,
        )
        made = code if bundle is None else opened(bundle, part)
        if made:
            with st.popover("code", type="tertiary"):
                st.code(f"{made}\nprint(result.summary())\nresult.{call}", language="python")


def opened(bundle: Bundle, part: str) -> str:
    """The lines that open a part of a bundle as `result`; names are written as Python writes them."""
    return (
        "from engram_interp.results import open_bundle\n\n"
        f"bundle = open_bundle({str(bundle.path)!r})\n"
        f"result = bundle[{part!r}]"
    )


def ran(model: str, module: str, call: str) -> str:
    """The lines that run a model as `result`; texts are written as Python writes them."""
    return (
        f"from engram_interp import {module}\nfrom engram_interp.checkpoints import load_model\n\n"
        f"model = load_model({model!r})\nresult = {module}.{call}"
    )


def csv(result: Result) -> bytes:
    """Tidy: one row a value, its unit beside it, the provenance as one comment line."""
    text = io.StringIO()
    told = "; ".join(f"{name}={value}" for name, value in result.data.attrs.items())
    text.write("# " + told.replace("\n", " ").replace("\r", " ") + "\n")
    result.to_frame().to_csv(text, index=False)
    return text.getvalue().encode("utf-8", "backslashreplace")


def zipped(results: Mapping[str, Result]) -> bytes:
    """One CSV file a result, in one zip file."""
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for part, result in results.items():
            archive.writestr(f"{part.replace(':', '-').replace('/', '-')}.csv", csv(result))
    return packed.getvalue()


def _html(result: Result, part: str, figure: Callable[[], go.Figure]) -> bytes:
    section = Section(title=part, parts=[figure()])
    manifest = {str(name): str(value) for name, value in result.data.attrs.items()}
    page = html_page(title=part, lead=result.summary(), sections=[section], manifest=manifest)
    return page.encode()
