"""The gates at one token as a matrix: layers down, streams across, each beside the rest of its text."""

import numpy as np
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.markup import Html, element, join, scrolling
from engram_interp.views.strips import grounded
from engram_interp.views.theme import DASH, number

UNTRAINED = "untrained"


def gates_here(gate: xr.DataArray, *, token: int, statistics: xr.Dataset | None = None) -> Html:
    """How open every gate is at one token, and how that stands among the tokens of its text.

    Args:
        gate: gate[layer, stream, token] in [0, 1] of one text; NaN where it is undefined.
        token: position, counted from 0.
        statistics: of the same model, null_q05 and null_q95 [null, layer, stream]: where 90 % of untrained
            gates lie. None where they are not known.

    Raises:
        InputError: If there is no such token.
    """
    if token not in gate["token"].values:
        raise InputError(f"There is no token {token}; tokens are 0 to {gate.sizes['token'] - 1}.")
    whole = gate.transpose("layer", "stream", "token")
    streams = whole["stream"].values.tolist()
    names = [f"stream {stream}" for stream in streams] if len(streams) > 1 else ["gate"]
    head = element("tr", *(element("th", name, scope="col") for name in ["layer", *names]))
    lines = [
        element(
            "tr",
            element("th", str(layer), scope="row"),
            *(_cell(whole.sel(layer=layer, stream=s), token, statistics) for s in streams),
        )
        for layer in whole["layer"].values.tolist()
    ]
    null = "; then where 90 % of an untrained model’s gates lie" if statistics is not None else ""
    said = (
        f"Gate at token {token}, 0 to 1, 0.5 neutral; below it how many other tokens of this text have a "
        f"lower gate{null}. Layers are counted from 0; the paper counts from 1."
    )
    table = element("table", element("thead", head), element("tbody", *lines), class_="gates-here")
    return join([element("p", said, class_="note"), scrolling(table, label=f"gates at token {token}")])


def _cell(gates: xr.DataArray, token: int, statistics: xr.Dataset | None) -> Html:
    value, others = float(gates.sel(token=token)), gates.drop_sel(token=token).values
    others = others[~np.isnan(others)]
    if np.isnan(value):
        return element("td", DASH, class_="missing", title="the gate is undefined here")
    inside = [
        element("b", number(value)),
        element("span", f"above {(others < value).sum():,} of {len(others):,} other tokens"),
    ]
    if statistics is not None:
        inside.append(element("span", _untrained(gates, statistics)))
    return element("td", element("div", *inside, **grounded(value)))


def _untrained(gates: xr.DataArray, statistics: xr.Dataset) -> str:
    """Where 90 % of the values of an untrained gate of this layer and stream lie."""
    try:
        at = statistics.sel(null=UNTRAINED, layer=int(gates["layer"]), stream=int(gates["stream"]))
    except KeyError:
        return f"untrained {DASH}"
    low, high = (float(at[f"null_q{end}"]) for end in ("05", "95"))
    return f"untrained {DASH}" if np.isnan(low + high) else f"untrained {number(low)} to {number(high)}"
