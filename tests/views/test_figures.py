"""Lens curves, gates, token maps and ablations hold the numbers they were given."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from engram_interp.errors import InputError
from engram_interp.views import curves, effects, gates, token_maps
from engram_interp.views.theme import DARK, LIGHT, exchange
from tests.results import samples
from tests.views.test_tokens import ATTACK


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(item for item in figure.data if item.name == name)


def test_lens_curves_of_different_length_stand_in_one_figure() -> None:
    engram, baseline = samples.convergence(6), samples.convergence(8, height=8.5, model="without")
    figure = engram.plot(baseline=baseline)
    blue, red = trace(figure, "with-memory"), trace(figure, "without")
    np.testing.assert_array_equal(blue.y, engram.data["kl"])
    np.testing.assert_array_equal(red.y, baseline.data["kl"])
    assert (blue.line.dash, blue.line.color) == ("solid", LIGHT.engram)
    assert (red.line.dash, red.line.color) == ("dash", LIGHT.baseline)
    band = trace(figure, "with-memory interval")
    np.testing.assert_array_equal(
        band.y, [*engram.data["kl_low"].values, *engram.data["kl_high"].values[::-1]]
    )
    assert figure.layout.yaxis.title.text == "KL(final ‖ layer) (nats)"
    assert [shape.x0 for shape in figure.layout.shapes] == [1, 3]
    assert list(figure.layout.xaxis.tickvals) == list(range(8))


def test_a_log_scale_leaves_zero_out_and_says_so() -> None:
    figure = samples.convergence().plot(scale="log")
    assert np.isnan(trace(figure, "with-memory").y[-1])
    assert "zeros are not drawn" in figure.layout.title.subtitle.text
    assert len(trace(figure, "with-memory interval").x) == 10


def test_a_missing_interval_leaves_a_gap_in_the_band() -> None:
    data = samples.convergence(6).data.copy(deep=True)
    data["kl_low"][2] = np.nan
    figure = curves.lens_curves(data, names=("<b>", ""))
    bands = [item for item in figure.data if item.name == "&lt;b&gt; interval"]
    assert [len(band.x) for band in bands] == [4, 6]


@pytest.mark.parametrize("quantity", ["kl", "entropy", "next_loss", "agreement"])
def test_every_quantity_can_be_drawn(quantity: curves.Quantity) -> None:
    result = samples.convergence()
    np.testing.assert_array_equal(
        trace(result.plot(quantity=quantity), "with-memory").y, result.data[quantity]
    )


def test_an_unknown_quantity_lists_the_others() -> None:
    with pytest.raises(InputError, match="quantity is one of kl, entropy, next_loss, agreement"):
        samples.convergence().plot(quantity="loss")  # type: ignore[arg-type]


def test_gate_ranges_stand_over_the_null_row_by_row() -> None:
    data = samples.gate_statistics().data
    figure = gates.gate_quantiles(data)
    measured = trace(figure, "measured")
    np.testing.assert_array_equal(measured.x, data["mean"].values.ravel())
    np.testing.assert_allclose(measured.error_x.array, 0.02)
    thin = trace(figure, "q05–q95")
    np.testing.assert_array_equal(np.asarray(thin.x).reshape(6, 3)[:, 1], data["q95"].values.ravel())
    assert list(figure.layout.yaxis.ticktext)[4] == "layer 4 · stream 1"
    assert figure.layout.yaxis.tickvals[4] == measured.y[4]
    band = trace(figure, "null: untrained, 5–95 %")
    assert {0.2, 0.8} == {x for x in band.x if x is not None}
    assert tuple(figure.layout.xaxis.range) == (0, 1)


def test_an_absent_null_is_said() -> None:
    figure = gates.gate_quantiles(samples.gate_statistics().data, null="queries permuted")
    assert "no queries permuted null: queries cannot be permuted" in figure.layout.annotations[0].text
    assert [item.name for item in figure.data][-1] == "measured"


def test_gate_densities_have_one_panel_a_layer_and_stream() -> None:
    data = samples.gate_statistics().data
    figure = gates.gate_densities(data)
    measured = [item for item in figure.data if item.name == "measured"]
    assert len(measured) == 6
    np.testing.assert_array_equal(measured[4].y, data["density"].values[1, 1])
    nulls = {item.name for item in figure.data} - {"measured"}
    assert nulls == {"null: untrained", "null: rows permuted"}
    assert sum(item.showlegend for item in figure.data) == 3


def test_the_gate_matrix_cuts_the_padding_only() -> None:
    data = samples.gate_reading().data
    figure = token_maps.gate_matrix(data, prompt=1)
    cells = figure.data[0]
    assert np.asarray(cells.z).shape == (6, 4)
    np.testing.assert_array_equal(cells.z[4], data["gate"].sel(prompt=1, layer=4, stream=1)[:4])
    assert (cells.zmin, cells.zmax) == (0, 1)
    assert cells.colorscale[1][1] == LIGHT.gate
    with pytest.raises(InputError, match="no prompt 2; there are 0, 1"):
        token_maps.gate_matrix(data, prompt=2)


def test_the_lens_map_shows_tokens_and_never_obeys_them() -> None:
    data = samples.lens_table().data
    figure = token_maps.lens_map(data)
    np.testing.assert_array_equal(figure.data[0].z, data["kl"])
    assert "token 4: &lt;img␣src=x" in figure.data[0].text[0][4]
    assert figure.layout.xaxis.ticktext[4] == "&lt;img␣src=x␣on…"
    assert "<img" not in json.dumps(figure.to_plotly_json(), default=str)


def test_long_texts_have_no_tick_labels() -> None:
    figure = token_maps.lens_map(samples.lens_table(60).data)
    assert figure.layout.xaxis.ticktext is None
    assert np.asarray(figure.data[0].z).shape == (4, 60)


def test_shares_are_drawn_on_a_symmetric_scale() -> None:
    data = samples.slot_lookup().data
    figure = token_maps.share_map(data, layer=4)
    cells = figure.data[0]
    np.testing.assert_array_equal(cells.z, data["share"].sel(layer=4).transpose("column", "token"))
    assert cells.zmin == -cells.zmax
    assert figure.layout.yaxis.ticktext[4] == "3-gram · head 1"
    with pytest.raises(InputError, match="Layer 2 reads no memory here; memory layers are 1, 4"):
        token_maps.share_map(data, layer=2)


@pytest.mark.parametrize("effect", ["delta_loss", "kl"])
def test_every_ablation_stands_beside_its_control(effect: effects.Effect) -> None:
    data = samples.ablation_effect().data
    figure = effects.effect_forest(data, effect=effect)
    ablated, control = trace(figure, "ablation"), trace(figure, "random control")
    np.testing.assert_array_equal(ablated.x, data[effect])
    np.testing.assert_array_equal(control.x, data[f"control_{effect}"])
    np.testing.assert_allclose(ablated.x + ablated.error_x.array, data[f"{effect}_high"])
    assert list(figure.layout.yaxis.ticktext) == ["gate_zero", "rows_zero", "output_off"]
    assert all(a > b for a, b in zip(ablated.y, control.y, strict=True))


def test_divergence_by_token_holds_both_conditions() -> None:
    data = samples.ablation_comparison().data
    figure = effects.divergence_by_token(data, what=ATTACK)
    np.testing.assert_array_equal(trace(figure, "ablated").y, data["kl"].sel(condition="ablated"))
    np.testing.assert_array_equal(trace(figure, "random rows").y, data["kl"].sel(condition="random rows"))
    assert "<img" not in figure.layout.title.subtitle.text
    assert "&lt;img" in figure.layout.title.subtitle.text
    marked = next(item for item in figure.data if str(item.name).startswith("changed read"))
    np.testing.assert_array_equal(marked.x, [4, 7])
    assert min(marked.y) > float(data["kl"].max())


@pytest.mark.parametrize("name", sorted(samples.every_kind()))
def test_every_figure_has_units_and_a_dark_twin(name: str) -> None:
    result = samples.every_kind()[name]
    light, dark = (result.plot(theme=theme) for theme in ("light", "dark"))
    for axis in (light.layout.xaxis, light.layout.yaxis):
        assert any(mark in axis.title.text for mark in ("(", "·", "ablation"))
    text = light.to_json()
    for one, other in exchange().items():
        text = text.replace(json.dumps(one), json.dumps(other))
    assert json.loads(text) == json.loads(dark.to_json())
    assert dark.layout.template.layout.paper_bgcolor == DARK.paper
