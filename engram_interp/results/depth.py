"""Depth: which baseline layers the layers of a model with memory resemble."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.numbering import runs_of
from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, flags, floats, ints, texts, with_interval
from engram_interp.views import shift, similarity
from engram_interp.views.theme import Theme, number, signed

_ENDS = ("", "_low", "_high")
_NO_CONTROL = "no evidence of depth beyond what residuals before the first memory read show too"

_ADDED = (
    *(f"{name}{end}" for name in ("headline_trimmed", "soft_headline", "null_headline") for end in _ENDS),
    *("detectable", "interior", "hsic", "hsic_engram", "hsic_baseline", "hsic_self", "hsic_reference"),
    *("depth_by_k", "depth_by_k_self", *(f"shift_by_k{end}" for end in _ENDS)),
)
"""Variables that results of earlier versions lack."""

_ALL = Schema(
    coords={
        "layer": ints("layer", "layer", "layer of the model with memory, counted from 0"),
        "group": replace(counted("group", "group", "group of whole documents"), optional=True),
        "baseline_layer": ints("baseline_layer", "layer", "layer of the baseline, counted from 0"),
        "reference_layer": ints("reference_layer", "layer", "layer of the self-reference, counted from 0"),
        "reported_layer": ints("reported_layer", "layer", "layer whose rows were weighed, counted from 0"),
        "model": texts("model", "engram or baseline"),
        "k": replace(ints("k", "layers", "how many baseline layers the soft index weighs"), optional=True),
    },
    variables={
        "cka": floats("layer baseline_layer", "1", "linear CKA of an Engram layer with a baseline layer"),
        "cka_self": floats(
            "reference_layer baseline_layer",
            "1",
            "linear CKA of a self-reference layer with a baseline layer",
        ),
        "depth": floats("layer", "layers", "soft alignment index (paper, eq. 9)"),
        "depth_self": floats("layer", "layers", "soft alignment index of the self-reference"),
        **with_interval("shift", floats("layer", "layers", "soft index minus that of the self-reference")),
        "depth_by_k": floats("k layer", "layers", "soft alignment index at every k"),
        "depth_by_k_self": floats("k layer", "layers", "soft alignment index of the self-reference, every k"),
        **with_interval(
            "shift_by_k",
            floats("k layer", "layers", "soft index minus that of the self-reference, at every k"),
        ),
        "peak": floats("layer", "layers", "parabolic peak of similarity"),
        "peak_self": floats("layer", "layers", "parabolic peak of the self-reference"),
        **with_interval("peak_shift", floats("layer", "layers", "peak minus that of the self-reference")),
        "path": floats("layer", "layers", "monotone path through the similarity"),
        "path_self": floats("layer", "layers", "monotone path of the self-reference"),
        **with_interval(
            "path_shift",
            floats("layer", "layers", "path on the scale of the self-reference's own path, minus the layer"),
        ),
        "edge": flags("layer", "first or last ⌊k/2⌋ layers, where the soft index is biased"),
        "pre_memory": flags("layer", "residual before the first memory read: internal control"),
        **with_interval(
            "headline", floats("", "layers", "mean path shift over interior layers after the first read")
        ),
        **with_interval(
            "headline_trimmed",
            floats("", "layers", "headline without rows among the 2 % of largest norm in any layer"),
        ),
        **with_interval("soft_headline", floats("", "layers", "mean shift of the soft index, same layers")),
        **with_interval(
            "null_headline",
            floats("", "layers", "headline with the reference, another seed of the baseline, as the model"),
        ),
        "detectable": floats(
            "", "layers", "smallest true headline seen at 5 % in about 3 of 4 samples as large as this one"
        ),
        "interior": flags("layer", "layers that the headline is a mean over"),
        "hsic": floats("group layer baseline_layer", "1", "HSIC₁ by group of documents, model with baseline"),
        "hsic_engram": floats("group layer", "1", "HSIC₁ by group, model with itself"),
        "hsic_baseline": floats("group baseline_layer", "1", "HSIC₁ by group, baseline with itself"),
        "hsic_self": floats(
            "group reference_layer baseline_layer", "1", "HSIC₁ by group, reference with baseline"
        ),
        "hsic_reference": floats("group reference_layer", "1", "HSIC₁ by group, reference with itself"),
        **with_interval(
            "control_shift", floats("", "layers", "mean path shift over residuals before the first read")
        ),
        "outlier_share": floats(
            "model reported_layer", "1", "share of tr K held by the 1 % of rows of largest norm"
        ),
    },
)

_SCHEMA = replace(
    _ALL,
    variables={
        name: replace(variable, optional=True) if name in _ADDED else variable
        for name, variable in _ALL.variables.items()
    },
)


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DepthResult(Result):
    """Similarity of every layer pair, three estimates of depth, their shifts, and the control."""

    kind: ClassVar[str] = "depth"
    schema: ClassVar[Schema] = _SCHEMA

    def summary(self) -> str:
        """The headline shift, its interval, the control beside it, and what may be said from them."""
        data = self.data
        attrs = data.attrs
        engram, baseline = attrs.get("engram", "the Engram model"), attrs.get("baseline", "its baseline")
        how = f"monotone path, {attrs.get('estimator', 'unnamed')} CKA, {wording.basis(data)}"
        return (
            f"Depth of {engram} against {baseline} ({how}): {self._finding()}; this speaks of these two "
            "models only, one training run of each."
        )

    @property
    def ks(self) -> list[int]:
        """Each k that the result holds the soft index at; a result of an earlier version holds one."""
        kept = self.data["k"].values.tolist() if "k" in self.data else []
        return sorted({*map(int, kept), self._made_at})

    @property
    def _made_at(self) -> int:
        """The k that the result was made with; the paper's where it does not say."""
        return int(self.data.attrs.get("top_k", 5))

    def at_k(self, k: int) -> "DepthResult":
        """The same with the soft index, its shifts and its edge layers at another k.

        Path, peak and headline stay as they were made: nothing but the soft index knows of k.

        Args:
            k: how many baseline layers the index weighs, one of `ks`.

        Raises:
            InputError: If the result does not hold that k.
        """
        if k == self._made_at:
            return self
        if k not in self.ks:
            raise InputError(
                f"This result holds the soft index at k = {', '.join(runs_of(self.ks))}, not at {k}; one "
                "of an earlier version gets the others by depth.resample."
            )
        data, chosen = self.data.copy(), self.data.sel(k=k)
        for name in ("depth", "depth_self", "shift", "shift_low", "shift_high"):
            by_k = name.replace("depth", "depth_by_k").replace("shift", "shift_by_k")
            data[name] = chosen[by_k].drop_vars("k").assign_attrs(self.data[name].attrs)
        layers, reach = data["layer"], k // 2
        data["edge"] = ((layers < reach) | (layers >= len(layers) - reach)).assign_attrs(data["edge"].attrs)
        return DepthResult(data=data.assign_attrs(top_k=k, headline_top_k=self._made_at))

    def _finding(self) -> str:
        """What headline and control allow one to say."""
        data = self.data
        value, low, high = (wording.scalar(data, f"headline{end}") for end in ("", "_low", "_high"))
        if math.isnan(value):
            return f"no shift could be measured ({wording.why_missing(data['headline'])})"
        trimmed = wording.scalar(data, "headline_trimmed")
        said = f"{wording.after_read(data.attrs)} a shift of {wording.shift(value, low, high)}"
        if not math.isnan(low + trimmed):
            share = data.attrs.get("trimmed_share")
            few = "the rows" if share is None else f"the {100 * float(share):.0f} % of rows"
            said += f", {signed(trimmed, digits=2)} without {few} of largest norm in some layer"
        said += f"; {_control(data)}"
        if math.isnan(low) or math.isnan(high):
            reason = wording.why_missing(data["headline_low"])
            return f"{said}; no interval is possible ({reason}), so no claim of depth is made"
        return f"{said}: {_verdict(data, low=low, high=high)}{_power(data)}"

    def plot(
        self,
        *,
        theme: Theme = "light",
        view: Literal["similarity", "shift"] = "similarity",
        alignment: similarity.Alignment = "path",
        self_reference: Literal["shown", "hidden"] = "shown",
    ) -> go.Figure:
        """The similarity map, or the shift by layer.

        Args:
            theme: light or dark.
            view: ``similarity`` or ``shift``.
            alignment: which estimate of depth; ``none`` draws the bare map.
            self_reference: whether the map also shows the baseline aligned with itself.
        """
        if view == "similarity":
            return similarity.heat_map(
                self.data, alignment=alignment, self_reference=self_reference, theme=theme
            )
        return shift.forest(self.data, estimate="path" if alignment == "none" else alignment, theme=theme)


