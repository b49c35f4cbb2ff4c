"""Edits of the memory: what they achieve, what they leave alone, and what they harm."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, Variable, counted, floats, ints, texts, with_interval
from engram_interp.views import edits
from engram_interp.views.theme import Theme, number, signed

GROUPS = ("own n-gram", "shared row", "later in the text", "untouched")
"""Positions of the texts: the edited n-gram ends there; another n-gram reads an edited row; neither, but a
token before did; no edited row has been read yet."""
CONDITIONS = ("before", "after", "alone", "control")
"""Nothing written; all edits together; this edit alone; the same rows changed at random, all edits."""


def _conditions() -> dict[str, Variable]:
    found = {}
    for name in CONDITIONS:
        found[f"{name}_logprob"] = floats("edit", "nats", f"mean log-probability of the target, {name}")
        found[f"{name}_rank"] = floats("edit", "rank", f"median rank of the target (0 = top), {name}")
    return found


def _gains() -> dict[str, Variable]:
    """What files of earlier versions lack: mean gains, and intervals over edits."""
    gain = floats("", "nats", "mean gain of the target's log-probability, all edits together")
    control = floats("", "nats", "the same of the random control")
    composed = with_interval("composed", floats("", "1", "gain together over the sum of gains alone"))
    found = with_interval("gain", gain) | with_interval("control_gain", control) | composed
    return {name: replace(each, optional=True) for name, each in found.items() if name != "composed"}


def _effects() -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    for name, meaning in (
        ("delta_loss", "change of the loss on the next token"),
        ("kl", "KL(before ‖ after)"),
    ):
        found |= with_interval(name, floats("group", "nats", meaning))
        found |= with_interval(f"control_{name}", floats("group", "nats", f"{meaning}, random control"))
    return found


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EditReport(Result):
    """Success, locality and collateral of edits, each beside a random change of the same rows."""

    kind: ClassVar[str] = "edit_report"
    schema: ClassVar[Schema] = Schema(
        coords={
            "edit": counted("edit", "edit", "edit, counted from 0"),
            "group": texts("group", "where in the texts"),
            "shared": ints("shared", "rows", "edited rows that another n-gram reads"),
        },
        variables={
            "ngram": texts("edit", "text of the edited n-gram"),
            "target": texts("edit", "text of the promoted token"),
            "layers": texts("edit", "memory layers written"),
            "rows": ints("edit", "rows", "rows written"),
            "change_norm": floats("edit", "1", "norm of the change of all rows"),
            "wanted": floats("edit", "logit", "rise of the target's logit, less the mean, asked for"),
            "closed_form": floats("edit", "logit", "rise at the edit's prompt by the closed form alone"),
            "reached": floats("edit", "logit", "rise at the edit's prompt after the search"),
            "occurrences": ints("edit", "reads", "times the n-gram ends in the texts"),
            **_conditions(),
            "composed": floats("", "1", "gain of log-probability together over the sum of gains alone"),
            **_gains(),
            "tokens": ints("group", "tokens", "predicted tokens"),
            **_effects(),
            "shared_reads": ints("shared", "reads", "reads by other n-grams that share so many rows"),
            "shared_kl": floats("shared", "nats", "their mean KL(before ‖ after)"),
            "local_tokens": ints("", "tokens", "positions that no edited row reaches"),
            "local_equal": ints("", "tokens", "of these, positions whose logits kept every bit"),
            "local_documents": ints("", "documents", "documents that read no edited row"),
            "local_documents_equal": ints("", "documents", "of these, documents that kept every bit"),
        },
    )

    def summary(self) -> str:
        """What the edits gain, what stays bit-equal, what they cost others, and whether they compose."""
        data = self.data
        change = {name: float(data[f"{name}_logprob"].mean()) for name in CONDITIONS}
        rank = {name: float(data[f"{name}_rank"].median()) for name in CONDITIONS}
        equal, local = int(data["local_equal"]), int(data["local_tokens"])
        kept = "" if equal == local else f", so {local - equal:,} were moved by something else"
        composed = wording.scalar(data, "composed")
        together = (
            f"; together they gain {number(100 * composed, digits=0)} % of what each gains alone"
            if not math.isnan(composed)
            else ""
        )
        return (
            f"{wording.counted(data.sizes['edit'], 'edit')} of {data.attrs.get('model', 'the model')} "
            f"({wording.basis(data)}): mean log p of the target {number(change['before'])} → "
            f"{number(change['after'])} nats (a random change of the same rows: "
            f"{number(change['control'])}), {_reached(data)}, "
            f"median rank (0 is first) {rank['before']:,.0f} → {rank['after']:,.0f} (control "
            f"{rank['control']:,.0f}){together}; {equal:,} of {local:,} positions that no edited row reaches "
            f"kept every bit{kept}; "
            f"{_cost(data)}."
        )

    def plot(self, *, theme: Theme = "light", show: edits.Show = "success") -> go.Figure:
        """The target's log-probability by edit, or the change of loss elsewhere."""
        return edits.figure(self.data, show=show, theme=theme)


def _reached(data: xr.Dataset) -> str:
    """What was asked of the target's logit and what came of it, mean over edits."""
    reached, wanted = (float(data[name].mean()) for name in ("reached", "wanted"))
    mean = "on average " if data.sizes["edit"] > 1 else ""
    rose = f"{number(reached, digits=2)} of {number(wanted, digits=2)} asked"
    return f"its logit rose {mean}{rose} at the edit's own prompt"


def _cost(data: xr.Dataset) -> str:
    """The price paid by other n-grams that read the same rows."""
    others = data.sel(group="shared row")
    if int(others["tokens"]) == 0:
        return "no other n-gram in the texts reads an edited row, so collateral was not seen"
    value, low, high = (float(others[f"delta_loss{end}"]) for end in ("", "_low", "_high"))
    control = float(others["control_delta_loss"])
    reads = wording.counted(int(others["tokens"]), "read")
    said = f"{reads} by other n-grams change the loss by {signed(value)}"
    if np.isnan(low + high):
        why = wording.why_missing(data["delta_loss_low"])
        return f"{said} nats (control {signed(control)}; no interval: {why})"
    ends = [float(others[f"control_delta_loss{end}"]) for end in ("_low", "_high")]
    beside = f"control {signed(control)} {wording.span(*ends, digits=3)}"
    return f"{said} nats {wording.span(low, high, digits=3)} ({beside})"
