"""The soft index at every k: as if it had been made with that k, and for results of earlier versions too."""

import numpy as np
import pytest

from engram_interp import depth
from engram_interp.errors import InputError
from engram_interp.results import DepthResult
from tests import support
from tests.test_depth import baseline, texts


def test_the_soft_index_is_there_at_every_k_as_if_made_with_it() -> None:
    model, base, some = support.subject(), baseline(), texts()
    first = depth.compare(model, base, some, n_boot=30, top_k=2)
    assert first.ks == list(range(1, base.n_layers + 1)) and first.at_k(2) is first
    for k in first.ks:
        own, there = depth.compare(model, base, some, n_boot=30, top_k=k).data, first.at_k(k).data
        for name in ("depth", "depth_self", "shift", "shift_low", "shift_high", "edge"):
            np.testing.assert_allclose(there[name], own[name], atol=1e-12, err_msg=f"{name} at {k}")
        assert there.attrs["top_k"] == k
        np.testing.assert_array_equal(there["headline"], first.data["headline"])
    beyond = depth.compare(model, base, some, n_boot=30, top_k=9)  # than there are layers
    assert beyond.ks == [*first.ks, 9] and beyond.at_k(9) is beyond
    names = [name for name in first.data.data_vars if "by_k" in str(name)]
    old = DepthResult(data=first.data.drop_vars([*names, "k"]))
    assert old.ks == [2]
    with pytest.raises(InputError, match=r"at k = 2, not at 3; one of an earlier version gets .*resample"):
        old.at_k(3)
    whole = depth.resample(old, n_boot=30)
    for added in names:
        np.testing.assert_allclose(whole.data[added], first.data[added], atol=1e-12)
        assert whole.data[added].attrs == first.data[added].attrs
