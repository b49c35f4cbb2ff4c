"""The similarity map and the shift by layer hold the numbers they were given."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest

from engram_interp.errors import InputError
from engram_interp.views import marks, shift, similarity
from engram_interp.views.theme import DARK, LIGHT, exchange
from tests.results import samples


def traces(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def test_the_map_has_engram_layers_across_and_baseline_layers_up() -> None:
    data = samples.depth().data
    figure = similarity.heat_map(data)
    cells = figure.data[0]
    assert np.asarray(cells.z).shape == (5, 7)
    np.testing.assert_array_equal(cells.z, data["cka"].transpose("baseline_layer", "layer"))
    assert list(cells.x) == list(range(7))
    assert list(cells.y) == list(range(5))
    assert float(cells.z[1][3]) == float(data["cka"].sel(layer=3, baseline_layer=1))
    assert figure.layout.xaxis.title.text.startswith("Engram layer (counted from 0")
    assert figure.layout.yaxis.title.text.startswith("baseline layer (counted from 0")


def test_a_dataset_given_the_other_way_round_draws_the_same_map() -> None:
    data = samples.depth().data
    turned = data.assign(cka=data["cka"].transpose("baseline_layer", "layer"))
    np.testing.assert_array_equal(similarity.heat_map(turned).data[0].z, similarity.heat_map(data).data[0].z)


def test_the_colours_are_cividis_from_0_to_1() -> None:
    cells = similarity.heat_map(samples.depth().data).data[0]
    assert (cells.zmin, cells.zmax) == (0, 1)
    assert cells.colorscale[0][1] == "#00224e"


def test_the_alignment_is_cased() -> None:
    data = samples.depth().data
    figure = similarity.heat_map(data)
    line, casing = traces(figure, "alignment")[0], traces(figure, "casing")[-1]
    assert (line.line.width, line.line.dash, line.line.color) == (2.5, "dash", LIGHT.dash)
    assert (casing.line.width, casing.line.color) == (5, LIGHT.casing)
    np.testing.assert_array_equal(line.y, data["path"])
    np.testing.assert_array_equal(traces(figure, "self-reference")[0].y, data["path_self"])
    assert figure.data.index(casing) < figure.data.index(line)


@pytest.mark.parametrize(("alignment", "variable"), [("path", "path"), ("peak", "peak"), ("soft", "depth")])
def test_each_estimate_can_be_drawn(alignment: similarity.Alignment, variable: str) -> None:
    data = samples.depth().data.copy(deep=True)
    data[variable][:] = np.arange(7) / 3
    figure = similarity.heat_map(data, alignment=alignment)
    np.testing.assert_array_equal(traces(figure, "alignment")[0].y, np.arange(7) / 3)


def test_curves_can_be_left_out() -> None:
    figure = similarity.heat_map(samples.depth().data, alignment="none")
    assert not traces(figure, "alignment")
    hidden = similarity.heat_map(samples.depth().data, self_reference="hidden")
    assert not traces(hidden, "self-reference")
    with pytest.raises(InputError, match="alignment is one of path, peak, soft, none; got 'best'"):
        similarity.heat_map(samples.depth().data, alignment="best")  # type: ignore[arg-type]


def test_undefined_cells_are_hatched_with_their_reason() -> None:
    data = samples.depth().data.copy(deep=True)
    data["cka"][2, 3] = np.nan
    data["cka"].attrs["missing"] = "constant <b>activations</b>"
    (hatch,) = traces(similarity.heat_map(data), "n/a")
    assert hatch.fillpattern.shape == "x"
    assert hatch.text == "n/a: constant &lt;b&gt;activations&lt;/b&gt;"
    assert {1.5, 2.5} == {x for x in hatch.x if x is not None}
    assert {2.5, 3.5} == {y for y in hatch.y if y is not None}


def test_edge_layers_are_hatched_and_control_layers_marked() -> None:
    figure = similarity.heat_map(samples.depth().data)
    columns = {x for trace in traces(figure, "edge layers") for x in trace.x if x is not None}
    assert columns == {-0.5, 0.5, 1.5, 4.5, 5.5, 6.5}
    bracket = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (bracket.x0, bracket.x1) == (-0.5, 1.5)
    assert len(traces(figure, marks.CONTROL_NOTE)) == 1  # named in the legend


def test_without_control_nothing_is_marked() -> None:
    data = samples.depth().data
    figure = similarity.heat_map(
        data.assign(pre_memory=data["pre_memory"] & False, edge=data["edge"] & False)
    )
    assert not figure.layout.shapes
    assert not traces(figure, "edge layers")


def test_the_shift_keeps_values_intervals_and_groups_apart() -> None:
    data = samples.depth().data
    figure = shift.forest(data)
    (after, named), (control, _) = (
        traces(figure, "after the first read"),
        traces(figure, "control: before the first read"),
    )
    assert named.showlegend is None and named.marker.symbol == "circle"  # whatever the first layer is
    assert after.showlegend is False and control.showlegend is False
    assert list(control.x) == [0, 1]
    assert list(after.x) == [2, 3, 4, 5, 6]
    np.testing.assert_allclose(after.y, data["path_shift"][2:])
    np.testing.assert_allclose(after.y + after.error_y.array, data["path_shift_high"][2:])
    np.testing.assert_allclose(after.y - after.error_y.arrayminus, data["path_shift_low"][2:])
    assert list(after.marker.symbol) == ["circle"] * 3 + ["circle-open"] * 2
    assert list(control.marker.symbol) == ["diamond-open"] * 2
    assert control.marker.color == LIGHT.null
    assert "shift (layers" in figure.layout.yaxis.title.text


def test_the_headline_is_a_band_over_the_layers_it_speaks_of() -> None:
    figure = shift.forest(samples.depth().data)
    (band,) = traces(figure, "headline interval")
    assert {0.4, 0.8} == {y for y in band.y if y is not None}
    assert (min(x for x in band.x if x is not None), max(x for x in band.x if x is not None)) == (1.6, 4.4)
    assert traces(figure, "headline +0.60 [0.40, 0.80]")


def test_the_headline_belongs_to_the_path_alone() -> None:
    assert not traces(shift.forest(samples.depth().data, estimate="soft"), "headline interval")


def test_without_interval_there_is_a_line_and_no_band() -> None:
    ends = {f"headline_{end}": np.nan for end in ("low", "high")}
    figure = shift.forest(samples.depth(**ends, missing=dict.fromkeys(ends, "few")).data)
    assert not traces(figure, "headline interval")
    assert traces(figure, "headline +0.60 no interval")


def test_an_undefined_shift_is_crossed_with_its_reason() -> None:
    data = samples.depth().data.copy(deep=True)
    data["peak_shift"][3] = np.nan
    data["peak_shift"].attrs["missing"] = "plateau"
    (cross,) = traces(shift.forest(data, estimate="peak"), "undefined")
    assert list(cross.x) == [3]
    assert "n/a: plateau" in cross.hovertemplate


@pytest.mark.parametrize("view", ["similarity", "shift"])
def test_dark_figures_are_light_ones_recoloured(view: str) -> None:
    result = samples.depth()
    light, dark = (result.plot(view=view, theme=theme).to_json() for theme in ("light", "dark"))  # type: ignore[arg-type]
    for one, other in exchange().items():
        light = light.replace(json.dumps(one), json.dumps(other))
    assert json.loads(light) == json.loads(dark)
    assert DARK.paper in dark


def test_many_layers_get_fewer_ticks() -> None:
    assert marks.layer_ticks(np.arange(60)) == {"tick0": 0, "dtick": 5}
    assert marks.runs([7, 1, 2, 0]) == [(0, 2), (7, 7)]
