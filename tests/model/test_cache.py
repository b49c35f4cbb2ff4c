"""TransformerLens's caches and tools on the model: shapes, slices, and parts that sum to the whole."""

from functools import lru_cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.memory.hashing import Layout
from engram_interp.model.cache import EngramCache
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support
from tests.support import D_VOCAB

BATCH, TOKENS = 2, 11
IDS = support.token_ids(BATCH, TOKENS)


@lru_cache
def cached(**changes: Any) -> tuple[HookedEngramTransformer, Tensor, EngramCache]:
    cfg = support.model_config(memory=support.memory_config(), **changes)
    model = support.model(cfg)
    logits, acts = model.run_with_cache(IDS)
    return model, logits, acts


@pytest.mark.parametrize("n_streams", [1, 4])
@pytest.mark.parametrize("n_experts", [0, 5])
def test_every_site_has_its_shape(n_streams: int, n_experts: int) -> None:
    _, logits, cache = cached(n_streams=n_streams, n_experts=n_experts)
    token = (BATCH, TOKENS)
    stream = (*token, n_streams)
    resid = (*token, 20) if n_streams == 1 else (*stream, 20)
    head = (*token, 2, 10)
    wanted: dict[str, tuple[int, ...]] = {"hook_embed": (*token, 20), "ln_final.hook_scale": (*token, 1)}
    for layer in range(4):
        at = f"blocks.{layer}."
        wanted |= {f"{at}hook_resid_{p}": resid for p in ("pre", "mid", "post")}
        wanted |= {f"{at}hook_{p}_out": (*token, 20) for p in ("attn", "mlp")}
        wanted |= {f"{at}attn.hook_{p}": head for p in ("q", "k", "v", "rot_q", "rot_k", "z")}
        wanted |= {f"{at}attn.hook_{p}": (BATCH, 2, TOKENS, TOKENS) for p in ("attn_scores", "pattern")}
        wanted |= {f"{at}attn.hook_result": (*token, 2, 20), f"{at}ln2.hook_normalized": (*token, 20)}
        wanted |= {f"{at}mlp{'.shared' if n_experts else ''}.hook_post": (*token, 28)}
        if n_experts:
            wanted |= {f"{at}mlp.hook_router_scores": (*token, 5), f"{at}mlp.hook_expert_ids": (*token, 2)}
        if n_streams > 1:
            wanted |= {f"{at}hc_{p}.hook_pre": stream for p in ("attn", "mlp")}
            wanted |= {f"{at}hc_mlp.hook_post": stream, f"{at}hc_attn.hook_comb": (*stream, 4)}
            wanted |= {"readout.hook_pre": stream}
        if layer in {1, 2}:
            wanted |= {f"{at}hook_engram_out": resid, f"{at}engram.hook_rows": (*token, 6)}
            wanted |= {f"{at}engram.hook_gate": stream, f"{at}engram.hook_memory": (*token, 6, 5)}
            wanted |= {f"{at}engram.hook_{p}": (*stream, 20) for p in ("mem_key", "gated_value", "conv_out")}
    assert {name: tuple(cache[name].shape) for name in wanted} == wanted
    assert logits.shape == (*token, D_VOCAB)
    assert not any("engram" in name for name in cache if name.startswith(("blocks.0", "blocks.3")))


def test_gates_are_per_stream() -> None:
    _, _, cache = cached(n_streams=4)
    gate = cache["gate", 1, "engram"]
    assert gate.shape == (BATCH, TOKENS, 4)
    assert (gate.std(-1) > 1e-3).all()
    assert cache["engram_out", -2].equal(cache["blocks.2.hook_engram_out"])


@pytest.mark.parametrize("n_experts", [0, 5])
@pytest.mark.parametrize(("layer", "mlp_input"), [(None, False), *product([0, 1, 2, 3], [False, True])])
def test_parts_sum_to_the_residual(n_experts: int, layer: int | None, mlp_input: bool) -> None:
    _, _, cache = cached(n_experts=n_experts)
    if layer is None:
        whole = cache["resid_post", 3]
    elif mlp_input:
        whole = cache["resid_mid", layer]
    else:
        whole = cache["resid_pre", layer]
    parts, labels = cache.decompose_resid(layer, mlp_input=mlp_input, return_labels=True)
    torch.testing.assert_close(parts.sum(0), whole, atol=1e-4, rtol=0)
    memory = [label for label in labels if "engram" in label]
    last = 4 if layer is None else layer + mlp_input
    assert memory == [f"{m}_engram_out" for m in (1, 2) if m < last]
    if memory:
        without = torch.stack([p for p, name in zip(parts, labels, strict=True) if name not in memory])
        assert (without.sum(0) - whole).abs().max() > 0.1
    full, names = cache.get_full_resid_decomposition(
        layer, mlp_input=mlp_input, expand_neurons=not n_experts and layer != 0, return_labels=True
    )
    torch.testing.assert_close(full.sum(0), whole, atol=1e-4, rtol=0)
    assert len(names) == len(full)
    assert names[len(names) - len(memory) :] == memory


