"""Tests of the gates: whether they choose among memories, and whether they are open where it helps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, Variable, counted, floats, ints, texts, with_interval
from engram_interp.views import forests
from engram_interp.views.theme import Theme, number, signed

_LAYER = ints("layer", "layer", "memory layer, counted from 0")
_STREAM = counted("stream", "stream", "residual stream")
_CELL = "layer stream"
_EMPTY = "one of the two groups is empty, or too few documents hold both"


def _with_null(name: str, variable: Variable) -> dict[str, Variable]:
    """A number with its interval, and its mean and range over untrained initialisations."""
    words = {"": "mean", "_low": "smallest", "_high": "largest"}
    return with_interval(name, variable) | {
        f"null_{name}{end}": floats(
            " ".join(variable.dims),
            variable.units,
            f"{variable.meaning}: {word} over untrained initialisations",
            missing=variable.missing,
        )
        for end, word in words.items()
    }


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateSelectivity(Result):
    """Gates on own against other memory, by count in training, and at entity ends, beside untrained gates."""

    kind: ClassVar[str] = "gate_selectivity"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": _LAYER,
            "stream": _STREAM,
            "other": texts("other", "whose rows stand against the token's own"),
            "stratum": texts("stratum", "how often training saw the longest n-gram"),
        },
        variables={
            **_with_null(
                "conflict_auc",
                floats(f"other {_CELL}", "1", "AUC of the gate, own rows against others", missing=_EMPTY),
            ),
            **with_interval(
                "conflict_wins",
                floats(
                    f"other {_CELL}",
                    "1",
                    "share of tokens whose own rows open the gate wider",
                    missing=_EMPTY,
                ),
            ),
            "n_pairs": ints("other layer", "tokens", "tokens that had such a partner"),
            **with_interval(
                "stratum_gate",
                floats(f"stratum {_CELL}", "1", "mean gate of the tokens of a stratum", missing=_EMPTY),
            ),
            "stratum_tokens": ints("stratum layer", "tokens", "tokens of a stratum"),
            **_with_null(
                "entity_difference",
                floats(_CELL, "1", "mean gate at entity ends less that elsewhere", missing=_EMPTY),
            ),
            **_with_null(
                "entity_auc",
                floats(_CELL, "1", "AUC of the gate, entity ends against the rest", missing=_EMPTY),
            ),
            "n_entity_ends": ints("", "tokens", "tokens that end a marked entity"),
        },
    )

    def summary(self) -> str:
        """Each test's strongest layer and stream beside its null; an AUC of .5 is no preference."""
        data = self.data
        said = [
            _strongest(data.sel(other=other), "conflict_auc", f"own against {other} rows")
            for other in data["other"].values
        ]
        said.append(_strongest(data, "entity_auc", "entity ends against the rest"))
        tokens = data["stratum_tokens"].values
        filled = [str(s) for s, n in zip(data["stratum"].values, tokens, strict=True) if n.any()]
        by = str(data.attrs.get("strata", ""))
        strata = wording.strata(filled, last=str(data["stratum"].values[-1]), by=by)
        return (
            f"Gates of {data.attrs.get('model', 'the model')} ({wording.basis(data)}), AUC furthest from .5 "
            f"in each test: {'; '.join(said)}; {strata}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Every AUC with its interval, over the range of untrained initialisations."""
        parts = [
            (f"{what} · {_cell(cell)}", cell, name)
            for what, block, name in (
                *((f"own vs {o}", self.data.sel(other=o), "conflict_auc") for o in self.data["other"].values),
                ("entity ends", self.data, "entity_auc"),
            )
            for cell in _cells(block)
        ]
        return forests.forest(
            _rows(parts), title="Does the gate choose?", axis="AUC of the gate (no unit)", at=0.5, theme=theme
        )


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GateUsefulness(Result):
    """Sampled tokens' loss with their gate shut, and the gate as a predictor of where that costs."""

    kind: ClassVar[str] = "gate_usefulness"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": _LAYER,
            "stream": _STREAM,
            "sample": counted("sample", "sample", "number of the sampled token"),
        },
        variables={
            "gate": floats("sample layer stream", "1", "gate at the sampled token"),
            "delta_loss": floats(
                "sample layer", "nats", "change of the token's loss with its gate shut at that layer"
            ),
            "document": ints("sample", "prompt", "prompt of the sampled token"),
            "position": ints("sample", "position", "its position, the separator at 0"),
            **with_interval(
                "mean_delta",
                floats("layer", "nats", "mean change of loss with the gate shut", missing=_EMPTY),
            ),
            **with_interval(
                "useful",
                floats("layer", "1", "share of tokens where shutting the gate costs", missing=_EMPTY),
            ),
            **_with_null(
                "auc", floats(_CELL, "1", "AUC of the gate for a cost of shutting it", missing=_EMPTY)
            ),
        },
    )

    def summary(self) -> str:
        """What shutting one gate costs, and whether the gate foretells it."""
        data = self.data
        costs = [
            f"layer {int(at['layer'])} {signed(float(at['mean_delta']))} nats "
            f"{wording.span(float(at['mean_delta_low']), float(at['mean_delta_high']), digits=3)}, a cost at "
            f"{number(100 * float(at['useful']), digits=0)} % of tokens"
            for at in (data.isel(layer=i) for i in range(data.sizes["layer"]))
        ]
        return (
            f"Shutting the gates of {data.attrs.get('model', 'the model')} at one token "
            f"({wording.basis(data)}) changes its loss by: {'; '.join(costs)}; the gate as a predictor of a "
            f"cost: {_strongest(data, 'auc', 'AUC')}."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """The AUC of every layer's and stream's gate, over the range of untrained initialisations."""
        parts = [(_cell(cell), cell, "auc") for cell in _cells(self.data)]
        return forests.forest(
            _rows(parts),
            title="Is the gate open where the memory helps?",
            axis="AUC of the gate for Δloss > 0 (no unit)",
            at=0.5,
            theme=theme,
        )


def _cells(data: xr.Dataset) -> list[xr.Dataset]:
    return [
        data.isel(layer=i, stream=j) for i in range(data.sizes["layer"]) for j in range(data.sizes["stream"])
    ]


def _cell(data: xr.Dataset) -> str:
    return f"layer {int(data['layer'])} · stream {int(data['stream'])}"


def _rows(parts: list[tuple[str, xr.Dataset, str]]) -> xr.Dataset:
    """One row per part: value, interval, and the null's mean and range."""
    ends = ("", "_low", "_high")
    arrays = {
        f"{prefix}value{end}": ("row", [float(cell[f"{prefix}{name}{end}"]) for _, cell, name in parts])
        for prefix in ("", "null_")
        for end in ends
    }
    return xr.Dataset(arrays, coords={"row": [label for label, _, _ in parts]})


def _strongest(data: xr.Dataset, name: str, what: str) -> str:
    """The cell furthest from .5 with its interval and the untrained range there."""
    values = data[name].values
    if np.isnan(values).all():
        return f"{what} not measured ({wording.why_missing(data[name])})"
    at = np.unravel_index(np.nanargmax(np.abs(values - 0.5)), values.shape)
    cell = data.isel(layer=int(at[0]), stream=int(at[1]))
    value, low, high, null_low, null_high = (
        float(cell[key])
        for key in (name, f"{name}_low", f"{name}_high", f"null_{name}_low", f"null_{name}_high")
    )
    said = f"{what} {number(value)} {wording.span(low, high)} at {_cell(cell)}"
    if np.isnan(low):
        said = f"{what} {number(value)} at {_cell(cell)} without an interval"
    if np.isnan(null_low):
        return f"{said}, with no untrained null beside it, so nothing is claimed"
    count = data.attrs.get("n_inits")
    over = "" if count is None else f" over {wording.counted(int(count), 'initialisation')}"
    said = f"{said} (untrained {number(null_low)} to {number(null_high)}{over})"
    if np.isnan(low):
        return f"{said}, so nothing is claimed"
    beyond = low > max(0.5, null_high) or high < min(0.5, null_low)
    return f"{said}: {'beyond them' if beyond else 'no evidence of a preference'}"
