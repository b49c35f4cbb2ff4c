"""Second opinions: the same comparison of layers by measures that have little in common."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, flags, floats, ints, texts, with_interval
from engram_interp.views import opinions
from engram_interp.views.theme import Theme, signed


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SecondOpinions(Result):
    """Similarity of every layer pair by several measures, and the depth shift each of them gives."""

    kind: ClassVar[str] = "second_opinions"
    schema: ClassVar[Schema] = Schema(
        coords={
            "measure": texts("measure", "measure of similarity"),
            "layer": ints("layer", "layer", "layer of the model with memory, counted from 0"),
            "baseline_layer": ints("baseline_layer", "layer", "layer of the baseline, counted from 0"),
            "reference_layer": ints(
                "reference_layer", "layer", "layer of the self-reference, counted from 0"
            ),
        },
        variables={
            "similarity": floats(
                "measure layer baseline_layer", "1", "similarity of an Engram layer with a baseline layer"
            ),
            "similarity_self": floats(
                "measure reference_layer baseline_layer",
                "1",
                "similarity of a self-reference layer with a baseline layer",
            ),
            "null": floats(
                "measure layer baseline_layer", "1", "similarity after the baseline's samples are shuffled"
            ),
            "chance": floats("measure", "1", "expected similarity of unrelated layers"),
            "path": floats("measure layer", "layers", "monotone path through the similarity"),
            "path_self": floats("measure reference_layer", "layers", "monotone path of the self-reference"),
            **with_interval(
                "shift",
                floats("measure layer", "layers", "path read on the self-reference's own, minus layer"),
            ),
            "pre_memory": flags("layer", "residual before the first memory read: internal control"),
            "interior": flags("layer", "counts towards the headline"),
            **with_interval("headline", floats("measure", "layers", "mean shift over interior layers")),
            **with_interval(
                "control_shift",
                floats("measure", "layers", "mean shift over residuals before the first read"),
            ),
        },
    )

    def summary(self) -> str:
        """Each measure's headline, the control, and whether they agree in sign."""
        data, attrs = self.data, self.data.attrs
        said = [
            f"{name} {_said(*(float(data[f'headline{end}'][i]) for end in ('', '_low', '_high')))}"
            for i, name in enumerate(data["measure"].values)
            if not math.isnan(float(data["headline"][i]))
        ]
        found = "; ".join(said) or f"no headline ({wording.why_missing(data['headline'])})"
        control = data["control_shift"].values
        if not np.isnan(control).all():
            low, high = float(np.nanmin(control)), float(np.nanmax(control))
            between = "exactly 0" if low == high == 0 else f"between {low:+.2f} and {high:+.2f}"
            found += f"; internal control {between} layers"
        return (
            f"Depth shift of {attrs.get('engram', 'the Engram model')} against "
            f"{attrs.get('baseline', 'its baseline')} by other measures ({wording.basis(data)}): {found}. "
            f"{self.agreement()}{self._caution()}"
        )

    def _caution(self) -> str:
        """A model is no reference for itself where similarity with another model is lopsided."""
        if self.data.attrs.get("reference") != "the baseline itself":
            return ""
        return (
            " The reference is the baseline itself, which every measure recognises layer by layer, so what "
            "makes some baseline layers easier to resemble is still in these numbers."
        )

    def agreement(self) -> str:
        """One sentence: do the measures agree in the sign of the headline?"""
        data = self.data
        values = data["headline"].values
        known = ~np.isnan(values)
        if known.sum() < 2:
            return "Fewer than two measures gave a headline, so agreement cannot be judged."
        low, high = data["headline_low"].values, data["headline_high"].values
        spread = high > low  # one that is the same in every resample says nothing of how sure it is
        sure = int((spread & ((low > 0) | (high < 0))).sum())
        timed = int(spread.sum())
        signs = {int(np.sign(np.round(value, 2))) for value in values[known]}
        number = f"{sure} of {timed} intervals exclude 0" if timed else "no measure has an interval"
        if len(signs) == 1:
            word = {1: "positive", 0: "zero to two digits", -1: "negative"}[signs.pop()]
            return f"The measures agree in sign ({word}); {number}."
        names = data["measure"].values
        parts = [
            f"{word} by {wording.listed(chosen)}"
            for sign, word in ((1, "positive"), (0, "zero"), (-1, "negative"))
            if (chosen := [n for n, v in zip(names, values, strict=True) if np.sign(np.round(v, 2)) == sign])
        ]
        return f"The measures do not agree in sign ({', '.join(parts)}); {number}."

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """The shift by layer, one line for each measure."""
        return opinions.shifts(self.data, theme=theme)


def _said(value: float, low: float, high: float) -> str:
    """A shift with its interval; one that no resample moves is said to be no measure of how sure it is."""
    if value == low == high:
        return f"{signed(value, digits=2)} layers in every resample, so without an interval"
    return wording.shift(value, low, high)
