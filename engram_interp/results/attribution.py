"""Attribution: how much of a logit each read of the memory gives directly, and what a write promotes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, Variable, counted, floats, ints, texts
from engram_interp.views import attribution
from engram_interp.views.theme import Theme, number, signed
from engram_interp.views.tokens import visible

DIRECTIONS = ("promoted", "suppressed")
_LAYER = ints("layer", "layer", "memory layer, counted from 0")
_OTHER = "other rows of the same heads, drawn at random"
_READ_IN_SUMMARY = 3


def _with_control(name: str, variable: Variable) -> Iterator[tuple[str, Variable]]:
    """`variable` under `name`, and what random rows in its place give: mean and the middle 95 % of draws."""
    yield name, variable
    ends = {"": "mean", "_low": "2.5 % quantile", "_high": "97.5 % quantile"}
    for end, word in ends.items():
        yield f"control_{name}{end}", replace(variable, meaning=f"{variable.meaning}: {_OTHER}, {word}")


def _parts() -> dict[str, Variable]:
    parts = {
        "contribution": ("layer order head", "what the rows of a column give, over all source tokens"),
        "by_source": ("layer source order head", "what the row read at a source token gives"),
        "by_layer": ("layer", "what a memory layer gives, bias included"),
        "memory": ("", "what all the memory layers shown give, biases included"),
    }
    return dict(
        pair
        for name, (dims, meaning) in parts.items()
        for pair in _with_control(name, floats(dims, "logit", meaning))
    )


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MemoryAttribution(Result):
    """One prediction's logit as a sum: every row read, the biases, and what no memory wrote."""

    kind: ClassVar[str] = "memory_attribution"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": _LAYER,
            "order": ints("order", "tokens", "order n of the n-gram"),
            "head": counted("head", "head", "hash head of the order"),
            "source": ints("source", "position", "token that read the row"),
            "stream": counted("stream", "stream", "residual stream"),
            "token": counted("token", "position", "token position, counted from 0"),
            "component": texts("component", "part of the residual that no memory shown here wrote"),
        },
        variables={
            **_parts(),
            "bias": floats("layer source", "logit", "what the bias of the value projection gives"),
            "rest": floats("component", "logit", "what a part outside the memory gives"),
            "logit": floats("", "logit", "the model's own logit, or difference of two"),
            "gap": floats("", "logit", "the model's own logit minus the sum of all parts"),
            "gate": floats("layer source stream", "1", "gate; 0 shut, 0.5 neutral, 1 open"),
            "token_index": ints("", "position", "token whose prediction is attributed"),
            "token_text": texts("token", "token text"),
        },
    )

    @property
    def what(self) -> str:
        """Which logit: ``"the logit of “ France”"``, or of the difference of two."""
        target, against = (self.data.attrs.get(name) for name in ("target", "against"))
        logit = f"the logit of “{visible(str(target))}”"
        return logit if against is None else f"{logit} minus that of “{visible(str(against))}”"

    def summary(self) -> str:
        """How much the memory gives beside its control, the largest read, and what is left out."""
        data = self.data
        at = int(data["token_index"])
        token = visible(str(data["token_text"][at].item()))
        memory = f"{signed(wording.scalar(data, 'memory'))} ({_control(data, 'memory')})"
        return (
            f"{self.what[0].upper()}{self.what[1:]} after token {at}, “{token}”, is "
            f"{number(wording.scalar(data, 'logit'))} in {data.attrs.get('model', 'the model')}: memory at "
            f"{wording.layers(data['layer'].values)} gives {memory}, {self._verdict()}, and everything else "
            f"{signed(float(data['rest'].sum()))}; {self._largest()}. A direct effect: what later layers "
            "compute from these writes is counted as theirs; one prompt, so no interval is possible."
        )

    def _verdict(self) -> str:
        value, low, high = (
            wording.scalar(self.data, name)
            for name in ("memory", "control_memory_low", "control_memory_high")
        )
        return "within what random rows give" if low <= value <= high else "beyond what random rows give"

    def _largest(self) -> str:
        data = self.data
        cell = data["by_source"].stack(cell=("layer", "source", "order", "head"), create_index=False)
        best = data.stack(cell=("layer", "source", "order", "head"), create_index=False).isel(
            cell=int(np.abs(cell.values).argmax())
        )
        source, order = int(best["source"]), int(best["order"])
        ngram = visible(attribution.ngram(data, source=source, order=order))
        return (
            f"the largest single read is of “{ngram}” at token {source} (order {order}, head "
            f"{int(best['head'])}, layer {int(best['layer'])}): {signed(float(best['by_source']))} "
            f"({_control(best, 'by_source')})"
        )

    def plot(
        self,
        *,
        theme: Theme = "light",
        view: Literal["columns", "sources", "parts"] = "columns",
    ) -> go.Figure:
        """Bars by column over the control; or a map by source token; or bars of all the parts."""
        return attribution.view_named(view)(self.data, what=self.what, theme=theme)


