"""What several draws of a control did, where one draw would be one chance number."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from engram_interp.views.theme import number

CONTROLS = ("random rows", "random direction")
Quantity = Literal["kl", "answer"]
_ROUNDING = 1e-5  # of an effect: a draw that differs by less moved the prediction as far


def values(data: xr.Dataset, control: str, *, quantity: Quantity = "kl") -> npt.NDArray[np.float64] | None:
    """By draw: KL to the intact prediction, or the answer's log-probability, in nats; None where not kept.

    Args:
        data: of one ablation: control_kl[control, draw, token], control_answer[control, draw], token_index.
        control: ``random rows`` or ``random direction``.
        quantity: ``kl`` after token_index, or ``answer``.
    """
    name = f"control_{quantity}"
    if name not in data or data.sizes["draw"] < 2:
        return None
    found = data[name].sel(control=control)
    if quantity == "kl":
        found = found.sel(token=int(data["token_index"]))
    return np.asarray(found.values, dtype=np.float64)


def ends(drawn: npt.NDArray[np.float64]) -> str:
    """The least and the greatest of several draws, or that all are alike."""
    low, high = number(float(drawn.min())), number(float(drawn.max()))
    return f"all {low}" if low == high else f"{low} to {high}"


def between(drawn: npt.NDArray[np.float64]) -> str:
    """The same with their count: ``8 draws: 0.021 to 0.130``."""
    return f"{len(drawn)} draws: {ends(drawn)}"


def beyond(data: xr.Dataset, control: str) -> str:
    """How many draws of a control move the prediction less than the ablation does; empty where not kept."""
    drawn = values(data, control)
    if drawn is None:
        return ""
    effect = float(data["kl"].sel(condition="ablated", token=int(data["token_index"])))
    return str(int((drawn < effect * (1 - _ROUNDING)).sum()))


def mean(data: xr.Dataset, control: str) -> float:
    """KL after token_index under a control, the mean over its draws; of one draw where one was kept."""
    drawn = values(data, control)
    if drawn is None:
        return float(data["kl"].sel(condition=control, token=int(data["token_index"])))
    return float(drawn.mean())


def whiskers(data: xr.Dataset, control: str, *, colour: str) -> dict[str, object] | None:
    """Plotly's error bars from the shown draw to the least and the greatest at every token."""
    if control not in CONTROLS or values(data, control) is None:
        return None
    drawn = data["control_kl"].sel(control=control).transpose("draw", "token").values
    shown = data["kl"].sel(condition=control).values
    up, down = np.maximum(drawn.max(0) - shown, 0.0), np.maximum(shown - drawn.min(0), 0.0)
    moved = up + down > 0  # elsewhere a bar of no length would still draw its caps
    return {
        "type": "data",
        "symmetric": False,
        "array": np.where(moved, up, np.nan),
        "arrayminus": np.where(moved, down, np.nan),
        "color": colour,
        "thickness": 1.2,
        "width": 3,
    }


def said(data: xr.Dataset) -> str:
    """What whiskers are, for a figure's second line; empty where each control was drawn once."""
    if values(data, CONTROLS[0]) is None:
        return ""
    return f"whiskers: least and greatest of {data.sizes['draw']} draws; "


def probability(drawn: npt.NDArray[np.float64]) -> str:
    """As `between`, of log-probabilities as probabilities."""
    return "" if any(map(math.isnan, drawn)) else between(np.exp(drawn))
