"""Pieces that the explorer shows and a notebook draws: predictions, headlines, rows of gates, one token."""

import math
import re

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.views import gates, headlines, predictions, strips
from tests.results import samples


def test_predictions_stand_side_by_side_on_one_scale() -> None:
    data = samples.ablation_comparison().data
    html = predictions.columns(data, run="Run A")
    assert re.findall(r'aria-label="([^"]+)"', html)[0] == "Run A · Memory on"
    assert html.count("<section") == data.sizes["condition"]
    full = math.exp(float(data["logprob"].max()))
    shares = [float(share) for share in re.findall(r"--share:([\d.]+)", html)]
    assert max(shares) == 1.0
    assert shares[0] == pytest.approx(math.exp(float(data["logprob"][0, 0])) / full, abs=1e-4)
    assert "<b>" not in re.sub(r"<b>[\d.—]+</b>", "", html) and "&lt;b&gt;" in html


def test_the_intact_prediction_is_that_of_the_last_layer() -> None:
    data = samples.lens_table().data
    html = predictions.intact(data, token=3)
    probability = math.exp(float(data["top_logprob"].isel(layer=-1, rank=0).sel(token=3)))
    assert f"<b>{probability:.3f}</b>" in html


def test_a_missing_number_says_why_in_its_place() -> None:
    nan = float("nan")
    why = {
        "headline": "no layer is left",
        "cka": "one token",
        "path_shift": "a constant row",
        "path_self": "no path",
    }
    layers = np.full(7, nan)
    data = samples.depth(
        headline=nan, cka=np.full((7, 5), nan), path_shift=layers, path_self=layers, missing=why
    ).data
    assert "undefined: no layer is left" in headlines.headline(data)
    html = headlines.cell(data, layer=3, baseline_layer=2)
    assert html.count('<b class="engram">—</b>') == 2
    assert "undefined: one token" in html and "undefined: a constant row" in html
    assert "where the self-reference lies is undefined (no path)" in html
    with pytest.raises(InputError, match="alignment"):
        headlines.cell(data, layer=3, baseline_layer=2, alignment="none")


def test_rows_of_gates_are_all_streams_one_of_them_or_what_they_come_to() -> None:
    gate = samples.gate_reading().data["gate"].sel(prompt=0)
    assert [row.name for row in strips.gate_rows(gate)][:2] == ["layer 1 · stream 0", "layer 1 · stream 1"]
    [first, second] = strips.gate_rows(gate, rows=2)
    assert (first.name, second.layer) == ("layer 1 · stream 2", 4)
    np.testing.assert_array_equal(second.values, gate.sel(layer=4, stream=2))
    np.testing.assert_array_equal(
        strips.gate_rows(gate, rows="max")[1].values, gate.sel(layer=4).max("stream")
    )
    assert strips.gate_rows(gate.isel(stream=[0]))[0].name == "layer 1"
    with pytest.raises(InputError, match="or a stream of 0, 1, 2; got 3"):
        strips.gate_rows(gate, rows=3)
    assert strips.gate_strip(samples.gate_reading().data, rows=2).count('class="row-name"') == 2


def test_one_token_s_gate_is_marked_in_the_row_it_belongs_to() -> None:
    data = samples.gate_statistics().data
    gate = data["mean"] + 0.01
    figure = gates.quantiles_with_token(data, gate, token=3)
    *others, mark = figure.data
    assert mark.name == "token 3" and len(others) == len(gates.gate_quantiles(data).data)
    where = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    found = {where[y]: x for x, y in zip(mark.x, mark.y, strict=True)}
    for layer in data["layer"].values:
        for stream in data["stream"].values:
            wanted = float(gate.sel(layer=layer, stream=stream))
            assert found[f"layer {layer} · stream {stream}"] == pytest.approx(wanted)
    other = gates.quantiles_with_token(data, gate.isel(layer=[0]), token=3)
    assert len(other.data) == len(others)
