"""Depth in a few large numbers: the headline beside its control, and one cell of the similarity map.

All shifts are in layers. A number that is undefined is a dash, and the reason stands below it.
"""

import math

import xarray as xr

from engram_interp.views import marks
from engram_interp.views.markup import Html, element, join
from engram_interp.views.theme import DASH, number, signed

ALIGNMENTS = {"path": "monotone path", "peak": "peak", "soft": "soft index"}
SHIFT: dict[str, tuple[str, ...]] = {
    "path": ("path", "path_self", "path_shift"),
    "peak": ("peak", "peak_self", "peak_shift"),
    "soft": ("depth", "depth_self", "shift"),
}
"""By alignment: the variables of a layer's place, of the self-reference's, and of the shift between them."""
_FEW = "has few layers to choose from here, so the headline leaves this layer out"
EDGE = {
    "path": f"the monotone path {_FEW}",
    "peak": f"the peak {_FEW}",
    "soft": "the soft index is biased here, even between identical models",
}


def headline(data: xr.Dataset) -> Html:
    """The mean shift after the first memory read, beside that of the residuals before it.

    Args:
        data: headline and control_shift with _low and _high, each one number in layers.
    """
    after = _card(data, "headline", "layers, after the first memory read", kind="engram")
    before = _card(data, "control_shift", "layers, before it: internal control", kind="null")
    return element("div", after, before, class_="engram-numbers")


def _card(data: xr.Dataset, name: str, what: str, *, kind: str) -> Html:
    value, low, high = (float(data[f"{name}{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return _number(DASH, what, f"undefined: {marks.reason(data[name])}", kind=kind)
    interval = f"95 % {number(low, digits=2)} to {number(high, digits=2)}"
    if name == "control_shift" and value == low == high == 0:
        interval = "in every resample: a weak control"
    if math.isnan(low + high):
        interval = f"no interval: {marks.reason(data[f'{name}_low'])}"
    return _number(signed(value, digits=2), what, interval, kind=kind)


def cell(data: xr.Dataset, *, layer: int, baseline_layer: int, alignment: str = "path") -> Html:
    """What the similarity map says of one Engram layer and one baseline layer.

    Args:
        data: cka[layer, baseline_layer] without unit; by layer, in baseline layers, the place, the
            self-reference's and the shift of the alignment with _low and _high; the marks edge and
            pre_memory [layer].
        layer: of the model with memory, counted from 0.
        baseline_layer: of the baseline, counted from 0.
        alignment: ``path``, ``peak`` or ``soft``.
    """
    row = data.sel(layer=layer)
    place, own, shift = marks.choose(SHIFT, alignment, what="alignment")
    cka = row["cka"].sel(baseline_layer=baseline_layer)
    numbers = [
        _number(
            number(float(cka)), f"CKA of Engram layer {layer} with baseline layer {baseline_layer}", _why(cka)
        ),
        _number(
            signed(float(row[shift]), digits=2),
            f"layers: shift of layer {layer} ({ALIGNMENTS[alignment]})",
            _why(row[shift]),
        ),
    ]
    lines = [f"{_place(row[place], layer)}; {_reference(row[own])}.", _interval(row, shift)]
    if bool(row["pre_memory"]):
        lines.append(
            "This residual comes before the first memory read: an internal control, not evidence of depth."
        )
    if bool(row["edge"]):
        lines.append(f"An edge layer (hatched): {EDGE[alignment]}.")
    shown = element("div", *numbers, class_="engram-numbers")
    return join([shown, *(element("p", line) for line in lines)])


def _number(value: str, *said: str, kind: str = "engram") -> Html:
    spans = [element("span", line) for line in said if line]
    return element("div", element("b", value, class_=kind), *spans, class_="engram-number")


def _why(value: xr.DataArray) -> str:
    """Why a value is undefined; empty where it is not."""
    return f"undefined: {marks.reason(value)}" if math.isnan(float(value)) else ""


def _place(value: xr.DataArray, layer: int) -> str:
    if math.isnan(float(value)):
        return f"Which baseline layer layer {layer} looks like is undefined ({marks.reason(value)})"
    return f"Layer {layer} looks like baseline layer {number(float(value), digits=2)}"


def _reference(value: xr.DataArray) -> str:
    if math.isnan(float(value)):
        return f"where the self-reference lies is undefined ({marks.reason(value)})"
    return f"the self-reference lies at {number(float(value), digits=2)}"


def _interval(row: xr.Dataset, shift: str) -> str:
    low, high = float(row[f"{shift}_low"]), float(row[f"{shift}_high"])
    said = f"{number(low, digits=2)} to {number(high, digits=2)}"
    if math.isnan(low + high):
        said = f"none ({marks.reason(row[f'{shift}_low'])})"
    return f"95 % interval over documents: {said}."
