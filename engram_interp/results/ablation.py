"""Ablations: what changes without the memory, beside a random control of the same size."""

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
from engram_interp.views import effects
from engram_interp.views.theme import Theme, number, signed

_LISTED_AT_MOST = 4
_WHOLE = ("output_off", "gate_zero", "rows_zero")
_SAME = 1e-4  # nats
_FIRST = ("delta_loss", "kl")


_RANK = "geometric mean rank of the token that comes (0 = first)"


def _effects(dims: str = "") -> dict[str, Variable]:
    """Each effect with its interval, and the same of the control, of the intact model and of the baseline."""
    meanings = {
        "delta_loss": ("nats", "change of the loss on the next token"),
        "kl": ("nats", "KL(intact ‖ ablated)"),
        "rank": ("rank", _RANK),
    }
    found: dict[str, Variable] = {}
    for name, (units, meaning) in meanings.items():
        found |= with_interval(name, floats(f"{dims} kind", units, meaning))
        found |= with_interval(f"control_{name}", floats(f"{dims} kind", units, f"{meaning}, random control"))
    found |= with_interval("intact_loss", floats(dims, "nats", "loss of the intact model"))
    found |= with_interval("intact_rank", floats(dims, "rank", f"{_RANK}, intact model"))
    found |= with_interval(
        "baseline_delta_loss",
        floats(dims, "nats", "loss of the baseline that never had a memory, less the intact model's"),
    )
    return found | with_interval("baseline_rank", floats(dims, "rank", f"{_RANK}, baseline"))


def _variables() -> dict[str, Variable]:
    """What every result holds, and what results of earlier versions lack."""
    every = _effects()
    first = {
        name: every.pop(name) for name in list(every) if name.removeprefix("control_").startswith(_FIRST)
    }
    first["intact_loss"] = every.pop("intact_loss")
    later = every | {f"stratum_{name}": variable for name, variable in _effects("stratum").items()}
    later["stratum_tokens"] = ints("stratum", "tokens", "predicted tokens of a stratum")
    return first | {name: replace(variable, optional=True) for name, variable in later.items()}


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationEffect(Result):
    """The mean effect of each ablation over many documents, with its control."""

    kind: ClassVar[str] = "ablation_effect"
    schema: ClassVar[Schema] = Schema(
        coords={
            "kind": texts("kind", "exact name of the ablation"),
            "stratum": texts(
                "stratum", "how often training saw the n-gram read before the token", optional=True
            ),
        },
        variables=_variables(),
    )

    def summary(self) -> str:
        """Each ablation's change of loss beside its control, and what may be said from it."""
        data = self.data
        kinds = [str(kind) for kind in data["kind"].values]
        said = "; ".join(_effect(data.sel(kind=kind), kind) for kind in kinds[:_LISTED_AT_MOST])
        rest = len(kinds) - _LISTED_AT_MOST
        more = f"; {wording.counted(rest, 'further ablation')} in the table" if rest > 0 else ""
        intact = f"intact loss {number(wording.scalar(data, 'intact_loss'))} nats"
        return (
            f"Memory of {data.attrs.get('model', 'the model')} ablated ({wording.basis(data)}, {intact}): "
            f"{said}{more}{_rank(data)}{_never(data)}{_by_count(data)}; an ablated model is off its training "
            "distribution, which overstates how much it relies on memory."
        )

    def coinciding(self) -> str:
        """That ablations coincide, so that nobody counts them as several findings; empty where none do."""
        whole = [kind for kind in _WHOLE if kind in self.data["kind"].values]
        effects = self.data["delta_loss"].sel(kind=whole).values
        if len(whole) < 2 or not float(np.ptp(effects)) <= _SAME:
            return ""
        return (
            f"{wording.listed(whole)} coincide here: at every token of a memory without a bias, each of them "
            "makes the memory write nothing. They count as one finding."
        )

    def plot(self, *, theme: Theme = "light", effect: effects.Effect = "delta_loss") -> go.Figure:
        """Each ablation's effect with its interval, the control below it."""
        return effects.effect_forest(self.data, effect=effect, theme=theme)


def _effect(data: xr.Dataset, kind: str) -> str:
    """One ablation: change of loss, control, and the verdict that both intervals allow."""
    value, low, high = (float(data[f"delta_loss{end}"]) for end in ("", "_low", "_high"))
    control, control_low, control_high = (
        float(data[f"control_delta_loss{end}"]) for end in ("", "_low", "_high")
    )
    if math.isnan(value):
        return f"{kind} was not measured ({wording.why_missing(data['delta_loss'])})"
    said = f"{kind} changes the loss by {signed(value)} nats"
    if math.isnan(low + high):
        reason = wording.why_missing(data["delta_loss_low"])
        said = f"{said} (random control {signed(control)})"
        return f"{said}, no interval is possible ({reason}), so nothing is claimed"
    said = f"{said} {wording.span(low, high, digits=3)}"
    if math.isnan(control + control_low + control_high):
        reason = wording.why_missing(data["control_delta_loss_low"])
        return f"{said}, with no control to read it against ({reason}), so nothing is claimed"
    said = (
        f"{said}, its random control by {signed(control)} {wording.span(control_low, control_high, digits=3)}"
    )
    if low <= 0 <= high:
        return f"{said}: no evidence of an effect"
    apart = low > control_high or high < control_low
    return f"{said}: {'beyond' if apart else 'not distinguishable from'} the control"


def _rank(data: xr.Dataset) -> str:
    """The rank of the token that comes, intact and under the first ablation; empty where not recorded."""
    if "rank" not in data:
        return ""
    at = data.isel(kind=0)
    intact, after, control = (number(float(at[n]), digits=1) for n in ("intact_rank", "rank", "control_rank"))
    return (
        f"; geometric mean rank of the token that comes (0 is first) {intact} intact, {after} under "
        f"{at['kind'].item()} (control {control})"
    )


def _never(data: xr.Dataset) -> str:
    """What never having had a memory costs, where a baseline was run."""
    if "baseline_delta_loss" not in data:
        return ""
    value, low, high = (float(data[f"baseline_delta_loss{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return f"; no baseline beside it ({wording.why_missing(data['baseline_delta_loss'])})"
    return (
        f"; the baseline that never had a memory differs from the intact model by {signed(value)} nats "
        f"{wording.span(low, high, digits=3)}"
    )


def _by_count(data: xr.Dataset) -> str:
    """The first ablation's change of loss by how often training saw the n-gram."""
    if "stratum_tokens" not in data or not bool(data["stratum_tokens"].any()):
        return ""
    at = data.isel(kind=0)
    cells = [at.sel(stratum=s) for s in data["stratum"].values if int(data["stratum_tokens"].sel(stratum=s))]
    each = [
        f"{cell['stratum'].item()}: {signed(float(cell['stratum_delta_loss']))} "
        f"({int(cell['stratum_tokens']):,} tokens)"
        for cell in cells
    ]
    return f"; {at['kind'].item()} by {data.attrs.get('strata', 'training hits')}: {', '.join(each)}"
