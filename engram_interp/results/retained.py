"""Retained performance: what a model still scores without its memory, beside controls and the baseline."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, Variable, floats, ints, texts, with_interval
from engram_interp.views import forests, marks
from engram_interp.views.theme import Theme, number

_CELL = "probe_set stratum"
_EMPTY = "no probe in this stratum, or too few for an interval"
_NOTHING = "the intact model is not above chance in 95 % of resamples, so there is nothing to retain"


def _later(name: str, variable: Variable) -> dict[str, Variable]:
    """A number with its interval that results of earlier versions lack."""
    return {key: replace(each, optional=True) for key, each in with_interval(name, variable).items()}


def _variables() -> dict[str, Variable]:
    found = {
        "n_items": ints(_CELL, "probes", "probes"),
        "chance": floats(_CELL, "1", "score of guessing", missing=_EMPTY),
        **_later(
            "swapped_score",
            floats(_CELL, "1", "share right, intact, after another probe's prompt", missing=_EMPTY),
        ),
        **with_interval("intact_score", floats(_CELL, "1", "share right, intact", missing=_EMPTY)),
        **with_interval("baseline_score", floats(_CELL, "1", "share right, baseline", missing=_EMPTY)),
        **with_interval(
            "baseline_retained", floats(_CELL, "1", "the baseline's score as retained", missing=_NOTHING)
        ),
    }
    for arm, who in (("", "ablated"), ("control_", "random control")):
        each = f"{_CELL} kind"
        meanings = {
            "score": ("1", f"share right, {who}", _EMPTY),
            "retained": ("1", f"(score - chance) / (intact - chance), {who}", _NOTHING),
            "delta_log_p": (
                "nats",
                f"change of how much the prompt raises the right choice's log p, {who}",
                _EMPTY,
            ),
        }
        for name, (units, meaning, missing) in meanings.items():
            found |= with_interval(f"{arm}{name}", floats(each, units, meaning, missing=missing))
    return found


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RetainedPerformance(Result):
    """Scores on probes with the memory ablated, corrected for chance, by training hits."""

    kind: ClassVar[str] = "retained_performance"
    schema: ClassVar[Schema] = Schema(
        coords={
            "probe_set": texts("probe_set", "set of probes"),
            "stratum": texts("stratum", "how often training saw the n-gram that ends the prompt"),
            "kind": texts("kind", "exact name of the ablation"),
        },
        variables=_variables(),
    )

    def summary(self) -> str:
        """Per probe set the intact score beside chance and baseline, and the ablation that leaves least."""
        data = self.data.sel(stratum="all")
        said = [_set(data.sel(probe_set=name), str(name)) for name in data["probe_set"].values]
        counts = self.data["n_items"].drop_sel(stratum="all").sum("probe_set")
        filled = [str(s) for s in counts["stratum"].values[counts.values > 0]]
        by = str(data.attrs.get("strata", ""))
        said.append(wording.strata(filled, last=str(counts["stratum"].values[-1]), by=by))
        left_out = str(data.attrs.get("left_out", "none"))
        if left_out != "none":
            said.append(f"not applied: {left_out}")
        return (
            f"Probes answered by {data.attrs.get('model', 'the model')} with and without its memory "
            f"({wording.counted(int(data['n_items'].sum()), 'probe')}; that choice counts whose log p the "
            f"prompt raises most): {'; '.join(said)}; an ablated model "
            "is off its training distribution, which overstates how much it relies on memory."
        )

    def plot(
        self, *, theme: Theme = "light", probe_set: str | None = None, stratum: str = "all"
    ) -> go.Figure:
        """Scores of one probe set (the first, if none is named): each ablation over its control."""
        names: dict[str, tuple[str, ...]] = {str(n): (str(n),) for n in self.data["probe_set"].values}
        [name] = marks.choose(names, probe_set or next(iter(names)), what="probe_set")
        data = self.data.sel(probe_set=name, stratum=stratum)
        rows: list[tuple[str, xr.Dataset, str, str]] = [("intact", data, "intact_score", "")]
        if not math.isnan(float(data["baseline_score"])):
            rows.append(("baseline without memory", data, "baseline_score", ""))
        rows += [(str(k), data.sel(kind=k), "score", "control_score") for k in data["kind"].values]
        ends = ("", "_low", "_high")
        arrays = {
            f"{prefix}value{end}": (
                "row",
                [float(d[f"{n}{end}"]) if (n := names_[which]) else math.nan for _, d, *names_ in rows],
            )
            for which, prefix in enumerate(("", "null_"))
            for end in ends
        }
        return forests.forest(
            xr.Dataset(arrays, coords={"row": [label for label, *_ in rows]}),
            title=f"What is left of {name} without the memory",
            subtitle="bars: 95 % intervals over probes; grey: the random control's; dotted: chance",
            axis="share of probes right (no unit)",
            rows="ablation",
            null="random control",
            at=float(data["chance"]),
            theme=theme,
        )


def _set(data: xr.Dataset, name: str) -> str:
    score, low, high, chance = (
        float(data[key]) for key in ("intact_score", "intact_score_low", "intact_score_high", "chance")
    )
    said = f"{name} {number(score)} {wording.span(low, high)} (chance {number(chance)}"
    if "swapped_score" in data and not math.isnan(float(data["swapped_score"])):
        ends = [float(data[f"swapped_score{end}"]) for end in ("_low", "_high")]
        span = "" if math.isnan(sum(ends)) else f" {wording.span(*ends)}"
        said += f", after swapped prompts {number(float(data['swapped_score']))}{span}"
    if not math.isnan(float(data["baseline_score"])):
        said += f", baseline {number(float(data['baseline_score']))}"
    said += ")"
    known = data["retained"].values
    if math.isnan(low):
        return f"{said}: too few probes for an interval, so nothing is claimed"
    if math.isnan(float(data["retained"].max())) or low <= chance:
        return f"{said}: not clearly above chance, so no share of it can be called retained"
    at = data.isel(kind=int(np.nanargmin(known)))
    value, control = (
        f"{number(100 * float(at[k]), digits=0)} % "
        f"[{number(100 * float(at[f'{k}_low']), digits=0)}, {number(100 * float(at[f'{k}_high']), digits=0)}]"
        for k in ("retained", "control_retained")
    )
    least = "no loss shown; the least" if float(at["retained"]) >= 1 else "least"
    return f"{said}, {least} retained under {at['kind'].item()}: {value}, its random control {control}"
