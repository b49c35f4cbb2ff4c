"""The lens grid after an ablation: a difference on a symmetric scale, grey where nothing can reach."""

import numpy as np
import plotly.graph_objects as go
import pytest

from engram_interp.errors import InputError
from engram_interp.views import marks
from engram_interp.views.comparing import runs_by_token
from engram_interp.views.effects import divergence_by_token
from engram_interp.views.lens_change import OUTSIDE, cone_of, grid
from engram_interp.views.theme import LIGHT
from tests.results import samples
from tests.views.test_tokens import ATTACK


def maps(figure: go.Figure) -> dict[str, list[go.Heatmap]]:
    """The heat maps by name, from above."""
    found: dict[str, list[go.Heatmap]] = {}
    for trace in figure.data:
        if isinstance(trace, go.Heatmap):
            found.setdefault(trace.name, []).append(trace)
    return found


def test_both_panels_hold_after_less_before_inside_the_cone_alone() -> None:
    data = samples.ablation_comparison().data
    drawn = maps(grid(data, what="gate_zero"))
    cone = np.zeros((3, 9), dtype=bool)
    cone[1:, 4:] = True
    np.testing.assert_array_equal(cone_of(data), cone)
    before = data["lens_kl"].sel(condition="intact").values
    for name, condition in (
        ("ablated", "ablated"),
        ("control: a change of the same size", "random direction"),
    ):
        after = data["lens_kl"].sel(condition=condition).values
        [panel] = drawn[name]
        np.testing.assert_array_equal(panel.z, np.where(cone, after - before, np.nan))
    for panel in drawn[OUTSIDE]:
        np.testing.assert_array_equal(np.isnan(np.asarray(panel.z, dtype=float)), cone)


def test_one_symmetric_scale_runs_from_blue_to_orange() -> None:
    data = samples.ablation_comparison().data
    axis = grid(data, what="gate_zero").layout.coloraxis
    change = (data["lens_kl"] - data["lens_kl"].sel(condition="intact"))[:, 1:, 4:]
    largest = float(np.abs(change.sel(condition=["ablated", "random direction"])).max())
    assert (axis.cmin, axis.cmax) == (-largest, largest)
    assert [colour for _, colour in axis.colorscale] == [LIGHT.engram, LIGHT.paper, LIGHT.baseline]
    assert axis.colorbar.ticktext[2].startswith("+")


def test_the_tokens_written_to_are_marked_in_both_panels_and_named_once() -> None:
    figure = grid(samples.ablation_comparison().data, what=ATTACK)
    marked = [trace for trace in figure.data if str(trace.name).startswith("changed read")]
    assert [list(trace.x) for trace in marked] == [[4, 7], [4, 7]]
    assert [trace.showlegend for trace in marked] == [True, False]
    assert "<img" not in figure.layout.title.subtitle.text


def test_an_ablation_at_every_token_marks_none_of_them() -> None:
    data = samples.ablation_comparison().data.copy(deep=True)
    data["written"][:], data["first_token"] = True, 0
    figure = grid(data, what="gate_zero")
    assert not [trace for trace in figure.data if str(trace.name).startswith("changed read")]


def test_of_a_long_prompt_the_tokens_around_the_ablated_one_are_drawn_and_that_is_said() -> None:
    data = samples.ablation_comparison().data
    long = data.isel(token=np.arange(180) % 9).assign_coords(token=np.arange(180))
    long["token_index"], long["first_token"] = 100, 100
    figure = grid(long, what="gate_zero")
    [panel] = maps(figure)["ablated"]
    assert list(panel.x) == list(range(94, 94 + marks.TOKENS_AT_MOST))
    subtitle = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "tokens 94 to 141 of 180 are shown" in subtitle
    assert list(figure.layout.xaxis2.tickvals) == list(panel.x)
    bars = divergence_by_token(long, what="gate_zero")
    assert len(bars.data[0].y) == 180 and list(bars.layout.xaxis.range) == [93.5, 141.5]


def test_several_changed_tokens_are_in_sight_and_the_axis_fits_what_is_shown() -> None:
    data = samples.ablation_comparison().data
    long = data.isel(token=np.arange(180) % 9).assign_coords(token=np.arange(180))
    long["token_index"], long["first_token"] = 100, 70
    kl = long["kl"].values.copy()
    kl[:, 150] = 90.0  # out of sight
    long = long.assign(kl=(long["kl"].dims, kl))
    for figure in (divergence_by_token(long, what="gate_zero"), runs_by_token({"A": long, "B": long})):
        assert list(figure.layout.xaxis.range) == [63.5, 111.5]
        assert figure.layout.yaxis.range[1] < 3 * float(np.nanmax(kl[1:, 64:112]))
    assert list(maps(grid(long, what="gate_zero"))["ablated"][0].x) == list(range(64, 112))
    long["first_token"] = 20  # too far away to be shown beside token 100
    assert list(divergence_by_token(long, what="x").layout.xaxis.range) == [93.5, 141.5]


def test_a_comparison_made_earlier_still_opens_and_says_why_it_has_no_grid() -> None:
    result = samples.ablation_comparison()
    lens = ["lens_kl", "lens_logprob", "written", "first_layer", "first_token"]
    earlier = type(result)(data=result.data.drop_vars([*lens, "layer"]))
    assert earlier.plot().data
    assert earlier.unread.startswith("it was made before")
    with pytest.raises(InputError, match=r"made before the lens was kept\. Run ablation\.compare again"):
        earlier.plot(view="lens")
    with pytest.raises(InputError, match="view is one of tokens, lens"):
        result.plot(view="grid")  # type: ignore[arg-type]
