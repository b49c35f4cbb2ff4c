"""TransformerLens's own analysis tools on a model with memory: what they say is what a run says."""

from functools import lru_cache
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformer_lens import patching
from transformer_lens.tools.analysis import direct_logit_attribution
from transformer_lens.tools.analysis.attribution_patching import (
    attribution_patch,
    cache_activation_and_gradient,
)

from engram_interp.model.cache import EngramCache
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support

TOKENS = 5
CLEAN, CORRUPT = (support.token_ids(1, TOKENS, seed=seed) for seed in (1, 2))
MEMORY_SITES = [
    f"blocks.{layer}.{site}" for layer in (1, 2) for site in ("engram.hook_memory", "hook_engram_out")
]


def difference(logits: Tensor) -> Tensor:
    return logits[0, -1, 5] - logits[0, -1, 9]


@lru_cache
def case() -> tuple[HookedEngramTransformer, EngramCache]:
    model = support.model()
    return model, model.run_with_cache(CLEAN)[1]


@pytest.mark.parametrize("unit", ["component", "head"])
def test_direct_logit_attribution_sums_with_the_memorys_writes(unit: str) -> None:
    model, _ = case()
    found = direct_logit_attribution(model, CLEAN, 5, 9, unit=unit)
    torch.testing.assert_close(found.attribution.sum(), difference(model(CLEAN)), atol=1e-4, rtol=0)
    if unit == "component":
        written = found.attribution[[label.endswith("engram_out") for label in found.labels]]
        assert written.shape[0] == 2 and (written.abs() > 1e-3).all()


def patched(model: HookedEngramTransformer, cache: EngramCache, site: str, *index: Any) -> Tensor:
    def put(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        x[(slice(None), *index)] = cache[hook.name][(slice(None), *index)]
        return x

    hooks: list[Any] = [(site, put)]
    return difference(model.run_with_hooks(CORRUPT, fwd_hooks=hooks))


@pytest.mark.parametrize(
    ("tool", "site", "axes"),
    [
        ("resid_pre", "hook_resid_pre", "token"),
        ("resid_mid", "hook_resid_mid", "token"),
        ("attn_out", "hook_attn_out", "token"),
        ("mlp_out", "hook_mlp_out", "token"),
        ("attn_head_v_all_pos", "attn.hook_v", "head"),
        ("attn_head_pattern_all_pos", "attn.hook_pattern", "pattern"),
    ],
)
def test_activation_patching_of_every_layer(tool: str, site: str, axes: str) -> None:
    model, cache = case()
    found = getattr(patching, f"get_act_patch_{tool}")(model, CORRUPT, cache, difference)
    index: tuple[Any, ...] = {"token": (3,), "head": (slice(None), 1), "pattern": (1,)}[axes]
    expected = patched(model, cache, f"blocks.2.{site}", *index)
    torch.testing.assert_close(found[2, index[-1]], expected, atol=1e-5, rtol=0)
    assert found.shape == (4, TOKENS if axes == "token" else 2)


@pytest.mark.parametrize(
    ("name", "site"), [("engram_out", "hook_engram_out"), ("memory1engram", "engram.hook_memory")]
)
def test_activation_patching_of_the_memory(name: str, site: str) -> None:
    model, cache = case()
    places = pd.DataFrame([(1, token) for token in range(TOKENS)], columns=["layer", "pos"])
    tool: Any = patching.generic_activation_patch  # its overloads want TransformerLens's own configuration
    found = tool(model, CORRUPT, cache, difference, patching.layer_pos_patch_setter, name, index_df=places)
    expected = torch.stack([patched(model, cache, f"blocks.1.{site}", token) for token in range(TOKENS)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - difference(model(CORRUPT))).abs().max() > 1e-2


def test_attribution_patching_is_the_slope_of_activation_patching() -> None:
    """Gradients reach the hooks of the memory although all weights are frozen, and leave no trace."""
    model, cache = case()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    found = cache_activation_and_gradient(model, CORRUPT, difference, names_filter=MEMORY_SITES)
    step = 1e-3
    for site in MEMORY_SITES:
        gradient = found.gradients[site]
        assert gradient is not None
        towards = cache[site] - found.activations[site]
        estimate = (towards * gradient)[:, -1].sum()

        def nudge(x: Tensor, hook: Any, towards: Tensor = towards) -> Tensor:
            return torch.cat([x[:, :-1], x[:, -1:] + step * towards[:, -1:]], dim=1)

        hooks: list[Any] = [(site, nudge)]
        double = support.model().double()
        moved = difference(double.run_with_hooks(CORRUPT, fwd_hooks=hooks)) - difference(double(CORRUPT))
        assert float(estimate) == pytest.approx(float(moved) / step, rel=0.02)
    scores = attribution_patch(model, CLEAN, CORRUPT, difference).node_scores
    assert len(scores) == TOKENS * (1 + 4 * 3)
    assert model(CORRUPT).requires_grad is False


def test_a_backward_run_with_cache_gives_the_memorys_gradients() -> None:
    model, _ = case()
    _, cache = model.run_with_cache(CORRUPT, return_type="loss", incl_bwd=True, names_filter=MEMORY_SITES)
    assert {f"{site}_grad" for site in MEMORY_SITES} < set(cache.keys())
    assert all(cache[f"{site}_grad"].abs().sum() > 0 for site in MEMORY_SITES)
