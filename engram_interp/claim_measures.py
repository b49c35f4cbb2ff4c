"""One number of a verdict, with its interval, its null, and where a claim expects it to lie."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import xarray as xr

from engram_interp.errors import InputError
from engram_interp.results.verdict import Expects, Role, says
from engram_interp.views.theme import number

_DIGITS = {"layers": 2, "nats": 3, "%": 1}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a verdict, with its interval and what it is read against.

    Attributes:
        label: What was measured, in a few words.
        value: The number; NaN if undefined.
        low: Lower end of its 95 % interval; NaN where none is possible, which leaves the claim open.
        high: Upper end.
        unit: Of value and null: "layers", "nats", "%", "1" for none, ….
        null: What the control, null or threshold gives; 0 for a difference. NaN where nothing stands
            beside it.
        null_low: Lower end of the null's interval; NaN if it has none.
        null_high: Upper end.
        compared_with: What the null is.
        expects: Where the claim expects the value: "above", "below", or "within" `margin` of the null
            (see `results.verdict.says`); empty for one that only stands beside the others.
        margin: For "within", in the unit.
        role: "decides"; "control", which must hold before anything is said in either direction; "beside".
    """

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = "1"
    null: float = math.nan
    null_low: float = math.nan
    null_high: float = math.nan
    compared_with: str = ""
    expects: Expects | Literal[""] = ""
    margin: float = 0.0
    role: Role = "decides"

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "null", "null_low", "null_high", "margin"):
            object.__setattr__(self, name, float(getattr(self, name)))  # counts may be given as whole numbers
        if self.role != "beside" and self.expects not in ("above", "below", "within"):
            raise InputError(
                f"The measure {self.label!r} {self.role} and wants expects to be above, below or within, got "
                f'{self.expects!r}; role="beside" is for one that says nothing of the claim.'
            )
        if (self.expects == "within") != (self.margin > 0):
            raise InputError(
                f"The measure {self.label!r} wants a margin above 0 where it expects to be within, and none "
                f"otherwise; got {self.margin} with {self.expects!r}."
            )
        for low, high in ((self.low, self.high), (self.null_low, self.null_high)):
            if low > high or math.isnan(low) != math.isnan(high):
                raise InputError(f"The measure {self.label!r} has an interval from {low} to {high}.")

    @classmethod
    def of(cls, data: xr.Dataset, name: str, *, null: str | float = math.nan, **facts: Any) -> Self:
        """A measure read off a result: value, interval and unit of a variable, and of its null.

        Args:
            data: A result's data, selected until the variable is one number.
            name: The variable; ``name_low`` and ``name_high`` are its interval, where there is one.
            null: Another variable, or a number.
            facts: The rest, as above; what is given here comes first.

        Raises:
            InputError: If the variable is not there or is no single number.
        """
        read = dict(zip(("value", "low", "high"), _bounds(data, name), strict=True))
        if isinstance(null, str):
            read |= dict(zip(("null", "null_low", "null_high"), _bounds(data, null), strict=True))
        else:
            read["null"] = null
        return cls(**{"unit": str(data[name].attrs.get("units", "1"))} | read | facts)

    def says(self) -> str:
        """What it says of the claim: "supports", "contradicts" or "open"."""
        return says(
            self.expects,
            low=self.low,
            high=self.high,
            null=self.null,
            null_low=self.null_low,
            null_high=self.null_high,
            margin=self.margin,
        )

    def said(self) -> str:
        """The measure as part of a sentence: label, value, interval, null."""
        if math.isnan(self.value):
            return f"{self.label}: undefined"
        text = f"{self.label} {self._number(self.value)}{self._unit()}{self._span(self.low, self.high)}"
        if math.isnan(self.null):
            return text
        beside = f"{self.compared_with or 'null'} {self._number(self.null)}"
        beside += "" if math.isnan(self.null_low) else self._span(self.null_low, self.null_high)
        return f"{text} ({beside}{f' ± {self._number(self.margin)}' if self.margin else ''})"

    def _number(self, value: float) -> str:
        return number(value, digits=0 if abs(value) >= 100 else _DIGITS.get(self.unit, 3))

    def _unit(self) -> str:
        return "" if self.unit == "1" else f" {self.unit}"

    def _span(self, low: float, high: float) -> str:
        if math.isnan(low):
            return " (no interval)"
        if low == high:
            return ""  # counted, not estimated
        return f" [{self._number(low)}, {self._number(high)}]"


def _bounds(data: xr.Dataset, name: str) -> tuple[float, float, float]:
    """Value and interval of a variable that is one number; NaN for ends that it does not have."""
    if name not in data or data[name].ndim:
        what = f"has the dims {data[name].dims}; select one" if name in data else "is not there"
        raise InputError(f"A measure wants the variable {name!r} to be one number; it {what}.")
    low, high = (float(data[end]) if (end := f"{name}{e}") in data else math.nan for e in ("_low", "_high"))
    return float(data[name]), low, high
