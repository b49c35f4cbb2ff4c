"""Taking a panel away: its numbers as CSV, and the lines that draw it again."""

import io

import streamlit as st

from engram_interp.results import Bundle, Result


def tools(result: Result, *, bundle: Bundle | None, part: str, call: str) -> None:
    """A CSV download and the code behind one panel (the picture is in the figure's own toolbar).

    Args:
        result: what the panel shows.
        bundle: where it comes from; None for a live run.
        part: its name in the bundle.
        call: the method that draws it.
    """
    with st.container(horizontal=True, key=f"tools {part} {call}"):
        st.download_button(
            "CSV",
            data=lambda: _csv(result),
            file_name=f"{part.replace(':', '-')}.csv",
            mime="text/csv",
            key=f"csv {part} {call}",
            type="tertiary",
        )
        if bundle is not None:
            with st.popover("code", type="tertiary"):
                st.code(
                    "from engram_interp.results import open_bundle\n\n"
                    f'bundle = open_bundle("{bundle.path}")\n'
                    f'result = bundle["{part}"]\n'
                    f"print(result.summary())\nresult.{call}",
                    language="python",
                )


def _csv(result: Result) -> bytes:
    """Tidy: one row a value, its unit beside it, the provenance as one comment line."""
    text = io.StringIO()
    told = "; ".join(f"{name}={value}" for name, value in result.data.attrs.items())
    text.write("# " + told.replace("\n", " ").replace("\r", " ") + "\n")
    result.to_frame().to_csv(text, index=False)
    return text.getvalue().encode("utf-8", "backslashreplace")
