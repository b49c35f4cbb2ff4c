"""A model put together anew from its own blocks: what is known of it, and what depth says."""

from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import depth, lens_depth, pairs
from engram_interp.checkpoints import relayered
from engram_interp.data import prompts
from engram_interp.errors import InputError
from tests import support


def baseline(**changes: Any) -> Any:
    """A model without memory."""
    return support.subject(support.model_config(**changes), seed=1, name="base")


def test_a_block_that_does_nothing_changes_nothing() -> None:
    base = baseline()
    ids = support.token_ids(2, 9)
    for blocks in ([0, 1, None, 2, 3], [None, 0, 1, 2, 3, None]):
        other = relayered(base, blocks)
        assert other.n_layers == len(blocks)
        torch.testing.assert_close(other.logits(ids), base.logits(ids), rtol=0, atol=0)


def test_blocks_run_in_the_order_given() -> None:
    base, ids = baseline(), support.token_ids(2, 9)
    resid = base.module.embed(ids)
    for block in (2, 2, 0):
        resid = base.module.blocks[block](resid, None, None)
    twice = relayered(base, [2, 2, 0], name="mixed")
    torch.testing.assert_close(twice.logits(ids), base.lens_head(resid))
    assert twice.name == "mixed" and base.n_layers == 4


def test_what_cannot_be_put_together_is_refused() -> None:
    with pytest.raises(InputError, match="one stream and no memory"):
        relayered(support.subject(), [0, 1])
    with pytest.raises(InputError, match=r"lie in 0 … 3, or be None, at least one; got \[0, 4\]"):
        relayered(baseline(), [0, 4])
    with pytest.raises(InputError, match="at least one"):
        relayered(baseline(), [])


def test_real_weights_are_one_layer_further_than_a_copy_that_idles_once() -> None:
    base = pairs.load("wiki-nano").baseline
    idle = relayered(base, [0, 1, None, *range(2, base.n_layers)], name="idles after 1")
    texts = prompts.load("entities").texts[:8]
    data = depth.compare(base, idle, texts, first_memory_layer=1, n_boot=2).data
    wanted = [0, 0, *[1] * (base.n_layers - 2)]
    np.testing.assert_allclose(data["path_shift"], wanted)
    np.testing.assert_allclose(data["headline"], 1)
    np.testing.assert_array_equal(data["pre_memory"], [True, *[False] * (base.n_layers - 1)])
    assert np.all(data["peak_shift"][2:] > 0.5)
    lens = lens_depth.compare(base, idle, texts[:2], n_boot=2).data
    # The first two layers of its curve do not fall, and are pooled: only what comes after can be read.
    np.testing.assert_allclose(lens["shift"][2:], wanted[2:], atol=1e-3)
