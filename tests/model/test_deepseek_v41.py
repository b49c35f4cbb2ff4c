"""The backbone's parts against their slow definitions, and what no part may depend on."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from engram_interp.checkpoints.deepseek_v41.config import config_of
from engram_interp.checkpoints.deepseek_v41.generate import released_config
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.model.deepseek_v41 import fake_quantise, streams
from engram_interp.model.deepseek_v41.backbone import DeepSeekV41
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.experts import Expert
from engram_interp.model.deepseek_v41.indexer import candidate_blocks
from engram_interp.model.deepseek_v41.rope import rotate
from engram_interp.model.deepseek_v41.rows import each, row_linear
from engram_interp.model.deepseek_v41.streams import LaggedHyperConnection
from tests import support


def config(**text_config: object) -> V41Config:
    return config_of(released_config(support.tokenizer(), **text_config))


@torch.no_grad()
def backbone(cfg: V41Config, *, seed: int = 0) -> DeepSeekV41:
    model = DeepSeekV41(cfg, token_map=hashing.token_map(support.tokenizer())[0])
    for block in model.blocks:
        mlp = block.get_submodule("mlp")
        made = [Expert(cfg.d_model, cfg.d_expert, cfg.expert_limit) for _ in range(cfg.n_experts)]
        mlp.get_submodule("experts").extend(made)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        wide = value.shape[-1] if value.ndim > 1 and "embed" not in name and "table" not in name else 1
        value.copy_(torch.randn(value.shape, generator=generator) * wide**-0.5)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("rows", "source", "out"), [(1, 7, 5), (31, 64, 3), (33, 40, 129), (70, 96, 24)])
def test_a_row_is_mapped_the_same_wherever_it_stands(rows: int, source: int, out: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    x, weight = (torch.randn(n, source, generator=generator) for n in (rows, out))
    found = row_linear(x, weight)
    assert torch.allclose(found, x @ weight.mT, atol=1e-5)
    order = torch.randperm(rows, generator=generator)
    assert torch.equal(row_linear(x[order], weight), found[order])
    shifted = torch.empty(rows * source + 3)[3:].view(rows, source).copy_(x)
    assert torch.equal(row_linear(shifted, weight), found)
    for row in (0, rows // 2, rows - 1):
        assert torch.equal(row_linear(x[row : row + 1], weight), found[row : row + 1])


@pytest.mark.parametrize("function", [torch.sigmoid, functional.silu, functional.softplus])
def test_a_number_is_mapped_the_same_wherever_it_stands(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(40_001, generator=torch.Generator().manual_seed(0)) * 4
    found = each(function, x)
    assert torch.allclose(found, function(x), rtol=1e-6, atol=1e-7)
    for start, stop in ((0, 1), (5, 12), (17, 40_001), (39_990, 40_001)):
        assert torch.equal(each(function, x[start:stop]), found[start:stop])


def test_streams_are_mixed_as_defined() -> None:
    cfg = config()
    mixing = LaggedHyperConnection(cfg)
    for parameter in mixing.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 5, cfg.n_streams, cfg.d_model)
    pre, post, comb = mixing(x)
    assert torch.allclose(comb.sum(-1), torch.ones(2, 5, cfg.n_streams), atol=1e-3)
    assert torch.allclose(comb.sum(-2), torch.ones(2, 5, cfg.n_streams), atol=1e-3)
    assert (pre > 0).all() and (pre <= 1 + 1e-5).all() and (post < 2).all()
    out = torch.randn(2, 5, cfg.d_model)
    written = streams.write(x, out, post, comb)
    for k in range(cfg.n_streams):
        wanted = post[..., k, None] * out + sum(
            comb[..., j, k, None] * x[..., j, :] for j in range(cfg.n_streams)
        )
        assert torch.allclose(written[..., k, :], wanted, atol=1e-5)


def test_candidate_blocks_by_the_definition() -> None:
    scores = torch.randn(13, 17, generator=torch.Generator().manual_seed(3))
    visible = torch.arange(1, 14)
    scores = scores.masked_fill(torch.arange(17) >= visible[:, None], -torch.inf)
    kept = candidate_blocks(scores, visible, blocks=2, size=3)
    for token, seen in enumerate(visible.tolist()):
        newest = (seen - 1) // 3
        best = {b: float(scores[token, 3 * b : 3 * b + 3].max()) for b in range(6)}
        others = sorted((b for b in best if b != newest and best[b] > -math.inf), key=lambda b: -best[b])
        blocks = {newest, *others[:1]}
        assert kept[token].tolist() == [entry // 3 in blocks for entry in range(17)]


def test_of_equal_blocks_the_first_win() -> None:
    scores = torch.zeros(1, 400)
    for width in (30, 60, 400):
        kept = candidate_blocks(scores[:, :width], torch.tensor([30]), blocks=3, size=3)
        assert kept[0].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 27, 28, 29]


def test_equal_scores_do_not_let_later_tokens_reach_back() -> None:
    """With one index head, ReLU makes about half of the scores exactly zero.

    Attention sums another number of keys, so last bits differ; another choice of entries changes logits by
    hundredths and more.
    """
    model, ids = backbone(config(index_n_heads=1)), support.token_ids(1, 150, seed=4)
    with torch.inference_mode():
        whole = model(ids)[0]
        for length in (20, 47, 90):
            assert torch.allclose(model(ids[:, :length])[0], whole[:length], atol=1e-4, rtol=0)


def test_rotation_turns_pairs_and_back() -> None:
    x, frequency = torch.randn(2, 4, 10), torch.tensor([0.3, 0.07])
    positions = torch.tensor([0, 1, 5, 11])
    turned = rotate(x, frequency, positions)
    assert torch.equal(turned[..., :6], x[..., :6])
    for pair, token in itertools.product(range(2), range(4)):
        z = torch.view_as_complex(x[:, token, 6 + 2 * pair : 8 + 2 * pair].contiguous())
        angle = float(positions[token] * frequency[pair])
        wanted = torch.view_as_real(z * complex(math.cos(angle), math.sin(angle)))
        assert torch.allclose(turned[:, token, 6 + 2 * pair : 8 + 2 * pair], wanted, atol=1e-6)
    assert torch.allclose(rotate(turned, frequency, positions, back=True), x, atol=1e-6)


def test_rounding_goes_to_the_nearest_code() -> None:
    """With scale 1 (a block's largest value is 6) against all sixteen codes; ties go to the even one."""
    x = torch.linspace(-6, 6, 1536).view(-1, 32)
    x[:, 0] = 6
    x[5, 1:8] = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    codes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    every = torch.cat([codes, -codes])
    nearest = (x[..., None] - every).abs().amin(-1)
    for found in (fake_quantise.fp4(x), fake_quantise.fp4_e4m3(x, block=32)):
        assert torch.isin(found, every).all()
        assert torch.equal((x - found).abs(), nearest)
        assert found[5, 1:8].tolist() == [0, 1, 1, 2, 2, 4, 4]
    once = fake_quantise.fp8(x)
    assert torch.equal(fake_quantise.fp8(once), once)
    assert ((once - x).abs() <= x.abs() / 16 + 2**-9).all()
    assert torch.equal(fake_quantise.fp4(x[:, :20]), x[:, :20])  # no whole blocks: as it is


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sliding_window": 1, "index_topk": 1, "candidate_source_layer_id": -1},
        {"hc_mult": 2, "num_experts_per_tok": 1, "engram_layer_ids": [4], "head_dim": 24,
         "index_head_dim": 20},
        {"compress_ratios": [2, 2, 2, 2, 2], "kv_source_layer_ids": [0, 1, 3],
         "index_source_layer_ids": [0, 3, 4], "candidate_source_layer_id": 0},
        {"compress_ratios": [0, 0, 0, 0, 0], "kv_source_layer_ids": [], "index_source_layer_ids": [],
         "candidate_source_layer_id": -1, "engram_layer_ids": []},
    ],
)  # fmt: skip
def test_later_tokens_and_other_prompts_do_not_reach_back(changes: dict[str, object]) -> None:
    cfg = config(**changes)
    model, ids = backbone(cfg), support.token_ids(3, 29, seed=1)
    lengths = [29, 2, 17]
    mask = torch.arange(29) < torch.tensor(lengths)[:, None]
    with torch.inference_mode():
        whole = model(ids, mask=mask)
        for row, length in enumerate(lengths):
            assert torch.equal(model(ids[row : row + 1, :length])[0], whole[row, :length])
        other = model(torch.cat([ids[:1, :11], ids[1:2, 11:]], dim=1))
    assert whole[mask].isfinite().all()
    assert torch.equal(other[0, :11], whole[0, :11])
    assert not torch.equal(other[0, 11], whole[0, 11])


