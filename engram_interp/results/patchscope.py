"""Patchscopes: what hidden states say in another prompt, and what a linear probe reads off them."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.provenance import layer_list
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, floats, ints, texts, with_interval
from engram_interp.views import patchscope
from engram_interp.views.theme import Theme, number, signed
from engram_interp.views.tokens import visible

CONDITIONS = ("patched", "random token", "mean state")
"""The token's own state, that of another token drawn at random, and the mean of many tokens' states."""
_LEVEL = 0.05


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PatchscopeResult(Result):
    """One token's state put into a second prompt, by layer, beside random and mean states."""

    kind: ClassVar[str] = "patchscope"
    schema: ClassVar[Schema] = Schema(
        coords={
            "condition": texts("condition", "whose state was put in"),
            "layer": ints("layer", "layer", "layer whose state was read, counted from 0"),
            "rank": counted("rank", "rank", "rank, 0 = top"),
            "token": counted("token", "position", "token of the source prompt, counted from 0"),
            "target_token": counted("target_token", "position", "token of the second prompt"),
        },
        variables={
            "top_token": texts("condition layer rank", "token text by rank (random token: the first draw)"),
            "top_id": ints("condition layer rank", "id", "token id by rank"),
            "logprob": floats("condition layer rank", "nats", "log-probability by rank"),
            "continuation": texts("condition layer", "greedy continuation (random token: the first draw)"),
            "kl": floats("condition layer", "nats", "KL(patched ‖ second prompt as it is), draws averaged"),
            "answer_logprob": floats(
                "condition layer", "nats", "log-probability of the answer, draws averaged"
            ),
            "answer_rank": ints("condition layer", "rank", "its rank, 0 = top (random token: first draw)"),
            "random_low": floats("layer", "nats", "2.5 % quantile of the answer's over random tokens"),
            "random_high": floats("layer", "nats", "97.5 % quantile of the answer's over random tokens"),
            "exceeded": floats("layer", "1", "share of random tokens at least as good, own state included"),
            "plain_logprob": floats("", "nats", "log-probability of the answer, nothing patched"),
            "token_index": ints("", "position", "the token whose state was read"),
            "token_text": texts("token", "token text of the source prompt"),
            "placeholder_index": ints("", "position", "the token of the second prompt that was replaced"),
            "target_text": texts("target_token", "token text of the second prompt"),
        },
    )

    def summary(self) -> str:
        """Where the state says the answer better than random states do; one prompt carries no interval."""
        data, attrs = self.data, self.data.attrs
        own = data["answer_logprob"].sel(condition="patched")
        best = int((own - data["answer_logprob"].sel(condition="random token")).values.argmax())
        layer = int(data["layer"][best])
        beyond = [int(v) for v in data["layer"].values[data["exceeded"].values < _LEVEL]]
        ahead = (
            f"it beats 95 % of {attrs.get('draws', 'the')} random tokens after {wording.layers(beyond)}"
            if beyond
            else f"no layer beats 95 % of {attrs.get('draws', 'the')} random tokens"
        )
        said = visible(str(data["continuation"].sel(condition="patched")[best].item()))
        source = visible(str(data["token_text"][int(data["token_index"])].item()))
        others = float(data["answer_logprob"].sel(condition="random token")[best])
        return (
            f"The state of “{source}” (token {int(data['token_index'])}) in "
            f"{attrs.get('model', 'the model')}, put into a second prompt, says "
            f"“{visible(str(attrs.get('answer', '')))}” best, beside random tokens, after layer {layer}: "
            f"log p {number(float(own[best]))} nats against {number(others)} for random tokens and "
            f"{number(float(data['plain_logprob']))} unpatched; {ahead}; it goes on “{said}”; one prompt, so "
            "no interval is possible."
        )

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Log-probability of the answer by layer, with what the model says, beside the controls."""
        layers = layer_list(self.data.attrs.get("memory_layers", ""))
        return patchscope.answer_by_layer(self.data, memory_layers=layers, theme=theme)


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IdentityProbe(Result):
    """Held-out accuracy of a linear probe by layer, beside its nulls and the baseline."""

    kind: ClassVar[str] = "identity_probe"
    schema: ClassVar[Schema] = Schema(
        coords={
            "model": texts("model", "engram or baseline"),
            "layer": ints("layer", "layer", "layer, counted from 0"),
        },
        variables={
            **with_interval("accuracy", floats("model layer", "1", "share of held-out tokens named rightly")),
            **with_interval(
                "null_accuracy",
                floats("model layer", "1", "the same of five probes of shuffled labels"),
            ),
            **with_interval("by_token", floats("", "1", "accuracy of guessing from the current token")),
            **with_interval("difference", floats("layer", "1", "accuracy, Engram minus baseline")),
            "chance": floats("", "1", "share of the commonest class"),
        },
    )

    def summary(self) -> str:
        """The best layer beside its nulls, and where Engram and baseline differ."""
        data, attrs = self.data, self.data.attrs
        accuracy = data["accuracy"].sel(model="engram")
        best = int(np.nanargmax(accuracy.values))
        ends = [float(data[f"accuracy_{end}"].sel(model="engram")[best]) for end in ("low", "high")]
        interval = "" if math.isnan(sum(ends)) else f" {wording.span(*ends)}"
        shuffled = float(data["null_accuracy"].sel(model="engram")[best])
        return (
            f"The {attrs.get('meaning', 'label')} ({attrs.get('n_classes', '?')} classes, "
            f"{wording.basis(data)}) is read off {attrs.get('model', 'the model')} best after layer "
            f"{int(data['layer'][best])}: accuracy {number(float(accuracy[best]), digits=2)}{interval} (from "
            f"the current token alone {number(float(data['by_token']), digits=2)}, shuffled labels "
            f"{number(shuffled, digits=2)}, commonest class {number(float(data['chance']), digits=2)}); "
            f"{self._compared()}; a probe finds what is there, not what is used."
        )

    def _compared(self) -> str:
        data = self.data
        if "baseline" not in data["model"].values:
            return "no baseline stands beside it"
        value, low, high = (data[f"difference{end}"].values for end in ("", "_low", "_high"))
        if np.isnan(low).all():
            return f"no interval is possible ({wording.why_missing(data['difference_low'])})"
        apart = [
            f"{signed(value[i])} {wording.span(low[i], high[i], digits=3)} after layer {i}"
            for i in np.flatnonzero((low > 0) | (high < 0))
        ]
        against = data.attrs.get("baseline", "the baseline")
        return f"against {against} {wording.listed(apart) if apart else 'no layer differs'}"

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Accuracy by layer, Engram beside baseline, with the nulls."""
        layers = layer_list(self.data.attrs.get("memory_layers", ""))
        return patchscope.accuracy_by_layer(self.data, memory_layers=layers, theme=theme)
