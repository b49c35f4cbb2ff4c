"""Compare: two bundles side by side, on the same axes, and what cannot be compared."""

import shutil
from pathlib import Path

import numpy as np

from engram_interp.results import write_bundle
from tests.apps.helpers import Start, charts, figures, parts, written
from tests.results import samples


def test_compare_sets_two_bundles_beside_each_other(start: Start, bundle: Path, tmp_path: Path) -> None:
    parts_without_names = {"depth": parts()["depth"], "ablation": parts()["ablation"]}
    write_bundle(tmp_path / "other.engram", parts_without_names)
    app = start(bundle, tmp_path, page="compare", part="ablation")
    text = written(app)
    assert "What each ablation costs, each beside its random control." in text
    assert "A: made-up" in text and "B: other" in text and figures(app) == 3
    assert "No interval of the difference is given" in text
    assert "B has no gates for “0”." in text
    app.selectbox(key="compared part").set_value("depth").run()
    assert "Depth, each bundle beside its own control." in written(app)
    assert app.query_params["with"] == "other" and app.query_params["part"] == "depth"


def test_compare_draws_both_on_the_same_axes_unless_told_otherwise(
    start: Start, bundle: Path, tmp_path: Path
) -> None:
    costly = samples.ablation_effect(delta_loss=np.array([4.0, 3.0, 2.0]))
    other = write_bundle(tmp_path / "other.engram", parts() | {"ablation": costly})
    app = start(bundle, other, page="compare", b="made-up", part="ablation", **{"with": "other"})
    one, two = (str(chart["layout"]["xaxis"].get("range")) for chart in charts(app)[:2])
    assert one == two != "None"
    app.toggle(key="same axes").set_value(False).run()
    assert {str(chart["layout"]["xaxis"].get("range")) for chart in charts(app)[:2]} == {"None"}
    assert app.query_params["axes"] == "off"


def test_a_bundle_beside_itself_is_said_to_be_a_already(start: Start, bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other.engram")
    app = start(bundle, other, page="compare", b="made-up", **{"with": "made-up"})
    assert "“made-up” is A already; other stands beside it." in written(app)
    assert "There is no bundle" not in written(app)


def test_compare_wants_two_bundles(start: Start, bundle: Path) -> None:
    assert "There is only one bundle here." in written(start(bundle, page="compare"))


def test_what_cannot_be_subtracted_is_not_said_to_lack_an_interval_and_gates_stand_apart(
    start: Start, bundle: Path, tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "other.engram", parts())
    app = start(bundle, other, page="compare", b="made-up", part="gate-statistics", **{"with": "other"})
    assert "No interval of the difference" not in written(app)
    offered = app.selectbox(key="compared part").options
    assert "gate statistics with nulls" in offered and "gates" not in offered
    assert "The gates on “0”" in written(app)
