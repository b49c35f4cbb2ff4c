"""The headline: the mean shift after the first memory read, beside what the residuals before it show."""

import math

import streamlit as st

from engram_interp.results import DepthResult
from engram_interp.views.markup import element
from engram_interp.views.theme import DASH, number, signed


def show(depth: DepthResult) -> None:
    """The headline number beside its control, then the sentence that says what may be claimed."""
    value, low, high = (float(depth.data[f"headline{end}"]) for end in ("", "_low", "_high"))
    control, control_low, control_high = (
        float(depth.data[f"control_shift{end}"]) for end in ("", "_low", "_high")
    )
    st.html(element("h2", "Does the memory make the network effectively deeper?", class_="engram-title"))
    st.html(
        element(
            "div",
            _number(value, low, high, "layers, after the first memory read", kind="engram"),
            _number(control, control_low, control_high, "layers, before it: internal control", kind="null"),
            class_="engram-numbers",
        )
    )
    st.html(element("p", depth.summary(), class_="engram-lead"))


def _number(value: float, low: float, high: float, what: str, *, kind: str) -> str:
    interval = (
        "no interval"
        if math.isnan(low + high)
        else f"95 % {number(low, digits=2)} to {number(high, digits=2)}"
    )
    shown = DASH if math.isnan(value) else signed(value, digits=2)
    return element(
        "div",
        element("b", shown, class_=kind),
        element("span", what),
        element("span", interval),
        class_="engram-number",
    )
