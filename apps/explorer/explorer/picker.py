"""Picking a cell of the similarity map.

A click on a plotly heat map selects nothing in Streamlit, so invisible squares lie over the cells. A
figure whose JSON changes loses its selection: a picked cell is therefore marked by the browser, and the
figure is drawn anew only when the cell was chosen elsewhere (the bar, the number fields, a link).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from engram_interp.views.theme import BELOW, PLOTLY_CONFIG
from engram_interp.views.tokens import plain_label
from explorer.style import lettered

Cell = tuple[int, int]
MARK = "#ff2d78"
_MEMORY = "picker"


@dataclass(frozen=True, kw_only=True)
class _Memory:
    """What the browser shows: the figure's settings, the cell it was drawn with, the one clicked since."""

    settings: tuple[str, ...]
    drawn: Cell
    clicked: Cell | None = None
    version: int = 0


def with_picker(figure: go.Figure, *, picked: Cell, missing: str) -> go.Figure:
    """`figure`, whose first trace is a map, with a square over every cell; `picked` is marked.

    Args:
        figure: changed in place and returned.
        picked: (column, row) in the map's own coordinates.
        missing: why a cell has no value.
    """
    cells = figure.data[0]
    columns, rows = np.meshgrid(np.asarray(cells.x), np.asarray(cells.y))
    value = np.asarray(cells.z, dtype=float)
    height = figure.layout.height - figure.layout.margin.t - BELOW
    size = float(np.clip(0.82 * height / len(cells.y), 6, 60))
    at = np.flatnonzero((columns.ravel() == picked[0]) & (rows.ravel() == picked[1])).tolist()
    figure.update_traces(hoverinfo="skip", hovertemplate=None)
    figure.add_trace(
        go.Scatter(
            x=columns.ravel(),
            y=rows.ravel(),
            mode="markers",
            marker={"symbol": "square-open", "size": size, "color": MARK, "line": {"width": 3}},
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 0}},
            selectedpoints=at,
            customdata=np.where(
                np.isnan(value), f"n/a: {plain_label(missing)}", np.char.mod("%.3f", value)
            ).ravel(),
            hovertemplate="Engram layer %{x}<br>baseline layer %{y}<br>CKA %{customdata}<extra></extra>",
            showlegend=False,
            name="cells",
        )
    )
    return figure.update_layout(
        dragmode=False, clickmode="event+select", hovermode="closest", hoverdistance=-1
    )


def draw(
    make: Callable[[], go.Figure],
    *,
    settings: tuple[str, ...],
    cell: Cell,
    pick: Callable[[Cell], None],
    missing: str,
    alt: str,
) -> str:
    """Draw the map and hand every clicked cell to `pick`; returns the key of what is drawn.

    Args:
        make: makes the figure for `settings`.
        settings: everything that changes the figure, except the cell.
        cell: the (layer, baseline layer) that is chosen.
        pick: called with a clicked cell before the page is drawn again.
        missing: why a cell has no value, where one has none.
        alt: the figure in words.
    """
    memory = st.session_state.get(_MEMORY)
    if not isinstance(memory, _Memory):
        memory = _Memory(settings=settings, drawn=cell)
    elif memory.settings != settings or cell not in (memory.clicked or memory.drawn,):
        memory = _Memory(settings=settings, drawn=cell, version=memory.version + 1)
    st.session_state[_MEMORY] = memory
    key = f"map {memory.version}"
    st.plotly_chart(
        with_picker(lettered(make()), picked=memory.drawn, missing=missing),
        theme=None,
        config=PLOTLY_CONFIG,
        key=key,
        alt=alt,
        on_select=lambda: _clicked(key, memory, pick),
        selection_mode="points",
    )
    return key


def _clicked(key: str, memory: _Memory, pick: Callable[[Cell], None]) -> None:
    points = st.session_state[key]["selection"]["points"]
    if not points:  # a second click takes the mark away: draw it again
        cell = memory.clicked or memory.drawn
        st.session_state[_MEMORY] = _Memory(settings=memory.settings, drawn=cell, version=memory.version + 1)
        return
    cell = (int(points[0]["x"]), int(points[0]["y"]))
    st.session_state[_MEMORY] = _Memory(
        settings=memory.settings, drawn=memory.drawn, clicked=cell, version=memory.version
    )
    pick(cell)
