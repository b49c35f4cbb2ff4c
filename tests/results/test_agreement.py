"""The sentence on agreement says no more than the three intervals allow."""

import itertools
import math

import plotly.graph_objects as go
import pytest

from engram_interp.results import agreement
from engram_interp.results.agreement import View
from engram_interp.views import agreement as figures
from tests.results import samples

NAN = (math.nan, math.nan, math.nan)
UP, DOWN, AROUND = (0.8, 0.5, 1.1), (-0.8, -1.1, -0.5), (0.1, -0.2, 0.4)
BARE = (0.8, math.nan, math.nan)
SMALL = (0.1, 0.0, 0.2)
NAMES = ("similarity", "prediction", "function")


def made(*shifts: tuple[float, float, float], control: tuple[float, float, float] = SMALL) -> list[View]:
    return [
        View(name=name, how="made up", shift=shift, control=control, why="12 documents")
        for name, shift in zip(NAMES, shifts, strict=False)
    ]


@pytest.mark.parametrize("shifts", list(itertools.product((UP, DOWN, AROUND, BARE, NAN), repeat=3)))
def test_agree_is_said_only_when_every_interval_lies_on_one_side(
    shifts: tuple[tuple[float, float, float], ...],
) -> None:
    found = made(*shifts)
    verdict = agreement._verdict(found)
    one_side = set(shifts) in ({UP}, {DOWN})
    assert ("All views agree" in verdict) == one_side
    assert ("Every interval includes 0" in verdict) == (set(shifts) == {AROUND})
    claimed = "do what later baseline layers do" in agreement._conclusion(found)
    assert claimed == (set(shifts) == {UP})


def test_nothing_is_claimed_within_the_control() -> None:
    found = made(UP, UP, UP, control=(0.6, 0.2, 1.0))
    assert "no claim of depth" in agreement._conclusion(found)
    assert "no claim of depth" in agreement._conclusion(made(UP, UP, UP, control=NAN))


def test_one_view_is_a_picture() -> None:
    assert "one alone is a picture" in agreement._verdict(made(UP))
    assert "not shown" in agreement._conclusion(made(UP, UP))


def test_a_view_without_interval_is_named() -> None:
    assert "no interval for prediction" in agreement._verdict(made(UP, BARE, UP))


def test_the_figure_has_a_row_for_each_view() -> None:
    figure = figures.forest(NAMES, [UP, BARE, NAN], [SMALL, SMALL, NAN])
    assert isinstance(figure, go.Figure)
    after, before = figure.data
    assert list(after.x)[:2] == [0.8, 0.8] and math.isnan(after.x[2])
    assert after.text[1] == "+0.80 layers no interval" and after.text[2] == "n/a"
    assert list(figure.layout.yaxis.ticktext) == ["function", "prediction", "similarity"]
    assert before.name == "control: before it"


NOT_SHOWN = "Memory is not shown to make this network effectively deeper"


@pytest.mark.parametrize(
    ("shifts", "control", "begins"),
    [
        (
            (UP,),
            SMALL,
            f"{NOT_SHOWN}: prediction and function were",
        ),
        ((UP, UP), SMALL, f"{NOT_SHOWN}: function was not"),
        ((UP, DOWN, UP), SMALL, "Memory is not shown to make this network effectively deeper. The views do"),
        ((UP, BARE, UP), SMALL, "Memory is not shown to make this network effectively deeper. Whether the"),
        ((UP, UP, UP), (0.6, 0.2, 1.0), "By similarity, prediction and function the shift does not exceed"),
        (
            (UP, UP, UP),
            SMALL,
            "By similarity, prediction and function these layers do what later",
        ),
    ],
)
def test_the_verdict_stands_alone(
    monkeypatch: pytest.MonkeyPatch,
    shifts: tuple[tuple[float, float, float], ...],
    control: tuple[float, float, float],
    begins: str,
) -> None:
    monkeypatch.setattr(agreement, "views", lambda *_, **__: made(*shifts, control=control))
    said = agreement.verdict(samples.depth(), None, None)
    assert said.startswith(begins)
    assert "those residuals" not in said and "They " not in said
    if control != SMALL:
        assert "what the residuals before the first memory read show" in said
