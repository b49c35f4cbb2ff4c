"""The verdict on one claim: what was measured, beside what, and the word that follows from these numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import plotly.graph_objects as go

from engram_interp.errors import InputError
from engram_interp.results import wording
from engram_interp.results.base import Result
from engram_interp.results.registry import register
from engram_interp.results.schema import Schema, floats, texts, with_interval
from engram_interp.views import verdicts
from engram_interp.views.theme import Theme

Word = Literal["supported", "contradicted", "not resolved at this scale", "not tested"]
Role = Literal["decides", "control", "beside"]
Expects = Literal["above", "below", "within"]
Says = Literal["supports", "contradicts", "open"]
Rule = Literal["views", "parts"]

WORDS: tuple[Word, ...] = get_args(Word)
ROLES: tuple[Role, ...] = get_args(Role)
RULES: dict[Rule, str] = {
    "views": "supported if every deciding measure supports it, contradicted if some contradict it and none "
    "supports it",
    "parts": "supported if every part is, contradicted if any part is",
}
"""How deciding measures make one verdict. Either way a control that fails leaves it not resolved."""

_NO_INTERVAL = "no interval is possible"
_NO_NULL = "nothing stands beside it, or its null has no interval"


def says(
    expects: str, *, low: float, high: float, null: float, null_low: float, null_high: float, margin: float
) -> Says:
    """What one measure says of a claim.

    ``above``: its interval lies wholly above its null (the null's interval, where there is one); wholly below
    contradicts. ``below`` is the mirror image. ``within``: its interval lies within `margin` of the null; one
    wholly farther off contradicts. Whatever lies between, or has no interval or null, leaves the claim open.
    """
    floor, ceiling = (null if math.isnan(end) else end for end in (null_low, null_high))
    if expects not in get_args(Expects) or math.isnan(low + high + floor + ceiling):
        return "open"
    if expects == "within":
        floor, ceiling = floor - margin, ceiling + margin
        if floor <= low and high <= ceiling:
            return "supports"
        return "contradicts" if low > ceiling or high < floor else "open"
    above, below = low > ceiling, high < floor
    if expects == "below":
        above, below = below, above
    return "supports" if above else "contradicts" if below else "open"


def decide(roles: Sequence[str], found: Sequence[str], *, rule: Rule = "views") -> Word:
    """The verdict that follows from what each measure says (`says`), by its role and one of `RULES`.

    Without a deciding measure nothing was tested.

    >>> decide(["decides", "control"], ["supports", "supports"])
    'supported'
    >>> decide(["decides", "control"], ["supports", "open"])
    'not resolved at this scale'
    >>> decide(["decides", "decides"], ["supports", "contradicts"])
    'not resolved at this scale'
    >>> decide(["decides", "decides"], ["supports", "contradicts"], rule="parts")
    'contradicted'
    >>> decide(["beside"], ["open"])
    'not tested'
    """
    pairs = list(zip(roles, found, strict=True))
    deciding = {said for role, said in pairs if role == "decides"}
    if not deciding:
        return "not tested"
    if any(role == "control" and said != "supports" for role, said in pairs):
        return "not resolved at this scale"
    if deciding == {"supports"}:
        return "supported"
    if "contradicts" in deciding and (rule == "parts" or "supports" not in deciding):
        return "contradicted"
    return "not resolved at this scale"


@register
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Verdict(Result):
    """The measures that a verdict rests on; its word must follow from them, or it is refused.

    ``data.attrs`` hold the claim's number and title, ``verdict`` (one of `WORDS`), ``sentence``, ``rule``,
    ``would_change``, ``source``, ``script``, and ``models`` with their digests.
    """

    kind: ClassVar[str] = "verdict"
    schema: ClassVar[Schema] = Schema(
        coords={"measure": texts("measure", "what was measured")},
        variables={
            **with_interval("value", floats("measure", "1", "value, in its unit", missing=_NO_INTERVAL)),
            **with_interval("null", floats("measure", "1", "its control or null", missing=_NO_NULL)),
            "margin": floats("measure", "1", "how far from the null still counts as within it"),
            "unit": texts("measure", "unit of value and null"),
            "compared_with": texts("measure", "what the null is"),
            "role": texts("measure", "decides, control or beside"),
            "expects": texts(
                "measure", "where the claim expects the value: above, below, within, or nowhere"
            ),
            "says": texts("measure", "supports, contradicts or open"),
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        rule, word = str(self.data.attrs.get("rule")), str(self.data.attrs.get("verdict"))
        if rule not in RULES:
            raise InputError(f"A verdict wants a rule, {' or '.join(RULES)}; got {rule!r}.")
        found = [_said(row) for row in self.rows()]
        if found != self.data["says"].values.tolist():
            raise InputError(
                f"What the measures say ({wording.listed(self.data['says'].values)}) does not follow from "
                f"their numbers, which say {wording.listed(found)}; make the verdict with claims.verdict."
            )
        due = decide(self.data["role"].values.tolist(), found, rule="parts" if rule == "parts" else "views")
        if word != due:
            raise InputError(
                f"The verdict {word!r} does not follow from its measures, which give {due!r}; "
                "make it with claims.verdict."
            )

    @property
    def number(self) -> int:
        """The claim's number."""
        return int(self.data.attrs["claim"])

    @property
    def word(self) -> str:
        """One of `WORDS`."""
        return str(self.data.attrs["verdict"])

    def rows(self) -> list[dict[str, Any]]:
        """One mapping a measure: every variable by its name, and the measure's own under ``measure``."""
        names = ["measure", *self.schema.variables]
        columns = [self.data[name].values.tolist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def summary(self) -> str:
        """The verdict in one sentence, with the numbers it rests on."""
        return str(self.data.attrs.get("sentence", wording.NOT_RECORDED))

    def plot(self, *, theme: Theme = "light") -> go.Figure:
        """Every measure with its interval, over its null; one panel a unit."""
        attrs = self.data.attrs
        title = f"Claim {attrs.get('claim')}: {attrs.get('title', '')}"
        return verdicts.measures(
            self.data, title=title, subtitle=f"{self.word}; {attrs.get('scope', '')}", theme=theme
        )


def _said(row: Mapping[str, Any]) -> Says:
    """What a stored measure says."""
    numbers = {name: float(row[name]) for name in ("null", "null_low", "null_high", "margin")}
    return says(str(row["expects"]), low=float(row["value_low"]), high=float(row["value_high"]), **numbers)
