"""One kind of result at several checkpoints of a run: the same numbers with step as their first axis."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.results import registry, wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, ints, texts
from engram_interp.views import training
from engram_interp.views.theme import Theme

_PER_STEP = ("model", "model_digest", "engram", "engram_digest", "created")
"""Attributes that differ from checkpoint to checkpoint, kept along the step axis."""


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Series(Result):
    """Results of one kind along training; ``at(step)`` gives one of them back.

    ``data`` has every variable of the members with ``step`` before its own dims, and ``data.attrs["of"]``
    names their kind.
    """

    kind: ClassVar[str] = "series"
    schema: ClassVar[Schema] = Schema(
        coords={"step": ints("step", "step", "training steps done")},
        variables={
            f"{name}_by_step": replace(texts("step", f"{name} of the result at the step"), optional=True)
            for name in _PER_STEP
        },
    )

    @classmethod
    def of(cls, results: Mapping[int, Result]) -> "Series":
        """Results by step.

        Raises:
            InputError: If there is none, or they are of several kinds, or differ in layers, prompts or sizes.
        """
        kinds = sorted({result.kind for result in results.values()})
        if len(kinds) != 1 or kinds == [cls.kind]:
            raise InputError(f"A series wants results of one kind, got {', '.join(kinds) or 'none'}.")
        steps = sorted(results)
        members = [results[step].data for step in steps]
        for step, member in zip(steps, members, strict=True):
            _check_same(members[0], member, steps[0], step)
        axis = xr.DataArray(np.asarray(steps), dims="step", name="step")
        data = xr.concat(
            [member.drop_vars([n for n in member.variables if n == "step"]) for member in members],
            dim=axis,
            data_vars="all",
            coords="minimal",
            compat="override",
            join="exact",
            combine_attrs="drop_conflicts",
        )
        for name in _PER_STEP:
            if all(name in member.attrs for member in members):
                data[f"{name}_by_step"] = ("step", np.asarray([str(m.attrs[name]) for m in members]))
        return cls(data=data.assign_attrs(kind=cls.kind, of=kinds[0]))

    @property
    def steps(self) -> list[int]:
        """The steps, rising."""
        steps: list[int] = self.data["step"].values.tolist()
        return steps

    def at(self, step: int) -> Result:
        """The result at one step.

        Raises:
            InputError: If there is none at that step.
        """
        if step not in self.steps:
            raise InputError(f"This series has the steps {wording.listed(self.steps)}, got {step}.")
        found = registry.find(str(self.data.attrs["of"]))
        assert found is not None
        data = self.data.sel(step=step, drop=True)
        own = {name: str(data[f"{name}_by_step"].item()) for name in _PER_STEP if f"{name}_by_step" in data}
        data = data.drop_vars([f"{name}_by_step" for name in own])
        attrs = {name: value for name, value in data.attrs.items() if name != "of"}
        data.attrs = attrs | own | {"kind": found.kind}
        return found(data=data)

    def summary(self) -> str:
        """What the first and the last result say."""
        first, last = self.steps[0], self.steps[-1]
        said = (
            f"{wording.counted(len(self.steps), 'checkpoint')}; at step {first:,}: {self.at(first).summary()}"
        )
        return said if first == last else f"{said} At step {last:,}: {self.at(last).summary()}"

    def plot(self, *, theme: Theme = "light", variable: str | None = None) -> go.Figure:
        """One variable of the members by step, a line for every place on its one other axis.

        Raises:
            InputError: If no such variable has step and at most one other axis.
        """
        known = [
            str(name)
            for name, array in self.data.data_vars.items()
            if array.dtype.kind in "fiub" and array.dims[0] == "step" and array.ndim <= 2
            if not str(name).endswith(("_low", "_high"))
        ]
        chosen = known[0] if variable is None and known else variable
        if chosen not in known:
            raise InputError(
                f"{chosen!r} cannot be drawn by step; {wording.listed(known) or 'nothing here'} can be."
            )
        return training.lines_by_step(self.data, variable=str(chosen), theme=theme)


def _check_same(first: xr.Dataset, other: xr.Dataset, step: int, later: int) -> None:
    if first.sizes != other.sizes or set(first.variables) != set(other.variables):
        raise InputError(
            f"The results at steps {step} and {later} differ in their sizes or variables "
            f"({dict(first.sizes)}, {dict(other.sizes)}); analyse every checkpoint on the same prompts."
        )
    for name in first.coords:
        if not np.array_equal(first[name].values, other[name].values):
            raise InputError(
                f"The results at steps {step} and {later} differ in {name}; analyse every checkpoint on the "
                "same prompts and layers."
            )
    digests = [data.attrs.get("text_digest") for data in (first, other)]
    if digests[0] != digests[1]:
        raise InputError(
            f"The results at steps {step} and {later} are of different texts; analyse every checkpoint on "
            "the same ones."
        )
