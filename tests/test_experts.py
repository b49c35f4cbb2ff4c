"""Tests of `engram_interp.experts`: choices that follow tokens, loads and twins made by hand, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engram_interp import experts
from engram_interp.capture import encode, record
from engram_interp.errors import InputError
from engram_interp.experts import _alike, _classes, _information, _load
from engram_interp.model.feedforward import MixtureOfExperts
from engram_interp.results import ExpertUse
from tests import support

TEXTS = support.documents(24, seed=9)


def test_a_choice_by_the_token_tells_it_and_a_blind_one_does_not() -> None:
    generator = np.random.default_rng(0)
    token, documents = generator.integers(4, size=2000), np.repeat(np.arange(40), 50)
    gram = {1: token, 2: np.where(token == 3, -1, token)}
    told = _information(token, gram, documents, generator)
    assert told["information"] == pytest.approx([np.log(4), np.log(3)], abs=0.01)
    assert (abs(told["permuted"]) < 0.02).all()
    blind = _information(generator.integers(4, size=2000), gram, documents, generator)
    assert (blind["information_low"] < 0.005).all()


def test_load_is_one_if_even_and_one_over_the_number_if_one_expert_has_all() -> None:
    documents = np.repeat(np.arange(25), 8)
    even = np.tile(np.arange(8).reshape(4, 2), (50, 1))
    assert float(_load(even, documents, 8, n_boot=5, seed=0)["load"]) == pytest.approx(1)
    one = _load(np.zeros((200, 1), np.int64), documents, 8, n_boot=5, seed=0)
    assert float(one["load"]) == float(one["load_low"]) == pytest.approx(1 / 8)


def test_n_grams_are_counted_whole_and_rare_ones_left_out() -> None:
    tokens = np.array([[5, 6, 5, 6, 5], [6, 5, 6, 9, 0]])
    mask = np.array([[True] * 5, [True] * 4 + [False]])
    single = _classes(tokens, mask, 1, least=2)
    assert single.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, -1]
    pair = _classes(tokens, mask, 2, least=2)  # (5, 6) three times, (6, 5) three times, (6, 9) once
    assert pair.tolist() == [-1, 1, 0, 1, 0, -1, 0, 1, -1]


@pytest.mark.parametrize("twins", [False, True])
def test_two_experts_with_the_same_weights_are_alike(twins: bool) -> None:
    mixture = support.model(support.model_config(n_experts=3)).blocks[0].mlp
    assert isinstance(mixture, MixtureOfExperts)
    if twins:
        for expert in mixture.experts[1:]:
            expert.load_state_dict(mixture.experts[0].state_dict())
    given = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    found = _alike(mixture, given)
    out = [expert(given) for expert in mixture.experts]
    pairs = [torch.cosine_similarity(out[i], out[j], dim=-1) for i, j in ((0, 1), (0, 2), (1, 2))]
    np.testing.assert_allclose(found, torch.stack(pairs).mean(0), atol=1e-5)
    assert not twins or np.allclose(found, 1)


def test_use_sets_models_side_by_side(tmp_path: Path) -> None:
    models = {
        "without": support.subject(support.model_config(n_experts=4), name="moe"),
        "with": support.subject(support.model_config(memory=support.memory_config(), n_experts=3), seed=2),
    }
    result = experts.use(models, TEXTS, probes=30, n_boot=20)
    encoded = encode(models["without"], TEXTS)
    chosen = record(models["without"], encoded, sites=["blocks.1.mlp.hook_expert_ids"], logits=False)
    inside = encoded.mask & (encoded.tokens != 0)
    share = np.bincount(chosen["blocks.1.mlp.hook_expert_ids"][inside].flatten(), minlength=4).astype(float)
    share /= share.sum()
    wanted = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()) / 4
    assert float(result.data["load"].sel(model="without", layer=1)) == pytest.approx(wanted)
    assert np.isfinite(result.data["information"]).all()
    assert ExpertUse.load(result.save(tmp_path / "e.nc")).summary() == result.summary()
    assert "two experts' outputs have cosine" in result.summary()
    assert len(result.plot().data) == 2


def test_models_without_experts_are_refused() -> None:
    with pytest.raises(InputError, match="tiny has no mixture of experts of ours"):
        experts.use({"dense": support.subject()}, TEXTS[:2])
    with pytest.raises(InputError, match="at least one model"):
        experts.use({}, TEXTS[:2])
