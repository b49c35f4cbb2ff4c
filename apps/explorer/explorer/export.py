"""Taking a panel away: its numbers as CSV, its figure as PNG or HTML, and the lines that draw it again."""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from zipfile import ZIP_DEFLATED, ZipFile

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from engram_interp.errors import InputError
from engram_interp.numbering import runs_of
from engram_interp.results import Bundle, Result
from engram_interp.views import images
from engram_interp.views.page import Part, Section, html_page
from explorer import buttons

_ALL: Mapping[str, Collection[int]] = {}
OFFLINE = "One file that opens without a network."


def tools(
    result: Result,
    *,
    bundle: Bundle | None,
    part: str,
    call: str,
    views: Sequence[str] = (),
    code: str = "",
    figure: Callable[[], go.Figure] | None = None,
    parts: Callable[[], Sequence[Part]] | None = None,
    drawn: str = "",
    said: str = "",
    rows: Mapping[str, Collection[int]] = _ALL,
) -> None:
    """CSV, PNG, HTML and code of one panel.

    Args:
        result: what the panel shows.
        bundle: where it comes from; None for a live run.
        part: its name in the bundle.
        call: the method that draws it; empty where a view alone does.
        views: calls of `engram_interp.views` that show it, or stand before what the method draws.
        code: the lines that make a live result, as `result`.
        figure: draws it in light colours; by default the result's own figure.
        parts: what a page of its own shows, where that is more or other than the figure.
        drawn: the key under which its figure stands on the page; empty where there is none to save as PNG.
        said: the sentence of the HTML page; by default the result's own.
        rows: which of the result's rows the panel shows, by dimension; the CSV has these.
    """
    made = code if bundle is None else opened(bundle, part)
    lines = [
        _importing(made, views),
        "print(result.summary())",
        *(f"display({view})" for view in views),
        *([f"result.{call}"] if call else []),
    ]
    _row(
        file=part.replace(":", "-"),
        key=f"{'live' if bundle is None else bundle.name} {part} {' '.join([*views, call])}",
        table=lambda: csv(result, rows),
        page=lambda: _html({part: result}, part, parts() if parts else [(figure or result.plot)()], said),
        code="\n".join(lines) if made else "",
        drawn=drawn,
    )


def _importing(made: str, views: Sequence[str]) -> str:
    """The lines of `made`, which begin with imports, with the modules of `views` among these."""
    modules = ", ".join(sorted({view.partition(".")[0] for view in views}))
    return made.replace("\n\n", f"\nfrom engram_interp.views import {modules}\n\n", 1) if views else made


def together(
    results: Mapping[str, Result],
    *,
    name: str,
    parts: Callable[[], Sequence[Part]],
    code: str,
    drawn: str = "",
) -> None:
    """The same of a panel that several results stand in.

    Args:
        results: by what the panel calls them.
        name: of the panel, and of the files.
        parts: what it shows, in light colours.
        code: the lines that draw it again.
        drawn: as in `tools`.
    """
    _row(
        file=name.replace(" ", "-"),
        key=f"together {name}",
        table=lambda: csv_of_several(results),
        page=lambda: _html(results, name, parts()),
        code=code,
        drawn=drawn,
    )


def _row(
    *,
    file: str,
    key: str,
    table: Callable[[], bytes],
    page: Callable[[], bytes],
    code: str,
    drawn: str,
) -> None:
    with st.container(horizontal=True, gap="small", key=f"tools {key}"):
        st.download_button(
            "CSV",
            data=table,
            file_name=f"{file}.csv",
            mime="text/csv",
            key=f"csv {key}",
            on_click="ignore",
            type="tertiary",
            help="Tidy: one row a value, with its unit; the first lines say where it comes from.",
        )
        if drawn:
            buttons.save(drawn, key=key)
        st.download_button(
            "HTML",
            data=page,
            file_name=f"{file}.html",
            mime="text/html",
            key=f"html {key}",
            on_click="ignore",
            type="tertiary",
            help=OFFLINE,
        )
        if code:
            with st.popover("code", type="tertiary"):
                st.code(code, language="python", wrap_lines=True)


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


def csv(result: Result, rows: Mapping[str, Collection[int]] = _ALL) -> bytes:
    """Tidy: one row a value, its unit beside it, the provenance as one comment line.

    Args:
        result: what is written.
        rows: by dimension, which of it; a value without that dimension stays.
    """
    frame = result.to_frame()
    for name in [name for name in rows if name in frame]:
        frame = frame[frame[name].isna() | frame[name].isin(list(rows[name]))]
    kept = [f"shown: {name} {', '.join(runs_of(found))}" for name, found in rows.items()]
    return _written(["; ".join([_told(result), *kept])], frame)


def csv_of_several(results: Mapping[str, Result]) -> bytes:
    """As `csv`, of several results below one another: which one a value is of stands in the first column."""
    frames = {name: result.to_frame() for name, result in results.items()}
    frame = pd.concat(frames, names=["of"]).reset_index(level="of")
    return _written([f"{name}: {_told(result)}" for name, result in results.items()], frame)


def _told(result: Result) -> str:
    return "; ".join(f"{name}={value}" for name, value in result.data.attrs.items())


def _written(comments: Sequence[str], frame: pd.DataFrame) -> bytes:
    text = io.StringIO()
    for comment in comments:
        text.write("# " + comment.replace("\n", " ").replace("\r", " ") + "\n")
    frame.to_csv(text, index=False)
    return text.getvalue().encode("utf-8", "backslashreplace")


def zipped(results: Mapping[str, Result]) -> bytes:
    """One CSV file a result, in one zip file."""
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for part, result in results.items():
            archive.writestr(f"{part.replace(':', '-').replace('/', '-')}.csv", csv(result))
    return packed.getvalue()


def pictures(figures: Callable[[], Mapping[str, go.Figure]], *, kind: images.Kind, name: str) -> None:
    """A button that saves figures as files of one kind, in one zip file; off where they cannot be drawn."""
    missing = images.missing()

    def packed() -> bytes:
        written = io.BytesIO()
        with ZipFile(written, "w", ZIP_DEFLATED) as archive:
            try:
                for file, content in images.images(figures(), kind=kind).items():
                    archive.writestr(f"{file}.{kind}", content)
            except InputError as cause:  # the browser that downloads would be told nothing of it
                archive.writestr("NOT DRAWN.txt", f"{cause}\n")
        return written.getvalue()

    st.download_button(
        f"Figures ({kind.upper()}, zip)",
        data=b"" if missing else packed,
        file_name=f"{name}-{kind}.zip",
        mime="application/zip",
        key=f"report {kind}",
        on_click="ignore",
        disabled=bool(missing),
        help=missing or "One file a figure, in light colours; a browser of this machine draws them.",
    )


def _html(results: Mapping[str, Result], title: str, parts: Sequence[Part], said: str = "") -> bytes:
    manifest = {
        name: {str(key): str(value) for key, value in result.data.attrs.items()}
        for name, result in results.items()
    }
    lead = said or " ".join(result.summary() for result in results.values())
    section = Section(title=title, parts=parts)
    return html_page(title=title, lead=lead, sections=[section], manifest=manifest).encode()
