"""Gates: where they open on given prompts, and how they are distributed beside their nulls."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from engram_interp.errors import InputError
from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, Variable, counted, floats, ints, texts, with_interval
from engram_interp.views import gates, token_maps
from engram_interp.views.theme import Theme, number

NULLS = ("untrained", "rows permuted", "queries permuted")
QUANTILES = (5, 25, 50, 75, 95)
_ODD = 0.05
"""A rank p-value above this is no evidence against "untrained"."""
_PADDED = "right padding of shorter prompts"
_LAYER = ints("layer", "layer", "memory layer, counted from 0")
_STREAM = counted("stream", "stream", "residual stream")


def _statistics() -> dict[str, Variable]:
    """Each statistic of the gate, and the same of every null."""
    cell = "layer stream"
    found = {
        **with_interval("mean", floats(cell, "1", "mean gate")),
        **with_interval("sd", floats(cell, "1", "standard deviation of the gate")),
        **{f"q{share:02d}": floats(cell, "1", f"{share} % quantile of the gate") for share in QUANTILES},
        "fraction_open": floats(cell, "1", "share of tokens with a gate above 0.5"),
        "density": floats(f"{cell} bin", "1", "density of the gate at a bin centre (integrates to 1)"),
    }
    nulls = {
        f"null_{name}": replace(variable, dims=("null", *variable.dims), meaning=f"{variable.meaning}, null")
        for name, variable in found.items()
    }
    distance = floats(f"null {cell}", "1", "Kolmogorov–Smirnov distance to the null")
    apart = floats(f"null {cell}", "nats", "KL of the density to the null's")
    return {
        **found,
        **nulls,
        "distance": distance,
        "divergence": replace(apart, optional=True),
        **_ranks(cell),
    }


def _ranks(cell: str) -> dict[str, Variable]:
    """Where each statistic stands among fresh initialisations; results of earlier versions have none."""
    each, what = f"statistic {cell}", "statistic of the gates"
    found = {
        "observed": floats(each, "1", f"{what}, on the prompts given to the initialisations"),
        "init_low": floats(each, "1", f"{what}: 2.5 % quantile of untrained initialisations"),
        "init_high": floats(each, "1", f"{what}: 97.5 % quantile of untrained initialisations"),
        "init_p": floats(each, "1", f"rank p-value of the {what} among untrained initialisations"),
        "untrained_p": floats(cell, "1", "rank p-value of all statistics together among initialisations"),
        "untrained_p_all": floats("", "1", "the same over all layers and streams"),
    }
    return {name: replace(variable, optional=True) for name, variable in found.items()}


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateReading(Result):
    """The gate at every token of given prompts, for every memory layer and stream."""

    kind: ClassVar[str] = "gate_reading"
    schema: ClassVar[Schema] = Schema(
        coords={
            "prompt": counted("prompt", "prompt", "number of the prompt"),
            "layer": _LAYER,
            "stream": _STREAM,
            "token": counted("token", "position", "token position, counted from 0"),
        },
        variables={
            "gate": floats(
                "prompt layer stream token", "1", "gate; 0 shut, 0.5 neutral, 1 open", missing=_PADDED
            ),
            "token_id": ints("prompt token", "id", "token id, −1 = padding"),
            "token_text": texts("prompt token", "token text"),
            "prompt_text": texts("prompt", "text of the prompt"),
            "prompt_id": texts("prompt", "name of the prompt", optional=True),
        },
    )

    def summary(self) -> str:
        """How many gates were read, where they lie, and that a reading is no test."""
        data = self.data
        gate = data["gate"].values
        known = gate[~np.isnan(gate)]
        tokens = int((data["token_id"].values >= 0).sum())
        if not known.size:
            return f"No gate was read on {wording.counted(data.sizes['prompt'], 'prompt')}."
        low, high = (number(float(value)) for value in np.quantile(known, (0.05, 0.95)))
        where = f"{wording.layers(data['layer'].values)} ({wording.counted(data.sizes['stream'], 'stream')})"
        what = f"{wording.counted(data.sizes['prompt'], 'prompt')} with {wording.counted(tokens, 'token')}"
        return (
            f"Gates at {where} on {what}: mean {number(float(known.mean()))}, 5–95 % of values {low} to "
            f"{high}, 0.5 being neutral; untrained gates vary too, so an open gate is read beside the null "
            "of the gate statistics."
        )

    def plot(self, *, theme: Theme = "light", prompt: int = 0) -> go.Figure:
        """The gates of one prompt: layers and streams down, tokens across."""
        return token_maps.gate_matrix(self.data, prompt=prompt, theme=theme)


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateStatistics(Result):
    """The distribution of the gate for every layer and stream, with each null beside it."""

    kind: ClassVar[str] = "gate_statistics"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": _LAYER,
            "stream": _STREAM,
            "null": texts("null", "which null"),
            "bin": floats("bin", "1", "centre of a bin of the gate, 0 to 1"),
            "statistic": texts("statistic", "which statistic of the gate", optional=True),
        },
        variables=_statistics(),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [str(null) for null in self.data["null"].values if null not in NULLS]
        if unknown:
            raise InputError(f"GateStatistics knows the nulls {', '.join(NULLS)}; got {', '.join(unknown)}.")

    def summary(self) -> str:
        """How the gates differ from untrained ones, pair by pair, or why that cannot be said."""
        data = self.data
        mean = data["mean"].values
        pairs = f"{wording.counted(mean.size, 'layer–stream pair')} ({wording.basis(data)})"
        where = f"{data.attrs.get('model', 'the model')} at {wording.layers(data['layer'].values)}"
        between = f"mean {_range(mean, digits=3)}"
        return f"Gates of {where}, {pairs}: {between}, {self._against_untrained()}."

    def _against_untrained(self) -> str:
        data = self.data
        if "untrained" not in data["null"].values or np.isnan(data["null_mean"].sel(null="untrained")).all():
            reason = wording.why_missing(data["null_mean"])
            return f"with no untrained null beside them ({reason}), so they cannot be read as selective"
        null = data.sel(null="untrained")
        means, spreads = (_range(null[f"null_{name}"].values) for name in ("mean", "sd"))
        beside = f"where untrained gates have mean {means} and sd {spreads}"
        p = self._untrained_p()
        if p > _ODD:
            return (
                f"{beside}: no evidence that any gate differs from an untrained one (all statistics together "
                f"rank as p = {number(p)} among {data.attrs['n_inits']} initialisations)"
            )
        if np.isnan(data["mean_low"].values + data["mean_high"].values).all():
            reason = wording.why_missing(data["mean_low"])
            return f"{beside}; no interval is possible ({reason}), so no difference is claimed"
        apart = {name: int(self._differs(name).sum()) for name in ("mean", "sd")}
        if not any(apart.values()):
            none = f"{beside}: no evidence that any gate differs from an untrained one in mean or spread"
            return (
                none
                if np.isnan(p)
                else f"{none}, each pair on its own{self._ranked(p)}, all statistics together"
            )
        total = data["mean"].size
        counts = " and ".join(f"{count} of {total} differ in {name}" for name, count in apart.items())
        distance = number(float(np.nanmax(null["distance"].values, initial=0)))
        largest = f"Kolmogorov–Smirnov distance to one of them up to {distance}"
        if np.isnan(p):
            return (
                f"{beside}: {counts} (95 % intervals over documents apart, each pair on its own; {largest}), "
                "but from one initialisation only: others may lie as far off, so this does not show that "
                "the gates are not as initialised, nor that they help"
            )
        return (
            f"{beside}: {counts} (rank p ≤ {_ODD} among the initialisations, each pair on its own; {largest})"
            f"{self._ranked(p)}, which shows that the gates are not as initialised, not that they help"
        )

    def _untrained_p(self) -> float:
        return float(self.data["untrained_p_all"]) if "untrained_p_all" in self.data else float("nan")

    def _ranked(self, p: float) -> str:
        if np.isnan(p):
            return ""
        return f"; among {self.data.attrs['n_inits']} untrained initialisations they rank as p = {number(p)}"

    def _differs(self, name: str) -> npt.NDArray[np.bool_]:
        """Where `name` is rare among untrained initialisations; beside one alone if there are no more."""
        if np.isnan(self._untrained_p()):
            return self._apart(name)
        return np.asarray(self.data["init_p"].sel(statistic=name).values <= _ODD)

    def _apart(self, name: str) -> npt.NDArray[np.bool_]:
        """Where the interval of `name` and that of the untrained null (or its value) do not meet."""
        null = self.data.sel(null="untrained")
        low, high = (self.data[f"{name}_{end}"].values for end in ("low", "high"))
        value = null[f"null_{name}"].values
        null_low, null_high = (null[f"null_{name}_{end}"].values for end in ("low", "high"))
        null_low = np.where(np.isnan(null_low), value, null_low)
        null_high = np.where(np.isnan(null_high), value, null_high)
        return np.asarray((low > null_high) | (high < null_low))

    def plot(
        self, *, theme: Theme = "light", view: Literal["quantiles", "densities"] = "quantiles"
    ) -> go.Figure:
        """Quantiles by layer and stream over the untrained band, or the densities."""
        if view == "densities":
            return gates.gate_densities(self.data, theme=theme)
        return gates.gate_quantiles(self.data, theme=theme)


def _range(values: npt.NDArray[np.floating], *, digits: int = 2) -> str:
    """The smallest and the largest of `values`, once if they read the same."""
    if np.isnan(values).all():
        return "—"
    ends = [number(float(end), digits=digits) for end in (np.nanmin(values), np.nanmax(values))]
    return " to ".join(dict.fromkeys(ends))
