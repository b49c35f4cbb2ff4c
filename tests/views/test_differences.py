"""B − A is a difference, on what both have."""

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.views import differences
from tests.results import samples


def test_similarity_is_subtracted_where_both_have_the_layer() -> None:
    a = samples.depth().data
    b = a.isel(layer=slice(1, None)).assign(cka=a["cka"].isel(layer=slice(1, None)) - 0.25)
    figure = differences.similarity_difference(a, b)
    drawn = np.asarray(figure.data[0].z)
    assert drawn.shape == (a.sizes["baseline_layer"], a.sizes["layer"] - 1)
    np.testing.assert_allclose(drawn[np.isfinite(drawn)], -0.25)
    assert list(figure.data[0].x) == a["layer"].values.tolist()[1:]
    assert figure.data[0].zmin == -figure.data[0].zmax
    same = differences.similarity_difference(a, a).data[0]
    assert np.nanmax(np.abs(same.z)) == 0 and same.zmax == 1


def test_lens_and_ablations_are_subtracted_with_their_controls() -> None:
    a = samples.convergence().data
    b = a.assign(kl=a["kl"] * 3)
    figure = differences.lens_difference(a, b)
    np.testing.assert_allclose(figure.data[0].y, 2 * a["kl"].values)
    one = samples.ablation_effect().data
    other = one.isel(kind=[0]).assign(
        delta_loss=one["delta_loss"].isel(kind=[0]) + 1,
        control_delta_loss=one["control_delta_loss"].isel(kind=[0]) - 2,
    )
    figure = differences.effect_difference(one, other)
    np.testing.assert_allclose([figure.data[0].y[0], figure.data[1].y[0]], [1, -2])
    assert list(figure.data[0].x) == [str(one["kind"].values[0])]
    with pytest.raises(InputError, match="A and B share no kind"):
        differences.effect_difference(one, one.assign_coords(kind=["another"] * one.sizes["kind"]))


def test_what_shares_nothing_has_no_difference() -> None:
    a = samples.convergence(8).data
    with pytest.raises(InputError, match="A has 8 layers and B 6: the same number is not the same place"):
        differences.lens_difference(a, a.isel(layer=slice(0, 6)))