@pytest.mark.parametrize("n_experts", [0, 5])
@pytest.mark.parametrize("pos_slice", [None, -1, (3, 7)])
def test_normalised_parts_sum_to_the_logits(n_experts: int, pos_slice: Any) -> None:
    model, logits, cache = cached(n_experts=n_experts)
    rows = slice(None) if pos_slice is None else slice(*pos_slice) if isinstance(pos_slice, tuple) else -1
    for parts in (
        cache.decompose_resid(apply_ln=True, pos_slice=pos_slice),
        cache.get_full_resid_decomposition(apply_ln=True, expand_neurons=not n_experts, pos_slice=pos_slice),
    ):
        torch.testing.assert_close((parts @ model.W_U).sum(0), logits[:, rows], atol=1e-4, rtol=0)


def test_projected_parts_sum_to_the_logit_difference() -> None:
    model, logits, cache = cached()
    direction = model.W_U[:, 9] - model.W_U[:, 4]
    wanted = logits[..., 9] - logits[..., 4]
    for project, total in ((direction, wanted), (model.W_U[:, [9, 4]], logits[..., [9, 4]])):
        parts = cache.get_full_resid_decomposition(apply_ln=True, project_output_onto=project)
        torch.testing.assert_close(parts.sum(0), total, atol=1e-4, rtol=0)


def test_logit_attributions_sum_to_the_logits() -> None:
    _, logits, cache = cached()
    stack, labels = cache.decompose_resid(return_labels=True)
    shares = cache.logit_attrs(stack, tokens=IDS)
    wanted = logits.gather(-1, IDS[..., None]).squeeze(-1)
    torch.testing.assert_close(shares.sum(0), wanted, atol=1e-4, rtol=0)
    pair = cache.logit_attrs(stack, tokens=7, incorrect_tokens=30)
    torch.testing.assert_close(pair.sum(0), logits[..., 7] - logits[..., 30], atol=1e-4, rtol=0)
    assert shares[labels.index("1_engram_out")].abs().max() > 1e-3


def test_accumulated_residuals_and_head_results() -> None:
    model, logits, cache = cached()
    stack, labels = cache.accumulated_resid(incl_mid=True, apply_ln=True, return_labels=True)
    assert labels[:3] == ["0_pre", "0_mid", "1_pre"]
    torch.testing.assert_close(model.unembed(stack[-1]), logits, atol=1e-4, rtol=0)
    heads, names = cache.stack_head_results(layer=2, return_labels=True)
    assert names == ["L0H0", "L0H1", "L1H0", "L1H1"]
    attended = cache["attn_out", 0] + cache["attn_out", 1]
    torch.testing.assert_close(heads.sum(0), attended, atol=1e-4, rtol=0)


def test_logit_lens_ends_at_the_models_own_logits() -> None:
    _, logits, cache = cached()
    seen = cache.logit_lens(positions=None)
    assert list(seen.labels) == ["0_pre", "1_pre", "2_pre", "3_pre", "final_post"]
    torch.testing.assert_close(seen.readout.values[-1], logits, atol=1e-4, rtol=0)
    _, _, several = cached(n_streams=4)
    with pytest.raises(ValueError, match="carries a stack of residual streams"):
        several.logit_lens()


@pytest.mark.parametrize(
    "ask",
    [
        EngramCache.decompose_resid,
        EngramCache.get_full_resid_decomposition,
        EngramCache.accumulated_resid,
        lambda cache: cache.apply_ln_to_stack(cache["resid_post", 3][None]),
    ],
)
def test_residual_sums_of_several_streams_are_refused(ask: Any) -> None:
    _, _, cache = cached(n_streams=4)
    with pytest.raises(InputError, match="want one residual stream and this model has 4"):
        ask(cache)


def test_neurons_of_experts_are_refused() -> None:
    _, _, cache = cached(n_experts=5)
    with pytest.raises(InputError, match="no neurons shared by all tokens; pass expand_neurons=False"):
        cache.get_full_resid_decomposition()


