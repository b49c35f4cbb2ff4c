"""Sections about layers: which layers resemble each other, the control, and the lens."""

import numpy as np
import xarray as xr

from engram_interp.results import ConvergenceResult, DepthResult, wording
from engram_interp.results.provenance import layer_list
from engram_interp.views.markup import Html
from engram_interp.views.page import Section
from engram_interp.views.tables import Cell, depth_table, estimate, measured, table
from engram_interp.views.theme import signed

_HOW = (
    "Every layer's residual in the model with memory is compared with every layer's in the baseline by "
    "linear CKA, at the same tokens of the same documents. The depth of a layer is the place along the "
    "baseline's layers that it resembles most, read as a monotone path through the map. Such a reading "
    "drifts towards the middle at both ends even for two identical models. So each reading is looked up in "
    "the same reading of the {reference} against the baseline: how many layers further on that has it "
    "is the shift."
)
_SOFT = (
    "The paper aligns layers by a weighted mean over the {k} most similar baseline layers (eq. 9). It "
    "is shown for comparison with the paper only: on known answers its error is several times that of the "
    "path, and on a model of {layers} layers {k} layers are most of the model."
)
_LENS = (
    "The raw logit lens sends each layer's residual through the model's own final norm and unembedding and "
    "compares that prediction with the model's final one. A lower curve means that the prediction is ready "
    "earlier. It does not mean that earlier layers are “deeper”: a layer may hold the answer in "
    "a form that the last layers alone can read, and a model that predicts better for any reason, more "
    "parameters among them, may have a lower curve."
)


def depth_sections(result: DepthResult) -> list[Section]:
    """The map, the shift, its numbers, the control, and the paper's own index."""
    data = result.data
    reference = str(data.attrs.get("reference", "the baseline itself"))
    soft = _SOFT.format(k=int(data.attrs.get("top_k", 5)), layers=data.sizes["layer"])
    return [
        Section(
            title="Which layers look deeper?",
            parts=[
                _HOW.format(reference=reference.removeprefix("the ")),
                result.plot(view="similarity"),
                result.plot(view="shift"),
                _headline(data),
                depth_table(data),
            ],
        ),
        Section(title="What the residuals before the first memory read show", parts=[_control(data)]),
        Section(
            title="The paper's own index, for comparison",
            parts=[soft, result.plot(view="similarity", alignment="soft")],
            fold="closed",
        ),
    ]


def _headline(data: xr.Dataset) -> str:
    """Over which layers the headline is a mean, and how it stands without the largest rows."""
    inside = ~data["edge"].values & ~data["pre_memory"].values
    layers = data["layer"].values[inside]
    if not layers.size:
        return (
            "No headline is given: once the layers before the first memory read and the edge-biased ones are "
            "left out, no layer remains."
        )
    coarse = " With so few layers it is a coarse number." if layers.size < 4 else ""
    return (
        f"The headline is the mean shift over {wording.layers(layers)}: {_interval(data, 'headline')}. "
        f"Without the tokens that are among the 2 % of largest norm in some layer, which can dominate CKA, "
        f"it is "
        f"{signed(wording.scalar(data, 'headline_trimmed'), digits=2)}.{coarse} Edge-biased layers (open "
        "marks) and those before the first read are left out of it; the table gives every layer."
    )


def _control(data: xr.Dataset) -> str:
    """What the internal control is, what it measured, and how to read the headline beside it."""
    before = data["layer"].values[data["pre_memory"].values]
    if not before.size:
        return (
            "The first memory read comes before every residual that was compared, so nothing in this model "
            "can serve as an internal control: a shift found above may be an artefact of the method."
        )
    first = int(data.attrs.get("first_memory_layer", before[-1] + 1))
    return (
        f"Memory is first read in layer {first}. The residual after {wording.layers(before)} is written "
        "before that, so reading cannot have made it deeper. What shift it shows is an artefact of the "
        "method, or the rest of the network trained differently around a memory: "
        f"{wording.control(*_ends(data, 'control_shift'))}. It is the scale on which the headline has to be "
        "read, and the summary claims depth only where the headline's whole interval lies beyond it."
    )


def _interval(data: xr.Dataset, name: str) -> str:
    return wording.shift(*_ends(data, name))


def _ends(data: xr.Dataset, name: str) -> tuple[float, float, float]:
    value, low, high = (wording.scalar(data, f"{name}{end}") for end in ("", "_low", "_high"))
    return value, low, high


def lens_sections(engram: ConvergenceResult, baseline: ConvergenceResult) -> list[Section]:
    """Both models' curves, what they show layer by layer, and the numbers."""
    return [
        Section(
            title="How early is the prediction ready?",
            parts=[
                _LENS,
                engram.plot(baseline=baseline),
                _apart(engram.data, baseline.data),
                _lens_table(engram.data, baseline.data),
            ],
        ),
        Section(
            title="The lens by other measures",
            parts=[
                engram.plot(baseline=baseline, quantity="next_loss"),
                engram.plot(baseline=baseline, quantity="agreement"),
            ],
            fold="closed",
        ),
    ]


def _apart(engram: xr.Dataset, baseline: xr.Dataset) -> str:
    """At which layers the intervals of the two curves do not meet."""
    if engram.sizes["layer"] != baseline.sizes["layer"]:
        return "The models differ in their number of layers, so the curves are not compared layer by layer."
    low, high = engram["kl_low"].values[:-1], engram["kl_high"].values[:-1]
    other_low, other_high = baseline["kl_low"].values[:-1], baseline["kl_high"].values[:-1]
    if np.isnan(low + high + other_low + other_high).all():
        reason = wording.why_missing(engram["kl_low"])
        return f"No interval is possible ({reason}), so no difference between the curves is claimed."
    layers = engram["layer"].values[:-1]
    lower, higher = layers[high < other_low], layers[low > other_high]
    first = layer_list(engram.attrs.get("memory_layers", ""))[:1]
    said = [
        f"{word} at {wording.layers(found)}"
        for word, found in (("lower", lower), ("higher", higher))
        if found.size
    ]
    if not said:
        return "At no layer do the 95 % intervals of the two curves lie apart."
    early = [int(v) for v in (*lower, *higher) if first and v < first[0]]
    remark = (
        f" {wording.layers(early).capitalize()} is among them, which precedes the first memory read: that "
        "difference is not due to reading."
        if early
        else ""
    )
    return (
        f"Before the last layer, the curve of the model with memory is {wording.listed(said)} (95 % "
        f"intervals over documents apart, each layer on its own).{remark}"
    )


def _lens_table(engram: xr.Dataset, baseline: xr.Dataset) -> Html:
    """KL by layer for both models with intervals, and the share of tokens with the final answer."""
    rows: list[list[Cell]] = []
    for layer in range(max(engram.sizes["layer"], baseline.sizes["layer"])):
        row: list[Cell] = [layer]
        for data in (engram, baseline):
            at = data.isel(layer=layer) if layer < data.sizes["layer"] else None
            row += ["", "", ""] if at is None else [*estimate(at, "kl"), measured(at["agreement"])]
        rows.append(row)
    names = ("KL", "95 % interval", "top token agrees")
    headers = ["layer (from 0)", *(f"{who}: {name}" for who in ("Engram", "baseline") for name in names)]
    caption = "KL(final ‖ layer) in nats, and the share of tokens whose top token is already the final one."
    return table(headers, rows, caption=caption)