def test_hooks_can_change_what_follows() -> None:
    model, ids = backbone(config()), support.token_ids(2, 12)
    plain = model(ids)
    for site in ("blocks.3.engram.hook_gate", "blocks.4.attn.hook_index_selected"):
        shut: list[Any] = [(site, lambda value, hook: value * 0)]
        assert not torch.equal(model.run_with_hooks(ids, fwd_hooks=shut), plain)
    assert torch.equal(model(ids), plain)


def test_what_is_asked_wrongly() -> None:
    model = backbone(config())
    with pytest.raises(InputError, match="padding on the right"):
        model(torch.tensor([[1, 2, 3]]), mask=torch.tensor([[True, False, True]]))
    with pytest.raises(InputError, match=r"Token ids want to lie in 0 … 330, got 1 … 331"):
        model(torch.tensor([[1, 331]]))
    for change, words in (
        ({"n_streams": 1}, "at least 2 streams"),
        ({"ratios": (0, 3)}, "as many compress ratios"),
        (
            {"kv_sources": (1,)},
            "Layer 3 reads entries of 1 tokens and layer 1, the last that makes any, makes",
        ),
        ({"kv_sources": (3,)}, "Layer 1 reads entries of 3 tokens and no layer before it makes any"),
        ({"index_sources": (1, 2, 4)}, "Layer 3 reads a choice of 1 tokens and layer 2"),
        ({"candidate_source": 1}, "Layer 3 reads candidate blocks of 1 tokens and layer 1"),
        ({"ratios": (0, 3, 0, 1, 1)}, "Layer 2 is a source and has compress ratio 0"),
        ({"experts_per_token": 8}, "experts_per_token wants to lie in 1 … 7"),
    ):
        with pytest.raises(InputError, match=words):
            replace(model.cfg, **change)