def _power(data: xr.Dataset) -> str:
    """The shift that so many samples would have shown."""
    if "detectable" not in data or math.isnan(seen := wording.scalar(data, "detectable")):
        return ""
    return (
        f" (with these samples a true shift of {number(seen, digits=2)} layers would have been told from 0 "
        "in about three cases of four)"
    )


def _verdict(data: xr.Dataset, *, low: float, high: float) -> str:
    """The claim that survives the interval, the control and the trimmed rows."""
    if low <= 0 <= high:
        return "the interval includes 0, so there is no evidence of a depth shift"
    if high < 0:
        return _earlier(data, low=low, high=high)
    if not _beyond_control(data, low=low, high=high):
        return _NO_CONTROL
    trimmed = wording.scalar(data, "headline_trimmed")
    if not math.isnan(trimmed) and not low <= trimmed <= high:
        return "a few rows of large norm carry the shift, so no claim of depth is made"
    beyond = ", beyond what residuals before the first memory read show"
    if not data["pre_memory"].values.any():
        beyond = ", with no residual before the first read to serve as a control"
    return (
        f"by similarity alone (which is not function) Engram layers resemble later baseline layers than "
        f"the baseline's own layers do{beyond}"
    )


def _earlier(data: xr.Dataset, *, low: float, high: float) -> str:
    """A negative shift is evidence against depth, whatever the control does."""
    also = "" if _beyond_control(data, low=low, high=high) else ", though the control may move as much"
    return f"layers resemble earlier baseline layers, not later ones{also}, so there is no evidence of depth"


def _beyond_control(data: xr.Dataset, *, low: float, high: float) -> bool:
    """Whether the headline interval lies wholly beyond the largest shift that the control allows.

    The control counts by its size, whatever its sign: it is the scale of what is not depth. A control
    without an interval cannot be told apart from the headline.
    """
    if not data["pre_memory"].values.any():
        return True
    ends = [wording.scalar(data, f"control_shift{end}") for end in ("_low", "_high")]
    if any(math.isnan(end) for end in ends):
        return False
    return min(abs(low), abs(high)) > max(abs(end) for end in ends)


def _control(data: xr.Dataset) -> str:
    """What the residuals show that memory cannot have deepened."""
    value, low, high = (wording.scalar(data, f"control_shift{end}") for end in ("", "_low", "_high"))
    if math.isnan(value):
        return f"no internal control ({wording.why_missing(data['control_shift'])})"
    count = wording.counted(int(data["pre_memory"].values.sum()), "residual")
    return f"internal control, {count} before that read, {wording.control(value, low, high)}"
