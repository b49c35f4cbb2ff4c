"""The model itself: what may depend on what, and what it refuses."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.model.config import ModelConfig
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support
from tests.support import D_VOCAB, N_CTX, shapes_unchecked

SHAPES = list(product([1, 4], [0, 5]))
shapes = pytest.mark.parametrize(("n_streams", "n_experts"), SHAPES)


def made(n_streams: int = 1, n_experts: int = 0, **memory: Any) -> HookedEngramTransformer:
    cfg = support.model_config(
        memory=support.memory_config(**memory), n_streams=n_streams, n_experts=n_experts
    )
    return support.model(cfg)


@shapes
def test_no_logit_depends_on_later_tokens(n_streams: int, n_experts: int) -> None:
    model, ids = made(n_streams, n_experts), support.token_ids(2, 17)
    whole = model(ids)
    for changed in (1, 8, 16):
        other = ids.clone()
        other[:, changed] = (ids[:, changed] + 5) % D_VOCAB
        moved = (model(other) - whole).abs().amax((0, 2))
        assert moved[:changed].max() < 1e-5
        assert moved[changed] > 1e-3


@shapes
def test_right_padding_changes_nothing(n_streams: int, n_experts: int) -> None:
    model = made(n_streams, n_experts)
    long, short = support.token_ids(1, 15, seed=1), support.token_ids(1, 6, seed=2)
    mask = torch.ones(2, 15, dtype=torch.bool)
    mask[1, 6:] = False
    batch = torch.cat([long, torch.nn.functional.pad(short, (0, 9), value=44)])
    both = model(batch, mask=mask)
    torch.testing.assert_close(both[:1], model(long), atol=2e-5, rtol=0)
    torch.testing.assert_close(both[1:, :6], model(short), atol=2e-5, rtol=0)
    other = batch.clone()
    other[1, 6:] = 91
    # Experts are given padding too: what it holds decides how many rows a product has, so its rounding.
    rounding = 2e-5 if n_experts else 0
    torch.testing.assert_close(model(other, mask=mask)[1, :6], both[1, :6], atol=rounding, rtol=0)


def test_explicit_attention_equals_the_fused_one() -> None:
    model, ids = made(), support.token_ids(2, 13)
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[0, 9:] = False
    for alive in (None, mask):
        fused = model(ids, mask=alive)
        for name in ("hook_pattern", "hook_attn_scores", "hook_result"):
            explicit = model.run_with_hooks(
                ids, mask=alive, fwd_hooks=[(f"blocks.2.attn.{name}", lambda x, hook: None)]
            )
            kept = slice(None) if alive is None else alive
            torch.testing.assert_close(explicit[kept], fused[kept], atol=1e-5, rtol=0)


def test_attention_patterns_are_causal_distributions_over_living_tokens() -> None:
    model, ids = made(), support.token_ids(2, 13)
    mask = torch.ones(2, 13, dtype=torch.bool)
    mask[0, 9:] = False
    _, cache = model.run_with_cache(ids, mask=mask, names_filter=lambda name: name.endswith("pattern"))
    for layer in range(4):
        pattern = cache["pattern", layer]
        torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 2, 13))
        assert not pattern.triu(1).any()
        assert not pattern[0, :, :9, 9:].any()


def test_a_read_spreads_through_the_convolution_alone_at_its_layers_write() -> None:
    model, ids = made(conv_kernel=3, conv_dilation=4), support.token_ids(2, 15)
    site = "blocks.1.hook_engram_out"

    def write(**hooks: Any) -> Tensor:
        with model.hooks(fwd_hooks=list(hooks.items())):
            found: Tensor = model.run_with_cache(ids, names_filter=site)[1][site]
        return found

    def nudge(memory: Tensor, hook: Any) -> Tensor:
        memory = memory.clone()
        memory[:, 3] += 1
        return memory

    moved = write(**{"blocks.1.engram.hook_memory": nudge}) - write()
    assert moved.abs().amax((0, 2)).nonzero().flatten().tolist() == [3, 7, 11]


def test_memory_windows_stop_at_separators() -> None:
    model, ids = made(), support.token_ids(1, 12)
    ids[0, 6] = model.cfg.separator_id
    other = ids.clone()
    other[0, 1:6] = (ids[0, 1:6] + 1) % D_VOCAB
    first, second = model.memory_rows(ids), model.memory_rows(other)
    assert first is not None and second is not None
    assert first[:, 6:].equal(second[:, 6:])
    assert not first[:, 1:6].equal(second[:, 1:6])
    run_on = made(boundary="none").memory_rows(ids)
    assert run_on is not None
    assert not run_on[:, 6:8].equal(first[:, 6:8])


@pytest.mark.parametrize("compression", ["canonical", "none"])
def test_rows_come_from_canonical_or_raw_ids(compression: str) -> None:
    model = made(compression=compression)
    mapping, count = (
        hashing.token_map(support.tokenizer())
        if compression == "canonical"
        else hashing.identity_map(D_VOCAB)
    )
    assert model.layout is not None and model.cfg.engram is not None
    assert model.layout.primes.tolist() == model.cfg.engram.layout(n_ids=count).primes.tolist()
    assert model.layout.multipliers.tolist() == model.cfg.engram.layout(n_ids=count).multipliers.tolist()
    ids = support.token_ids(2, 9)
    ids[:, 1:] = ids[:, 1:].clamp_min(1)
    split = torch.ones_like(ids)
    wanted = hashing.addresses(mapping[ids], model.layout, pad_id=int(mapping[0]), segment_ids=split)
    rows = model.memory_rows(ids)
    assert rows is not None and rows.equal(wanted)


def test_losses_agree_with_the_logits() -> None:
    model, ids = made(), support.token_ids(2, 9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    log_p = model(ids, mask=mask)[:, :-1].log_softmax(-1)
    each = -log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(model(ids, mask=mask, return_type="loss", loss_per_token=True), each)
    wanted = (each * mask[:, 1:]).sum() / mask[:, 1:].sum()
    logits, loss = model(ids, mask=mask, return_type="both")
    torch.testing.assert_close(loss, wanted)
    assert logits.equal(model(ids, mask=mask))


def test_initial_weights_depend_on_the_name_alone() -> None:
    with_memory = HookedEngramTransformer(
        support.model_config(memory=support.memory_config()),
        token_map=hashing.token_map(support.tokenizer())[0],
    )
    without = HookedEngramTransformer(support.model_config())
    ours, theirs = with_memory.state_dict(), without.state_dict()
    shared = {k for k in theirs if k != "token_map"}
    assert shared < set(ours)
    assert all(ours[k].equal(theirs[k]) for k in shared)
    spread = theirs["blocks.0.mlp.out.weight"].std() / theirs["blocks.0.mlp.gate_and_in.weight"].std()
    assert abs(float(spread) - 1 / math.sqrt(8)) < 0.05
    assert not ours["blocks.1.engram.conv.conv.weight"].any()
    with_memory.reset_parameters()
    assert all(with_memory.state_dict()[k].equal(ours[k]) for k in ours)


def test_initial_weights_depend_on_the_seed() -> None:
    one, other = (HookedEngramTransformer(support.model_config(init_seed=i)) for i in (0, 3))
    assert not other.embed.weight.equal(one.embed.weight)


def test_texts_open_with_the_separator() -> None:
    model = made()
    text = "the Karen of Miren"
    ids = model.to_tokens(text)
    assert ids[0, 0] == 0
    assert ids[0, 1:].tolist() == support.tokenizer().encode(text).ids
    assert model(text).equal(model(ids))
    assert model([text, text]).shape[0] == 2
    assert model(ids[0].tolist()).equal(model(ids))
    assert model.to_single_token("a") == support.tokenizer().encode("a").ids[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (support.token_ids(1, N_CTX + 1), rf"has {N_CTX + 1} tokens and the context holds {N_CTX}; shorten"),
        (torch.tensor([[0, D_VOCAB]]), rf"lie in 0 … {D_VOCAB - 1}, got 0 … {D_VOCAB}; .*another tokenizer"),
        (torch.tensor([[-1, 0]]), "got -1 … 0"),
        (torch.zeros(1, 3), r"integer ids \[batch, token\], got torch.float32 \(1, 3\)"),
        (torch.zeros(1, 0, dtype=torch.int64), r"\(1, 0\)"),
        (["the", "the Karen of Miren"], r"these texts have \[\d+, \d+\] tokens; use engram_interp.capture"),
    ],
)
def test_bad_input_is_refused(given: Any, message: str) -> None:
    with shapes_unchecked(), pytest.raises(InputError, match=message):
        made()(given)


def test_texts_want_a_tokenizer_and_single_tokens_are_single() -> None:
    bare = HookedEngramTransformer(support.model_config())
    with pytest.raises(InputError, match="made without a tokenizer; give token ids"):
        bare("text")
    with pytest.raises(InputError, match=r"one token, got 'a b c', which is \d; shorten"):
        made().to_single_token("a b c")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 3}, "d_model divisible into heads of even width, got d_model=20 and n_heads=3"),
        ({"n_heads": 4}, "even width, got d_model=20 and n_heads=4"),
        ({"n_layers": 0}, "want to be at least 1"),
        ({"n_experts": 2, "experts_per_token": 3}, "experts_per_token wants to lie in 1 … 2, got 3"),
        ({"memory": support.memory_config(layer_ids=(1, 4))}, r"\(1, 4\) want to lie in 0 … 3 \(counted"),
    ],
)
def test_impossible_models_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        support.model_config(**changes)


def test_token_maps_that_do_not_fit_are_refused() -> None:
    cfg = support.model_config(memory=support.memory_config())
    with pytest.raises(InputError, match=r"needs token_map=.*or compression='none'"):
        HookedEngramTransformer(cfg)
    with pytest.raises(InputError, match=rf"has 5 entries but the model has {D_VOCAB} token ids"):
        HookedEngramTransformer(cfg, token_map=hashing.identity_map(5)[0])


def test_configurations_survive_their_dictionaries() -> None:
    cfg = support.model_config(memory=support.memory_config(), n_streams=4)
    assert ModelConfig.from_dict(cfg.to_dict()) == cfg
    values = cfg.to_dict() | {"d_mod": 3}
    del values["n_ctx"]
    with pytest.raises(InputError, match=r"unknown keys \['d_mod'\] and lacks \['n_ctx'\]"):
        ModelConfig.from_dict(values)
    with pytest.raises(
        InputError, match=r"engram configuration has unknown keys \['rowz'\] and lacks \['layer_ids'\]"
    ):
        ModelConfig.from_dict(cfg.to_dict() | {"engram": {"rowz": 4}})


def test_a_shuffled_memory_reads_the_rows_of_earlier_positions() -> None:
    own = support.model(support.model_config(memory=support.memory_config()))
    other = support.model(support.model_config(memory=support.memory_config(reads="shuffled")))
    tokens = support.token_ids(3, 12)
    rows, found = own.memory_rows(tokens), other.memory_rows(tokens)
    assert rows is not None and found is not None and other.cfg.engram is not None
    sources = other.cfg.engram.sources(12)
    assert (sources[1:] < np.arange(1, 12)).all() and len(set(sources)) > 4
    torch.testing.assert_close(found, rows[:, torch.from_numpy(sources)])
    np.testing.assert_array_equal(other.cfg.engram.sources(7), sources[:7])
    changed = tokens.clone()
    changed[:, 8:] = support.token_ids(3, 4, seed=5)
    torch.testing.assert_close(other(changed)[:, :8], other(tokens)[:, :8])
