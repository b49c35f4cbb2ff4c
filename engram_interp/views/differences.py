"""B − A of two results of a kind, layer by layer: what differs, without an interval, since none is known."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views import marks
from engram_interp.views.theme import COLOUR_BAR, Theme, blank, layer_title, palette

NO_INTERVAL = "no interval: the two were measured apart"


def similarity_difference(a: xr.Dataset, b: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """CKA of B less that of A, for every layer and baseline layer that both have.

    Args:
        a: cka[layer, baseline_layer].
        b: The same of another pair.
        theme: light or dark.

    Raises:
        InputError: If the two are not equally deep.
    """
    one, other = _shared(a["cka"], b["cka"], "layer", "baseline_layer")
    change = (other - one).transpose("baseline_layer", "layer")
    reach = float(np.nanmax(np.abs(change.values), initial=0.0)) or 1.0
    colours = palette(theme)
    figure = blank(
        title="CKA, B − A",
        subtitle=NO_INTERVAL,
        x=layer_title("Engram"),
        y=layer_title("baseline"),
        theme=theme,
        height=460,
    )
    figure.add_trace(
        go.Heatmap(
            x=marks.layers_of(change),
            y=marks.layers_of(change, "baseline_layer"),
            z=change.values,
            zmin=-reach,
            zmax=reach,
            colorscale=[[0, colours.engram], [0.5, colours.paper], [1, colours.baseline]],
            colorbar={"title": {"text": "ΔCKA<br>(no unit)<br> "}, "tickformat": "+.2f"} | COLOUR_BAR,
            hoverongaps=False,
            hovertemplate="Engram layer %{x}<br>baseline layer %{y}<br>%{z:+.3f}<extra></extra>",
            name="B − A",
        )
    )
    figure.update_xaxes(marks.whole_layers(marks.layers_of(change)))
    figure.update_yaxes(marks.whole_layers(marks.layers_of(change, "baseline_layer")))
    return figure


def lens_difference(a: xr.Dataset, b: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """KL(final ‖ layer) of B less that of A, in nats, for every layer that both have.

    Args:
        a: kl[layer] in nats.
        b: The same of another model.
        theme: light or dark.

    Raises:
        InputError: If the two are not equally deep.
    """
    one, other = _shared(a["kl"], b["kl"], "layer")
    figure = _bars(
        (other - one).values,
        marks.layers_of(one),
        title="KL to the final prediction, B − A",
        x=layer_title("model"),
        y="Δ KL(final ‖ layer) (nats)",
        theme=theme,
    )
    figure.update_xaxes(marks.whole_layers(marks.layers_of(one)))
    return figure


def effect_difference(a: xr.Dataset, b: xr.Dataset, *, theme: Theme = "light") -> go.Figure:
    """What every ablation costs in B less what it costs in A, in nats, the random control beside it.

    Args:
        a: delta_loss and control_delta_loss [kind] in nats.
        b: The same of another model.
        theme: light or dark.

    Raises:
        InputError: If the two share no ablation.
    """
    one, other = _shared(a["delta_loss"], b["delta_loss"], "kind")
    kinds = [str(kind) for kind in one["kind"].values]
    figure = _bars(
        (other - one).values,
        kinds,
        title="Cost of each ablation, B − A",
        x="ablation",
        y="Δ of Δ loss (nats)",
        theme=theme,
        name="ablation",
    )
    control = b["control_delta_loss"].sel(kind=kinds) - a["control_delta_loss"].sel(kind=kinds)
    figure.add_trace(
        go.Bar(x=kinds, y=control.values, name="its random control", marker={"color": palette(theme).null})
    )
    figure.update_layout(showlegend=True)
    return figure


def _bars(
    values: np.ndarray, at: Any, *, title: str, x: str, y: str, theme: Theme, name: str = "B − A"
) -> go.Figure:
    """Signed bars from 0, coloured by their sign."""
    colours = palette(theme)
    figure = blank(title=title, subtitle=NO_INTERVAL, x=x, y=y, theme=theme, height=400)
    marker = {"color": [colours.baseline if value > 0 else colours.engram for value in values]}
    figure.add_trace(
        go.Bar(
            x=at, y=values, marker=marker, name=name, hovertemplate="%{x}<br>%{y:+.3f} nats<extra></extra>"
        )
    )
    figure.update_layout(showlegend=False)
    figure.update_yaxes(tickformat="+.2f", zeroline=True)
    return figure


def _shared(one: xr.DataArray, other: xr.DataArray, *dims: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Both, where both have a value."""
    for dim in dims:
        deep = [int(of[dim].max()) + 1 for of in (one, other)] if dim.endswith("layer") else [0, 0]
        if deep[0] != deep[1]:
            raise InputError(
                f"A has {deep[0]} {dim.replace('_', ' ')}s and B {deep[1]}: the same number is not the same "
                "place in both, so there is no difference to show."
            )
        both = [value for value in one[dim].values.tolist() if value in other[dim].values.tolist()]
        if not both:
            raise InputError(f"A and B share no {dim.replace('_', ' ')}, so there is no difference to show.")
        one, other = one.sel({dim: both}), other.sel({dim: both})
    return one, other
