"""Tests of `engram_interp.attention`: patterns whose reach is known, a loop, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engram_interp import attention
from engram_interp.capture import encode, record
from engram_interp.checkpoints import SubjectModel
from engram_interp.errors import InputError
from engram_interp.results import AttentionReach
from tests import support

TEXTS = support.documents(24, seed=9)


def subject() -> SubjectModel:
    return support.subject(support.model_config(memory=support.memory_config()))


def test_even_attention_and_attention_to_one_place() -> None:
    length = 12
    even = torch.ones(length, length).tril()
    even /= even.sum(-1, keepdim=True)
    back = torch.zeros(length, length)
    for query in range(length):
        back[query, max(query - 6, 0)] = 1.0
    found = attention.statistics_of(torch.stack([even, back])[None])[0]
    for query in range(8, length):
        wanted = [(query - 1) / 2, math.log(query), 4 / query, 1 / (query + 1)]  # keys 1 … query, sink apart
        torch.testing.assert_close(found[query, 0], torch.tensor(wanted).double())
        torch.testing.assert_close(found[query, 1], torch.tensor([6.0, 0.0, 0.0, 0.0]).double())
    assert found[0, :, :3].isnan().all() and (found[0, :, 3] == 1).all()


def test_reach_is_the_mean_over_queries_and_heads() -> None:
    model = subject()
    result = attention.reach(model, TEXTS, from_position=6, n_boot=20)
    encoded = encode(model, TEXTS)
    pattern = record(model, encoded, sites=["blocks.2.attn.hook_pattern"])["blocks.2.attn.hook_pattern"]
    each = []
    for row in range(len(encoded)):
        for query in range(6, int(encoded.mask[row].sum())):
            for head in range(2):
                share = pattern[row, head, query, 1 : query + 1].double()
                each.append(float((share * (query - torch.arange(1, query + 1))).sum() / share.sum()))
    found = result.data.sel(condition="engram", statistic="distance", layer=2)
    assert float(found["mean"]) == pytest.approx(np.mean(each), rel=1e-4)
    assert float(found["mean_low"]) < np.mean(each) < float(found["mean_high"])


def test_a_model_reaches_as_far_as_itself_and_shut_gates_change_later_layers_only(tmp_path: Path) -> None:
    model = subject()
    result = attention.reach(model, TEXTS, baseline=model, from_position=6, n_boot=20)
    data = result.data
    assert data["condition"].values.tolist() == ["engram", "gates shut", "baseline"]
    assert not data["difference"].sel(condition="engram").any()
    moved = data["difference"].sel(condition="gates shut", statistic="distance")
    assert not moved.sel(layer=0).any() and (moved.sel(layer=[1, 2, 3]) != 0).all()
    assert AttentionReach.load(result.save(tmp_path / "a.nc")).summary() == result.summary()
    assert "no layer is told from the baseline's" in result.summary()
    assert len(result.plot().data) == 2


def test_what_cannot_be_looked_at_says_why() -> None:
    model = subject()
    with pytest.raises(InputError, match="No prompt has a token at position 32"):
        attention.reach(model, TEXTS[:2])
    sites = {name: path for name, path in model.sites.items() if "hook_pattern" not in name}
    with pytest.raises(InputError, match=r"has no site blocks\.0\.attn\.hook_pattern"):
        attention.reach(replace(model, sites=sites), TEXTS[:2], from_position=3)
