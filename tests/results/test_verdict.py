"""The word of a verdict follows from its measures, whichever way they lie, and from nothing else."""

import json
import math
from pathlib import Path

import pytest

from engram_interp import claims
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.results import Verdict
from engram_interp.results.storage import write
from engram_interp.results.verdict import Rule, decide, says
from engram_interp.views.theme import exchange
from tests.claim_samples import verdict

NAN = math.nan


def said(expects: str, low: float, high: float, **changes: float) -> str:
    numbers = {"null": 0.5, "null_low": NAN, "null_high": NAN, "margin": 0.0} | changes
    return says(expects, low=low, high=high, **numbers)


@pytest.mark.parametrize(
    ("low", "high", "above"),
    [(0.51, 0.9, "supports"), (0.1, 0.49, "contradicts"), (0.4, 0.6, "open"), (NAN, NAN, "open")],
)
def test_above_and_below_are_mirror_images(low: float, high: float, above: str) -> None:
    mirror = {"supports": "contradicts", "contradicts": "supports", "open": "open"}
    assert said("above", low, high) == above
    assert said("below", low, high) == mirror[above]
    assert said("below", 1 - high, 1 - low) == above


def test_the_interval_of_a_null_must_be_passed_too() -> None:
    assert said("above", 0.6, 0.9, null_low=0.3, null_high=0.7) == "open"
    assert said("above", 0.71, 0.9, null_low=0.3, null_high=0.7) == "supports"
    assert said("above", 0.1, 0.29, null_low=0.3, null_high=0.7) == "contradicts"
    assert said("above", 0.6, 0.9, null=NAN) == "open"


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.45, 0.58, "supports"), (0.45, 0.62, "open"), (0.61, 0.7, "contradicts"), (0.2, 0.39, "contradicts")],
)
def test_within_a_margin_no_difference_can_be_supported(low: float, high: float, word: str) -> None:
    assert said("within", low, high, margin=0.1) == word


def test_a_measure_that_expects_nothing_says_nothing() -> None:
    assert said("", 0.6, 0.9) == "open"


@pytest.mark.parametrize(
    ("deciding", "controls", "views", "parts"),
    [
        (["supports", "supports"], ["supports"], "supported", "supported"),
        (["supports", "open"], ["supports"], "not resolved at this scale", "not resolved at this scale"),
        (["supports", "contradicts"], [], "not resolved at this scale", "contradicted"),
        (["contradicts", "open"], [], "contradicted", "contradicted"),
        (["contradicts"], ["open"], "not resolved at this scale", "not resolved at this scale"),
        (["supports"], ["contradicts"], "not resolved at this scale", "not resolved at this scale"),
        (["open"], [], "not resolved at this scale", "not resolved at this scale"),
        ([], ["supports"], "not tested", "not tested"),
    ],
)
def test_every_word_can_be_reached(deciding: list[str], controls: list[str], views: str, parts: str) -> None:
    roles = ["decides"] * len(deciding) + ["control"] * len(controls) + ["beside"]
    rules: list[tuple[Rule, str]] = [("views", views), ("parts", parts)]
    for rule, word in rules:
        assert decide(roles, [*deciding, *controls, "open"], rule=rule) == word


def test_a_word_that_does_not_follow_is_refused(tmp_path: Path) -> None:
    made = verdict()
    assert made.word == "contradicted"
    for change, words in (
        (
            {"verdict": "supported"},
            "'supported' does not follow from its measures, which give 'contradicted'",
        ),
        ({"rule": "hand"}, "wants a rule, views or parts; got 'hand'"),
    ):
        data = made.data.assign_attrs(change)
        with pytest.raises(InputError, match=words):
            Verdict(data=data)
        write(data, tmp_path / "claim-04.nc")
        with pytest.raises(DamagedFileError, match="does not fit its kind"):
            Verdict.load(tmp_path / "claim-04.nc")


def test_numbers_changed_afterwards_are_noticed() -> None:
    data = verdict().data.copy(deep=True)
    data["value_low"][0] = -9.0
    with pytest.raises(
        InputError, match="does not follow from their numbers, which say open, open, supports"
    ):
        Verdict(data=data)


def test_the_figure_has_a_panel_for_every_unit_and_tells_controls_apart() -> None:
    figure = verdict().plot()
    titles = {figure.layout[name].title.text for name in ("xaxis", "xaxis2", "xaxis3")}
    assert titles == {"nats", "layers", "no unit"}
    names = {trace.name for trace in figure.data}
    assert names == {"its null", "decides", "control that must hold", "told beside it"}
    hovers = " ".join(text for trace in figure.data for text in trace.text or ())
    assert (
        "measured 0.050 (95 % 0.040 to 0.060)<br>no difference 0.000 (no interval)<br>contradicts" in hovers
    )
    text = figure.to_json()
    for one, other in exchange().items():
        text = text.replace(json.dumps(one), json.dumps(other))
    assert json.loads(text) == json.loads(verdict().plot(theme="dark").to_json())


def test_nothing_measured_is_drawn_and_said() -> None:
    made = claims.verdict(13, [], scope="on nothing")
    assert made.word == "not tested"
    assert made.summary() == "Claim 13, a U-shaped split between experts and memory, on nothing: not tested."
    assert "nothing was measured" in made.plot().to_json()
