"""The lens: what each layer would already predict."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.provenance import layer_list
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, floats, ints, texts, with_interval
from engram_interp.views import curves, token_maps
from engram_interp.views.theme import Theme, number
from engram_interp.views.tokens import visible

_LENS = "raw logit lens"
_LAYER = ints("layer", "layer", "layer, counted from 0")
_LATER = {  # results made before they were kept lack them
    **with_interval("reverse_kl", floats("layer", "nats", "KL(layer ‖ final)")),
    "document_kl": floats("document layer", "nats", "KL(final ‖ layer) summed over a document's tokens"),
    "document_reverse_kl": floats("document layer", "nats", "KL(layer ‖ final) summed likewise"),
    "document_tokens": ints("document", "tokens", "tokens of a document that count"),
}
_FIRST = "the first layer has none before it"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConvergenceResult(Result):
    """How far each layer's prediction is from the final one, over many documents."""

    kind: ClassVar[str] = "lens_convergence"
    schema: ClassVar[Schema] = Schema(
        coords={"layer": _LAYER},
        variables={
            **with_interval("kl", floats("layer", "nats", "KL(final ‖ layer)")),
            **with_interval("entropy", floats("layer", "nats", "entropy of the layer's prediction")),
            **with_interval("next_loss", floats("layer", "nats", "loss of the layer on the true next token")),
            "agreement": floats("layer", "1", "share of tokens whose top token is the final one"),
            **{name: replace(variable, optional=True) for name, variable in _LATER.items()},
        },
    )

    def summary(self) -> str:
        """KL at the first layer and at the last but one, with intervals, and what they do not say."""
        data, attrs = self.data, self.data.attrs
        late = max(data.sizes["layer"] - 2, 0)
        points = " and ".join(self._point(index) for index in dict.fromkeys((0, late)))
        if np.isnan(data["kl_low"].values + data["kl_high"].values).all():
            points += f" (no interval is possible: {wording.why_missing(data['kl_low'])})"
        share = number(100 * float(data["agreement"][late]), digits=0)
        return (
            f"{attrs.get('direction', 'KL(final || layer)')} of {attrs.get('model', 'the model')} by the "
            f"{attrs.get('lens', _LENS)} ({wording.basis(data)}): {points}; after layer "
            f"{int(data['layer'][late])} the top token is already the final one for {share} % of tokens; one "
            "curve alone says nothing about depth, it is read beside that of the baseline."
        )

    def _point(self, index: int) -> str:
        kl, low, high = (float(self.data[f"kl{end}"][index]) for end in ("", "_low", "_high"))
        interval = "" if math.isnan(low + high) else f" {wording.span(low, high, digits=3)}"
        return f"{number(kl)} nats{interval} after layer {int(self.data['layer'][index])}"

    def plot(
        self,
        *,
        theme: Theme = "light",
        baseline: "ConvergenceResult | None" = None,
        quantity: curves.Quantity = "kl",
        scale: Literal["linear", "log"] = "linear",
    ) -> go.Figure:
        """The curve by layer, and the baseline's beside it where one is given."""
        other = None if baseline is None else baseline.data
        return curves.lens_curves(
            self.data,
            other,
            quantity=quantity,
            scale=scale,
            memory_layers=layer_list(self.data.attrs.get("memory_layers", "")),
            names=(_name(self, "Engram"), "" if baseline is None else _name(baseline, "baseline")),
            theme=theme,
        )


def _name(result: ConvergenceResult, otherwise: str) -> str:
    return str(result.data.attrs.get("model", otherwise))


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LensTable(Result):
    """What each layer would predict after each token of one text."""

    kind: ClassVar[str] = "lens_table"
    schema: ClassVar[Schema] = Schema(
        coords={
            "layer": _LAYER,
            "token": counted("token", "position", "token position, counted from 0"),
            "rank": counted("rank", "rank", "rank, 0 = top"),
        },
        variables={
            "top_id": ints("layer token rank", "id", "token id by rank"),
            "top_token": texts("layer token rank", "token text by rank"),
            "top_logprob": floats("layer token rank", "nats", "log-probability by rank"),
            "kl": floats("layer token", "nats", "KL(final ‖ layer)"),
            "entropy": floats("layer token", "nats", "entropy of the layer's prediction"),
            "final_rank": ints("layer token", "rank", "rank that the final top token has here, 0 = top"),
            "rank_move": floats(
                "layer token", "places", "places gained since the layer before", missing=_FIRST
            ),
            "token_id": ints("token", "id", "token id"),
            "token_text": texts("token", "token text"),
        },
    )

    def summary(self) -> str:
        """From which layer on the last token's prediction is the final one."""
        return self.said_of(int(self.data["token"].values[-1]))

    def said_of(self, token: int) -> str:
        """From which layer on the prediction after `token` is the final one.

        Args:
            token: Position, counted from 0.

        Raises:
            InputError: If there is no such token.
        """
        data, at = self.data, wording.position(self.data, token)
        layers = data["layer"].values
        settled = data["final_rank"].values[:, at] == 0
        from_here = next(index for index in range(len(layers) + 1) if settled[index:].all())
        final = visible(str(data["top_token"].values[-1, at, 0]))
        named = visible(str(data["token_text"].values[at]))
        counted = wording.counted(data.sizes["token"], "token")
        place = f"the last of {counted}" if at == data.sizes["token"] - 1 else f"token {token} of {counted}"
        when = "not at any layer kept here"
        if from_here < len(layers):
            when = f"from layer {layers[from_here]} on (the last is {layers[-1]})"
        return (
            f"After {place}, “{named}”, the top prediction is the final one, “{final}”, {when}; "
            f"{data.attrs.get('lens', _LENS)}, one text, so no interval."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """KL by layer and token."""
        return token_maps.lens_map(self.data, theme=theme)
