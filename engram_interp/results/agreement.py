"""Do similarity, prediction and function agree? One paragraph from the three views of depth."""

import math
from dataclasses import dataclass

import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.depth import DepthResult
from engram_interp.results.lens_depth import LensDepthResult
from engram_interp.results.stitching import StitchingResult
from engram_interp.views import agreement as figures
from engram_interp.views.theme import Theme


@dataclass(frozen=True, kw_only=True)
class View:
    """One view of depth: the mean shift over interior layers after the first read, and its control.

    Attributes:
        name: what is compared: "similarity", "raw-lens prediction", "tuned-lens prediction" or "function".
        how: the method.
        shift: value, lower and upper end, in layers; NaN where undefined.
        control: the same over residuals before the first memory read.
        why: why the shift is undefined, or has no interval; empty where it has.
    """

    name: str
    how: str
    shift: tuple[float, float, float]
    control: tuple[float, float, float]
    why: str

    @property
    def sign(self) -> int | None:
        """1 or −1 where the interval lies wholly on one side of 0, 0 where it holds 0, None without one."""
        _, low, high = self.shift
        if math.isnan(low + high):
            return None
        return 0 if low <= 0 <= high else (1 if low > 0 else -1)

    @property
    def beyond_control(self) -> bool:
        """Whether the interval lies wholly beyond what the control's interval reaches in size."""
        _, low, high = self.shift
        _, control_low, control_high = self.control
        ends = (low, high, control_low, control_high)
        if any(math.isnan(end) for end in ends):
            return False
        return min(abs(low), abs(high)) > max(abs(control_low), abs(control_high))


def views(
    depth: DepthResult,
    lens_depth: LensDepthResult | None,
    stitching: StitchingResult | None,
    *,
    tuned: LensDepthResult | None = None,
) -> list[View]:
    """The views that were worked out, similarity first."""
    given: list[tuple[str, str, Result | None]] = [
        ("similarity", "CKA, monotone path", depth),
        ("raw-lens prediction", "KL to final", lens_depth),
        ("tuned-lens prediction", "KL to final", tuned),
        ("function", "stitching", stitching),
    ]
    return [_view(name, how, result.data) for name, how, result in given if result is not None]


def agreement(
    depth: DepthResult,
    lens_depth: LensDepthResult | None,
    stitching: StitchingResult | None,
    *,
    tuned: LensDepthResult | None = None,
) -> str:
    """What each view says of these two models, whether they agree, and what may be concluded.

    Args:
        depth: by similarity.
        lens_depth: by readiness of the prediction; None where it was not worked out.
        stitching: by function; None where it was not worked out.
        tuned: as `lens_depth`, by the tuned lens; None where the models have none.
    """
    found = views(depth, lens_depth, stitching, tuned=tuned)
    said = [f"{view.name} ({view.how}) {_said(view)}" for view in found]
    controls = [
        f"{view.name} {wording.control(*view.control)}" for view in found if not math.isnan(view.control[0])
    ]
    control = (
        f"Residuals before the first memory read, which it cannot have deepened, show: {'; '.join(controls)}."
        if controls
        else "No residual comes before the first memory read, so there is no internal control."
    )
    alone = (
        " No second seed of the baseline was given, so how far another training run of the same model would "
        "shift is not known."
        if depth.data.attrs.get("reference", "the baseline itself") == "the baseline itself"
        else ""
    )
    return f"For these two models: {'; '.join(said)}. {_verdict(found)} {control} {_conclusion(found)}{alone}"


def verdict(
    depth: DepthResult,
    lens_depth: LensDepthResult | None,
    stitching: StitchingResult | None,
    *,
    tuned: LensDepthResult | None = None,
) -> str:
    """What may be concluded, and whether the views agree: the end of `agreement`, without its numbers."""
    found = views(depth, lens_depth, stitching, tuned=tuned)
    concluded = _conclusion(found).replace("those residuals", "the residuals before the first memory read")
    concluded = concluded.removeprefix("So ").removeprefix("But ")
    return f"{concluded[:1].upper()}{concluded[1:]} {_verdict(found)}"


def plot(found: list[View], *, theme: Theme = "light") -> go.Figure:
    """The views on one axis, each with its control."""
    shifts, controls = [view.shift for view in found], [view.control for view in found]
    return figures.forest([view.name for view in found], shifts, controls, theme=theme)


def _view(name: str, how: str, data: xr.Dataset) -> View:
    ends = ("", "_low", "_high")
    value, low, high = (wording.scalar(data, f"headline{end}") for end in ends)
    control = tuple(wording.scalar(data, f"control_shift{end}") for end in ends)
    why = ""
    if math.isnan(value):
        why = wording.why_missing(data["headline"])
    elif math.isnan(low + high):
        why = wording.why_missing(data["headline_low"])
    return View(
        name=name,
        how=how,
        shift=(value, low, high),
        control=(control[0], control[1], control[2]),
        why=why,
    )


def _said(view: View) -> str:
    if math.isnan(view.shift[0]):
        return f"gave no shift ({view.why})"
    return wording.shift(*view.shift)


def _verdict(found: list[View]) -> str:
    signs = [view.sign for view in found]
    if len(found) == 1:
        return "Only one view was worked out; one alone is a picture."
    if None in signs:
        without = wording.listed(view.name for view in found if view.sign is None)
        return f"Whether the views agree cannot be said: no interval for {without}."
    if set(signs) == {0}:
        return "Every interval includes 0: no view shows a shift."
    if len(set(signs)) == 1:
        where = "deeper" if signs[0] == 1 else "earlier"
        return f"All views agree: every interval lies on the side of {where} layers."
    by_sign = {1: "deeper", -1: "earlier", 0: "neither (the interval includes 0)"}
    parts = [
        f"{wording.listed(names)} {word}"
        for sign, word in by_sign.items()
        if (names := [view.name for view in found if view.sign == sign])
    ]
    return f"The views do not agree: {'; '.join(parts)}."


def _conclusion(found: list[View]) -> str:
    names = " ".join(view.name for view in found)
    missing = [what for what in ("similarity", "prediction", "function") if what not in names]
    if missing or any(view.sign != 1 for view in found):
        were = "was" if len(missing) == 1 else "were"
        without = f": {wording.listed(missing)} {were} not measured" if missing else ""
        return f"So memory is not shown to make this network effectively deeper{without}."
    within = [view.name for view in found if not view.beyond_control]
    if within:
        return (
            f"But by {wording.listed(within)} the shift does not exceed what those residuals show (or there "
            "are none), so it may be an artefact or retraining: no claim of depth."
        )
    return (
        "So by similarity, prediction and function these layers do what later baseline layers do, in one "
        "training run of each; that it is the memory and not capacity needs the control arms."
    )
