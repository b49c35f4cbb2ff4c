"""One ablation of one prompt: predictions intact, ablated, and under two controls drawn several times."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import plotly.graph_objects as go

from engram_interp.errors import InputError
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, counted, flags, floats, ints, texts
from engram_interp.views import draws, effects, lens_change, marks
from engram_interp.views.theme import Theme, number, signed
from engram_interp.views.tokens import visible

CONDITIONS = ("intact", "ablated", "random rows", "random direction")
"""Two controls: the same reads from other rows of the same heads, and a change of the same size."""
_SAME = 1e-4  # nats

_BY_LAYER = {  # results made before they were kept lack them
    "lens_kl": floats("condition layer token", "nats", "KL(intact final ‖ layer)"),
    "lens_logprob": floats(
        "condition layer token", "nats", "log-probability of the intact top token, by the lens at the layer"
    ),
    "written": flags("token", "whether the first ablated layer writes something else here"),
    "first_layer": ints("", "layer", "the first layer at which something is changed"),
    "first_token": ints("", "position", "the first token at which something is changed"),
}


_BY_DRAW = {
    "control_kl": floats("control draw token", "nats", "KL(intact ‖ control) by draw and token"),
    "control_answer": floats("control draw", "nats", "log-probability of the answer by draw"),
}


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AblationComparison(Result):
    """One prompt, one token: the top predictions intact, ablated, and under two controls."""

    kind: ClassVar[str] = "ablation_comparison"
    schema: ClassVar[Schema] = Schema(
        coords={
            "condition": texts("condition", "intact, ablated, or one of the two controls"),
            "rank": counted("rank", "rank", "rank, 0 = top"),
            "token": counted("token", "position", "token position, counted from 0"),
            "layer": replace(ints("layer", "layer", "layer, counted from 0"), optional=True),
            "control": replace(texts("control", "one of the two controls"), optional=True),
            "draw": replace(counted("draw", "draw", "draw of a control, the shown one first"), optional=True),
        },
        variables={
            "top_token": texts("condition rank", "token text by rank"),
            "top_id": ints("condition rank", "id", "token id by rank"),
            "logprob": floats("condition rank", "nats", "log-probability by rank"),
            "kl": floats("condition token", "nats", "KL(intact ‖ changed) by token"),
            "answer_logprob": floats(
                "condition", "nats", "log-probability of the answer", missing="no answer was given"
            ),
            "token_index": ints("", "position", "the token whose prediction is shown"),
            "token_text": texts("token", "token text", optional=True),
            **{name: replace(variable, optional=True) for name, variable in (_BY_LAYER | _BY_DRAW).items()},
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [name for name in CONDITIONS if name not in self.data["condition"].values]
        if missing:
            raise InputError(
                f"AblationComparison wants the conditions {', '.join(CONDITIONS)}; {', '.join(missing)} "
                "is not there. Run the controls too: an ablation is never shown without them."
            )
        if int(self.data["token_index"]) not in self.data["token"].values:
            at, last = int(self.data["token_index"]), self.data.sizes["token"] - 1
            raise InputError(f"AblationComparison wants token_index among the tokens 0 to {last}, got {at}.")

    def summary(self) -> str:
        """What the ablation does to one prediction, beside both controls; one prompt carries no interval."""
        data = self.data
        at = int(data["token_index"])
        kl = {name: number(float(data["kl"].sel(condition=name, token=at))) for name in CONDITIONS}
        top = {name: visible(str(data["top_token"].sel(condition=name)[0].item())) for name in CONDITIONS}
        answers = {name: float(data["answer_logprob"].sel(condition=name)) for name in CONDITIONS}
        answer = ""
        if not any(math.isnan(value) for value in answers.values()):
            moved = {name: signed(answers[name] - answers["intact"]) for name in CONDITIONS}
            answer = (
                f"; change of the answer's log p {moved['ablated']} nats (random rows "
                f"{moved['random rows']}, random direction {moved['random direction']})"
            )
        what = data.attrs.get("what", "The ablation")
        return (
            f"{what}. It moves the prediction after token {at} by {kl['ablated']} nats of KL, "
            f"{self._beside(kl)}{self._times()}: top token "
            f"“{top['intact']}” before, “{top['ablated']}” after, “{top['random rows']}” with random rows"
            f"{answer}; one prompt, so no interval is possible."
        )

    def _beside(self, kl: dict[str, str]) -> str:
        """What the controls do, and how many of their draws the ablation exceeds."""
        rows, direction = (draws.values(self.data, control) for control in CONDITIONS[2:])
        if rows is None or direction is None:
            same_size = f"a random change of the same size by {kl['random direction']}"
            return f"random rows by {kl['random rows']}, {same_size}"
        beyond = [draws.beyond(self.data, control) for control in CONDITIONS[2:]]
        return (
            f"further than {beyond[0]} of {len(rows)} draws of random rows ({draws.ends(rows)}) and "
            f"{beyond[1]} of {len(direction)} random changes of the same size ({draws.ends(direction)})"
        )

    def _times(self) -> str:
        """How often the larger control goes into the effect; empty where neither control moves anything."""
        ablated = float(self.data["kl"].sel(condition="ablated", token=int(self.data["token_index"])))
        larger = max(draws.mean(self.data, control) for control in CONDITIONS[2:])
        if not larger >= _SAME:
            return ""
        mean = "’s mean" if draws.values(self.data, CONDITIONS[2]) is not None else ""
        return f", {number(ablated / larger, digits=1)} × the larger control{mean}"

    @property
    def unread(self) -> str:
        """Why the lens was not read under each condition; empty where it was."""
        if "lens_kl" in self.data:
            return ""
        return str(self.data.attrs.get("lens_missing", "it was made before the lens was kept."))

    def plot(self, *, theme: Theme = "light", view: lens_change.View = "tokens") -> go.Figure:
        """KL to the intact prediction by token, ablated beside control; or the lens grid, after − before.

        Args:
            theme: light or dark.
            view: "tokens"; or "lens", every layer and token.

        Raises:
            InputError: If the lens is asked for and was not read.
        """
        what = str(self.data.attrs.get("what", "the ablation"))
        if marks.choose(lens_change.VIEWS, view, what="view") == lens_change.VIEWS["tokens"]:
            return effects.divergence_by_token(self.data, what=what, theme=theme)
        if self.unread:
            raise InputError(f"There is no lens grid here: {self.unread} Run ablation.compare again.")
        return lens_change.grid(self.data, what=what, theme=theme)
