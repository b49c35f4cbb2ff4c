"""Tests of `engram_interp.metrics.ranks`: slow definitions, exactness under the null, error texts."""

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.metrics import ranks
from tests import support


def test_ranks_equal_counting() -> None:
    draws = np.random.default_rng(0).integers(0, 6, size=(13, 2, 3)).astype(float)
    observed = np.array([[0.0, 5.0, 2.0], [3.0, 9.0, -1.0]])
    for at in np.ndindex(2, 3):
        above = sum(draws[(k, *at)] >= observed[at] for k in range(13))
        below = sum(draws[(k, *at)] <= observed[at] for k in range(13))
        wanted = min(1.0, 2 * min((1 + above) / 14, (1 + below) / 14))
        assert ranks.rank_p(observed, draws)[at] == pytest.approx(wanted)
        assert ranks.rank_p(observed, draws, two_sided=False)[at] == pytest.approx((1 + above) / 14)


def test_what_was_drawn_alike_is_rarely_odd_and_evenly_so() -> None:
    pool = np.random.default_rng(1).standard_gamma(0.5, size=(400, 40, 2))
    pool[:, :, 1] += 3 * pool[:, :, 0]  # the entries hang together
    joint = np.array([ranks.joint_p(x[0], x[1:]) for x in pool])
    single = np.array([ranks.rank_p(x[0], x[1:]) for x in pool])
    assert 0.02 <= (joint <= 0.05).mean() <= 0.08  # exactly .05 = 2/40; sd .011
    assert ((single <= 0.05).mean(0) >= 0.02).all()
    assert ((single <= 0.05).mean(0) <= 0.08).all()


def test_an_observation_far_out_in_one_entry_is_odd_and_nan_is_left_out() -> None:
    draws = np.random.default_rng(2).normal(size=(30, 4))
    assert ranks.joint_p(np.array([0.0, 0.0, 9.0, 0.0]), draws) == pytest.approx(1 / 31)
    observed = np.array([0.0, 0.0, np.nan, 0.0])
    assert ranks.joint_p(observed, draws) > 0.2
    assert np.isnan(ranks.rank_p(observed, draws)).tolist() == [False, False, True, False]
    assert np.isnan(ranks.joint_p(np.full(4, np.nan), draws))
    assert ranks.joint_p(np.zeros(4), np.zeros((5, 4))) == 1


def test_errors() -> None:
    with pytest.raises(InputError, match="at least one draw of the null"):
        ranks.rank_p(np.zeros(2), np.zeros((0, 2)))
    with (
        support.shapes_unchecked(),
        pytest.raises(InputError, match=r"observation \(2,\), got \(3,\)"),
    ):
        ranks.joint_p(np.zeros(2), np.zeros((4, 3)))
