"""The figures of an attribution hold its numbers, each beside its control."""

import json

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.views import attribution
from engram_interp.views.theme import LIGHT
from tests.results import memory_samples


def test_bars_stand_over_their_control() -> None:
    data = memory_samples.memory_attribution().data
    bars, control = memory_samples.memory_attribution().plot().data
    np.testing.assert_array_equal(bars.x, data["contribution"].values.ravel())
    np.testing.assert_array_equal(control.x, data["control_contribution"].values.ravel())
    np.testing.assert_allclose(
        control.x + control.error_x.array, data["control_contribution_high"].values.ravel()
    )
    assert len(set(bars.y)) == 12 and (np.asarray(control.y) < np.asarray(bars.y)).all()
    assert "layer 4 · 3-gram · head 1: " in bars.text[10]


def test_the_map_says_the_numbers_that_leave_the_control_only() -> None:
    data = memory_samples.memory_attribution().data
    cells = memory_samples.memory_attribution().plot(view="sources").data[0]
    rows = data.stack(row=("layer", "order", "head"), create_index=False).transpose("row", "source", ...)
    np.testing.assert_array_equal(cells.z, rows["by_source"])
    low, high = (rows[f"control_by_source_{end}"].values for end in ("low", "high"))
    outside = (rows["by_source"].values < low) | (rows["by_source"].values > high)
    assert 0 < outside.sum() < outside.size
    np.testing.assert_array_equal(np.asarray(cells.text) != "", outside)
    assert cells.zmin == -cells.zmax
    assert (
        "read at token 5" in cells.customdata[7][1] and "layer 4 · 2-gram · head 1" in cells.customdata[7][1]
    )


def test_all_parts_are_drawn_and_markup_is_not_obeyed() -> None:
    result = memory_samples.memory_attribution()
    figure = result.plot(view="parts")
    bars, control = figure.data
    np.testing.assert_allclose(bars.x, [*result.data["rest"].values, *result.data["by_layer"].values])
    assert list(figure.layout.yaxis.ticktext)[3:] == ["&lt;b&gt;", "memory, layer 1", "memory, layer 4"]
    assert list(bars.marker.color) == [LIGHT.null] * 4 + [LIGHT.engram] * 2
    assert np.isnan(control.x[:4]).all() and not np.isnan(control.x[4:]).any()
    assert "<img" not in json.dumps(result.plot(view="sources").to_plotly_json(), default=str)


def test_promoted_and_suppressed_tokens_of_one_layer() -> None:
    result = memory_samples.memory_promotion()
    figure = result.plot(layer=4)
    whole = result.data["effect"].sel(layer=4).isel(part=0).values
    np.testing.assert_array_equal(figure.data[0].x, [*whole[0], *whole[1][::-1]])
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    np.testing.assert_allclose([(b.x0, b.x1) for b in bands], [(0.7, 1.0), (-0.8, -0.5)])
    with pytest.raises(InputError, match="Layer 2 reads no memory here; memory layers are 1, 4"):
        result.plot(layer=2)


def test_a_promotion_of_few_tokens_leaves_room_for_its_titles() -> None:
    data = memory_samples.memory_promotion().data
    few = attribution.promotion_bars(data.isel(rank=slice(1)), layer=4)
    assert len(few.data[0].x) == 2
    low, high = few.layout.yaxis.range
    assert high - low == pytest.approx(6.2)  # as many places as a figure of six tokens has
    assert few.layout.yaxis.title.text == "token"


def test_an_unknown_view_lists_the_others() -> None:
    with pytest.raises(InputError, match="view is one of columns, sources, parts; got 'bars'"):
        memory_samples.memory_attribution().plot(view="bars")  # type: ignore[arg-type]
    assert attribution.view_named("parts") is attribution.part_bars
