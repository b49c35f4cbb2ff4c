"""Two beside each other: controls stand with each, and one scale is one scale."""

import numpy as np
import plotly.graph_objects as go

from engram_interp.views import comparing
from tests.results import samples


def test_runs_stand_beside_both_controls() -> None:
    data = samples.ablation_comparison().data
    html = comparing.runs_table({"A: <b>": data, "B": data})
    assert html.count("control: random rows") == 2 and html.count("control: random direction") == 2
    assert "A: &lt;b&gt;" in html and "no interval is possible" in html
    figure = comparing.runs_by_token({"A": data, "B": data})
    at = data["kl"].sel(condition="ablated").values
    np.testing.assert_array_equal(figure.data[0].y, at)
    assert len(figure.data) == 4
    assert list(figure.layout.xaxis.range) == [-0.5, 8.5]
    long = data.isel(token=np.arange(180) % 9).assign_coords(token=np.arange(180))
    figure = comparing.runs_by_token({"A": long.assign(token_index=100), "B": long.assign(token_index=120)})
    assert len(figure.data[0].y) == 180 and list(figure.layout.xaxis.range) == [93.5, 141.5]
    assert "all after a double click" in figure.layout.title.subtitle.text.replace("<br>", " ")


def test_one_scale_holds_both_whiskers_and_leaves_named_axes() -> None:
    one = go.Figure(go.Scatter(x=[1.0, 2.0], y=[0, 1], error_x={"array": [0.5, 3.0]}))
    other = go.Figure(go.Scatter(x=[-4.0, 0.0], y=[0, 1], error_x={"array": [1.0, 1.0]}))
    for figure in (one, other):
        figure.update_yaxes(tickvals=[0, 1])
    comparing.on_one_scale([one, other])
    np.testing.assert_allclose(one.layout.xaxis.range, [-5.4, 5.4])
    assert one.layout.xaxis.range == other.layout.xaxis.range
    assert one.layout.yaxis.range is None


def test_an_axis_that_only_one_figure_measures_is_left_alone() -> None:
    one, empty = go.Figure(go.Bar(x=[1.0], y=[2.0])), go.Figure(go.Heatmap(z=[[1.0]]))
    comparing.on_one_scale([one, empty])
    assert one.layout.xaxis.range is None


def test_numbers_of_bundles_come_with_intervals_and_controls() -> None:
    depth = samples.depth().data
    html = comparing.depth_numbers({"one": depth, "two": depth})
    assert "+0.60" in html and "internal control" in html
    effects = samples.ablation_effect().data
    fewer = effects.isel(kind=slice(0, 1))
    html = comparing.effect_numbers({"one": effects, "two": fewer})
    assert html.count("two has no such ablation") >= 1
    assert "next token (nats)" in comparing.loss_numbers({"one": samples.convergence().data})