@pytest.mark.parametrize("n_streams", [1, 4])
@pytest.mark.parametrize(("cut", "kept"), [(3, [3]), ((2, 9), slice(2, 9)), ([1, 4], [1, 4])])
def test_pos_slice_cuts_tokens_and_nothing_else(n_streams: int, cut: Any, kept: Any) -> None:
    model, _, cache = cached(n_streams=n_streams, n_experts=3)
    _, sliced = model.run_with_cache(IDS, pos_slice=cut)
    assert set(sliced) == set(cache)
    for name in cache:
        value = cache[name]
        if ".experts." in name:
            wanted = value  # an expert's inputs have no token axis
        elif name.endswith(("pattern", "attn_scores")):
            wanted = value[:, :, kept]
        else:
            wanted = value[:, kept]
        assert sliced[name].equal(wanted), name


def test_remove_batch_dim() -> None:
    model = support.model(support.model_config(memory=support.memory_config(), n_streams=4))
    _, cache = model.run_with_cache(IDS[:1])
    _, single = model.run_with_cache(IDS[:1], remove_batch_dim=True, pos_slice=(1, 5))
    assert single["gate", 1, "engram"].equal(cache["gate", 1, "engram"][0, 1:5])
    assert single["resid_post", 2].shape == (4, 4, 20)
    assert single["pattern", 0].equal(cache["pattern", 0][0, :, 1:5])
    with pytest.raises(AssertionError, match="batch size 2"):
        model.run_with_cache(IDS, remove_batch_dim=True)


def test_cached_tensors_are_copies() -> None:
    model = support.model()
    before = model(IDS)
    _, acts = model.run_with_cache(IDS)
    pointers = [acts[name].data_ptr() for name in acts]
    assert len(set(pointers)) == len(pointers)
    for name in acts:
        acts[name].zero_()
    assert model(IDS).equal(before)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("blocks.1.engram.hook_gates", r"no hook points \['blocks.1.engram.hook_gates'\]"),
        (
            ["hook_embed", "blocks.0.engram.hook_gate"],
            r"\['blocks.0.engram.hook_gate'\]; list\(model.hook_di",
        ),
        (lambda name: name.startswith("block."), "filter matched no hook point"),
    ],
)
def test_a_filter_that_matches_nothing_is_an_error(names: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        support.model().run_with_cache(IDS, names_filter=names)


def test_filters_keep_what_they_name_and_plain_dicts_come_when_asked() -> None:
    model = support.model()
    _, cache = model.run_with_cache(IDS, names_filter=["hook_embed", "blocks.2.engram.hook_gate"])
    assert set(cache.keys()) == {"hook_embed", "blocks.2.engram.hook_gate"}
    _, plain = model.run_with_cache(IDS, names_filter="hook_embed", return_cache_object=False)
    assert isinstance(plain, dict)


def test_hooks_and_run_with_hooks_change_one_forward_pass() -> None:
    model = support.model()
    before = model(IDS)

    def shut(gate: Tensor, hook: Any) -> Tensor:
        return torch.zeros_like(gate)

    shutting: list[Any] = [(f"blocks.{layer}.engram.hook_gate", shut) for layer in (1, 2)]
    changed = model.run_with_hooks(IDS, fwd_hooks=shutting)
    with model.hooks(fwd_hooks=shutting):
        assert model(IDS).equal(changed)
        _, cache = model.run_with_cache(IDS)
    assert not cache["engram_out", 1].any()
    assert (changed - before).abs().max() > 1e-2
    assert model(IDS).equal(before)


def test_gradients_are_cached_too() -> None:
    model = support.model()
    model.requires_grad_(True)
    loss, cache = model.run_with_cache(
        IDS, return_type="loss", incl_bwd=True, names_filter="blocks.1.hook_engram_out", pos_slice=(2, 6)
    )
    assert cache["blocks.1.hook_engram_out_grad"].shape == (BATCH, 4, 20)
    assert loss.requires_grad


def test_the_cache_of_a_given_layout() -> None:
    """A model with primes and multipliers of its own reads the rows that they say."""
    memory = support.memory_config(layer_ids=(2,), hash_rule="explicit")
    layout = Layout(
        primes=torch.tensor([[[5, 7, 3], [2, 9, 4]]]).numpy(),
        multipliers=torch.tensor([[1, 3, 5]]).numpy(),
        layer_ids=(2,),
    )
    model = HookedEngramTransformer(
        support.model_config(memory=memory),
        token_map=support.model().get_buffer("token_map").numpy(),
        layout=layout,
    )
    assert model.get_parameter("blocks.2.engram.table.weight").shape == (30, 5)
    _, cache = model.run_with_cache(IDS, names_filter="blocks.2.engram.hook_rows")
    rows = cache["blocks.2.engram.hook_rows"]
    addressed = model.memory_rows(IDS)
    assert addressed is not None
    assert rows.equal(addressed[:, :, 0])
    assert int(rows.max()) < 30
