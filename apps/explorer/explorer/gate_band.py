"""The gate of one token over the distribution of all and its null band."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import GateStatistics
from engram_interp.views.theme import Theme, palette


def with_token(
    statistics: GateStatistics, gate: xr.DataArray | None, *, token: int, theme: Theme
) -> go.Figure:
    """The quantiles by layer and stream, with the chosen token's gate marked in each row.

    Args:
        statistics: the distribution and its null.
        gate: gate[layer, stream] of the token; None, or other layers than the statistics have, marks nothing.
        token: its position, for the legend.
        theme: light or dark.
    """
    figure = statistics.plot(theme=theme)
    data = statistics.data
    if gate is None or not all(
        np.array_equal(gate[dim].values, data[dim].values) for dim in ("layer", "stream")
    ):
        return figure
    values = gate.transpose("layer", "stream").values.ravel()
    figure.add_trace(
        go.Scatter(
            x=values,
            y=list(range(len(values)))[::-1],
            mode="markers",
            marker={"symbol": "diamond", "size": 12, "color": palette(theme).engram,
                    "line": {"width": 1.5, "color": palette(theme).paper}},
            hovertemplate=f"token {token}<br>gate %{{x:.3f}}<extra></extra>",
            name=f"token {token}",
        )
    )  # fmt: skip
    return figure