def _control(data: xr.Dataset, name: str) -> str:
    mean, low, high = (float(data[f"control_{name}{end}"]) for end in ("", "_low", "_high"))
    return (
        f"random rows of the same heads {signed(mean)}, 95 % of draws in {wording.span(low, high, digits=3)}"
    )


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MemoryPromotion(Result):
    """The tokens that one write of the memory promotes and suppresses most, as a whole and by column."""

    kind: ClassVar[str] = "memory_promotion"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": _LAYER,
            "part": texts("part", "the whole write at the token, or what one row read there gives"),
            "direction": texts("direction", "promoted or suppressed"),
            "rank": counted("rank", "rank", "rank, 0 = most"),
        },
        variables={
            "effect": floats(
                "layer part direction rank",
                "logit",
                "direct effect on the logit minus its mean over all tokens",
            ),
            "token_id": ints("layer part direction rank", "id", "token id by rank"),
            "top_token": texts("layer part direction rank", "token text by rank"),
            **{
                f"control_effect{end}": floats(
                    "layer part direction", "logit", f"largest effect, {_OTHER}: {word}"
                )
                for end, word in {"": "mean", "_low": "2.5 % quantile", "_high": "97.5 % quantile"}.items()
            },
            "token_index": ints("", "position", "token whose prediction is written to"),
            "token_text": texts("token", "token text"),
        },
    )

    def summary(self) -> str:
        """What the whole write of every layer promotes, beside what random rows reach."""
        data = self.data
        at = int(data["token_index"])
        whole = data.isel(part=0)
        said = "; ".join(_promoted(whole.sel(layer=layer)) for layer in data["layer"].values)
        token = visible(str(data["token_text"][at].item()))
        return (
            f"What the memory of {data.attrs.get('model', 'the model')} writes after token {at}, “{token}”: "
            f"{said}. Effects are direct, on the logit minus its mean over the vocabulary; the largest of "
            "many is large by chance too, so it is read beside that of random rows."
        )

    def plot(self, *, theme: Theme = "light", layer: int | None = None) -> go.Figure:
        """What the whole write of a memory layer (the first by default) promotes and suppresses."""
        chosen = int(self.data["layer"][0]) if layer is None else layer
        return attribution.promotion_bars(self.data, layer=chosen, theme=theme)


def _promoted(data: xr.Dataset) -> str:
    layer, best = int(data["layer"]), data.sel(direction="promoted")
    up = _tokens_where(best, best["effect"].values > 0)
    down = data.sel(direction="suppressed")
    down_tokens = _tokens_where(down, down["effect"].values < 0)
    if not up:
        return f"layer {layer} writes nothing that promotes a token"
    low, high = (float(best[f"control_effect_{end}"]) for end in ("low", "high"))
    largest = float(best["effect"][0])
    return (
        f"layer {layer} promotes {up}, the first by {signed(largest)}, which is "
        f"{'beyond' if largest > high else 'no more than'} what random rows of the same heads do (they "
        f"promote some token by {number(float(best['control_effect']))}, 95 % of draws in "
        f"{wording.span(low, high, digits=3)}), and suppresses {down_tokens}"
    )


def _tokens_where(data: xr.Dataset, moved: np.ndarray) -> str:
    """The first tokens by rank that are moved that way, listed; empty if none is."""
    tokens = data["top_token"].values[moved][:_READ_IN_SUMMARY]
    return wording.listed(f"“{visible(str(t))}”" for t in tokens) if len(tokens) else ""
