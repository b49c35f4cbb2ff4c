"""Colours keep their contrast and can be exchanged; numbers are written one way."""

from dataclasses import fields

import pytest

from engram_interp.views.theme import (
    DARK,
    LIGHT,
    PLOTLY_CONFIG,
    Palette,
    contrast,
    exchange,
    layer_title,
    mix,
    number,
    signed,
    template,
    text_on,
)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_text_and_lines_can_be_read(colours: Palette) -> None:
    assert contrast(colours.ink, colours.paper) >= 7
    assert contrast(colours.muted, colours.paper) >= 4.5
    for line in (colours.engram, colours.baseline, colours.gate, colours.null):
        assert contrast(line, colours.paper) >= 3


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_text_on_every_gate_chip_can_be_read(colours: Palette) -> None:
    for step in range(21):
        ground = mix(colours.paper, colours.gate, step / 20)
        assert contrast(text_on(ground), ground) >= 4.5


def test_light_and_dark_can_be_exchanged_without_loss() -> None:
    pairs = exchange()
    kept = {getattr(LIGHT, field.name) for field in fields(Palette)} - set(pairs)
    assert len(set(pairs.values())) == len(pairs)
    assert not kept & set(pairs.values())


def test_mixing_goes_from_one_end_to_the_other() -> None:
    assert mix("#000000", "#ff8040", 0) == "#000000"
    assert mix("#000000", "#ff8040", 1) == "#ff8040"
    assert mix("#000000", "#ff8040", 0.5) == "#804020"


@pytest.mark.parametrize(
    ("value", "plain", "difference"),
    [
        (1.23456, "1.235", "+1.235"),
        (-0.5, "−0.500", "−0.500"),
        (0.0, "0.000", "0.000"),
        (-0.0001, "0.000", "0.000"),
        (0.0001, "0.000", "0.000"),
        (12345.6, "12,345.600", "+12,345.600"),
        (float("nan"), "—", "—"),
        (float("inf"), "∞", "+∞"),
        (float("-inf"), "−∞", "−∞"),
    ],
)
def test_numbers_are_written_one_way(value: float, plain: str, difference: str) -> None:
    assert number(value) == plain
    assert signed(value) == difference


def test_layer_axes_say_where_counting_starts() -> None:
    assert layer_title() == "layer (counted from 0; the paper counts from 1)"
    assert layer_title("Engram") == "Engram layer (counted from 0; the paper counts from 1)"


def test_templates_differ_in_colour_alone() -> None:
    light, dark = (template(theme).to_plotly_json()["layout"] for theme in ("light", "dark"))
    swapped = exchange()

    def recoloured(value: object) -> object:
        if isinstance(value, str):
            return swapped.get(value, value)
        if isinstance(value, dict):
            return {key: recoloured(inner) for key, inner in value.items()}
        return [recoloured(inner) for inner in value] if isinstance(value, list | tuple) else value

    assert recoloured(light) == recoloured(dark)
    assert light != dark


def test_nothing_is_offered_for_upload() -> None:
    assert PLOTLY_CONFIG["showSendToCloud"] is False
    assert PLOTLY_CONFIG["displaylogo"] is False
