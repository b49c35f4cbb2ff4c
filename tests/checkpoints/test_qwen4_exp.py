"""Qwen's `qwen4_exp`: transformers' own module and ours, on random weights and on the fixture."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engram_interp import ablation, gates, lens, slots
from engram_interp.capture import record
from engram_interp.checkpoints import load_model, wrap
from engram_interp.checkpoints.baseline import load_causal, quiet
from engram_interp.checkpoints.qwen4_exp import qwen4_exp_of
from engram_interp.checkpoints.qwen4_exp_block import engram_from_ple
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.hashing import Layout
from engram_interp.memory.module import Engram
from tests import support
from tests.support import randomise

EOS = 7
VARIANTS: list[dict[str, Any]] = [
    {},
    {"hidden_size": 12, "hc_count": 2, "ngram_size": 2, "heads_per_ngram": 3, "ple_embed_dim": 9},
    {"ngram_size": 4, "heads_per_ngram": 1, "ple_embed_dim": 15, "ple_conv_kernel_size": 2, "seed": 3},
    {"ngram_vocab_size_base": 500, "make_ngram_vocab_size_divisible_by": 64, "rms_norm_eps": 1e-3},
]


def transformers_layers(**changes: Any) -> list[Any]:
    """PLE layers of transformers with random weights, built straight from a small configuration."""
    configuration = pytest.importorskip("transformers.models.qwen4_exp.configuration_qwen4_exp")
    modeling = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    values: dict[str, Any] = {
        "vocab_size": 97,
        "hidden_size": 20,
        "num_hidden_layers": 5,
        "layer_types": ["linear_attention"] * 5,
        "hc_count": 3,
        "ple_layer_ids": [2, 5],
        "ple_embed_dim": 16,
        "ple_conv_kernel_size": 3,
        "ngram_size": 3,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 30,
        "make_ngram_vocab_size_divisible_by": 16,
        "seed": 1234,
        "eos_token_id": EOS,
        "num_experts": 2,
        "num_experts_per_tok": 1,
    }
    config = configuration.Qwen4ExpTextConfig(**values | changes)
    layers = []
    for index, counted_from_1 in enumerate(config.ple_layer_ids):
        layer = modeling.Qwen4ExpTextPLELayer(config, counted_from_1 - 1, index)
        randomise(layer, seed=index)
        layers.append(layer.eval().requires_grad_(False))
    return layers


def ids_with_ends() -> Tensor:
    ids = torch.randint(0, 97, (3, 19))
    ids[0, 5] = ids[1, 0] = ids[1, 1] = ids[2, 9] = ids[2, 11] = EOS
    return ids


def rows_of(ids: Tensor, layout: Layout) -> Tensor:
    split = hashing.segments(ids, separator_id=EOS, boundary="separator_ends")
    return hashing.addresses(ids, layout, pad_id=EOS, segment_ids=split)


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_module_equals_transformers_own(changes: dict[str, Any]) -> None:
    ids = ids_with_ends()
    for layer in transformers_layers(**changes):
        engram, layout = engram_from_ple(layer)
        hidden = torch.randn(*ids.shape, layer.hc_count, layer.hidden_size)
        theirs: list[Tensor] = []
        table = layer.ple_embedding.ngram_embedding
        table.register_forward_hook(lambda _m, given, _out, into=theirs: into.append(given[0]))
        wanted = layer(hidden.flatten(-2), ids, None).unflatten(-1, (layer.hc_count, -1))
        rows = rows_of(ids, layout)[:, :, 0]
        assert rows.equal(theirs[0][:, -ids.shape[1] :])
        assert (engram(hidden, rows) - wanted).abs().max() < 1e-5
        assert len(table.weight) >= int(layout.rows[0])  # transformers pads its table


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_rule_gives_the_layout_that_transformers_stores(changes: dict[str, Any]) -> None:
    layers = transformers_layers(**changes)
    stored = [engram_from_ple(layer)[1] for layer in layers]
    hashed = layers[0].ple_embedding
    config = EngramConfig(
        layer_ids=tuple(layer.layer_idx for layer in layers),
        max_order=hashed.ngram_size,
        heads=hashed.heads_per_ngram,
        rows=hashed.ngram_vocab_size_base,
        hash_rule="qwen4_exp",
        compression="none",
        seed=hashed.seed,
    )
    layout = config.layout(n_ids=97)
    assert layout.layer_ids == (1, 4)
    for index, own in enumerate(stored):
        assert layout.primes[index].tolist() == own.primes[0].tolist()
        assert layout.multipliers[index].tolist() == own.multipliers[0].tolist()
        assert layout.offsets[index].tolist() == layers[index].ple_embedding.ngram_heads_offsets.tolist()


def test_the_copy_does_not_share_weights() -> None:
    layer = transformers_layers()[0]
    engram, _ = engram_from_ple(layer)
    before = layer.value_proj.weight.clone()
    with torch.no_grad():
        engram.value.weight.zero_()
    assert layer.value_proj.weight.equal(before)


# --- whole models ----------------------------------------------------------------------------------

MODELS: list[dict[str, Any]] = [
    {},
    {"hc_count": 2, "ple_layer_ids": [2], "ngram_size": 4, "ple_embed_dim": 18, "seed": 7},
    {
        "hc_count": 4,
        "ple_layer_ids": [1, 2, 4],
        "heads_per_ngram": 3,
        "ple_embed_dim": 24,
        "eos_token_id": [7, 9],
    },
    {"num_hidden_layers": 3, "layer_types": ["linear_attention"] * 3, "ple_layer_ids": [3, 1]},
]


def causal(**changes: Any) -> Any:
    """A causal model of transformers with random weights, five layers and memories at 0-based 1 and 3."""
    configuration = pytest.importorskip("transformers.models.qwen4_exp.configuration_qwen4_exp")
    modeling = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    linear, indexed = "linear_attention", "indexed_attention"
    values: dict[str, Any] = {
        "vocab_size": support.D_VOCAB,
        "hidden_size": 20,
        "num_hidden_layers": 5,
        "layer_types": [linear, linear, indexed, linear, indexed],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "hc_count": 3,
        "hc_lowrank": 6,
        "ple_layer_ids": [2, 4],
        "ple_embed_dim": 16,
        "ple_conv_kernel_size": 3,
        "ngram_size": 3,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 60,
        "make_ngram_vocab_size_divisible_by": 16,
        "seed": 1234,
        "eos_token_id": EOS,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "shared_expert_intermediate_size": 16,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 6,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "indexer_head_dim": 16,
        "indexer_kv_heads": 1,
        "indexer_n_heads": 4,
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 2, 2],
            "mrope_interleaved": True,
        },
    }
    with quiet():
        module = modeling.Qwen4ExpForCausalLM(configuration.Qwen4ExpTextConfig(**values | changes))
    randomise(module, seed=3, std=0.1)
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("changes", MODELS)
def test_logits_are_transformers_and_rows_are_identical(changes: dict[str, Any]) -> None:
    module = causal(**changes)
    model = qwen4_exp_of(module, support.tokenizer(), name="q")
    assert model.memory_layers == tuple(sorted(i - 1 for i in module.config.ple_layer_ids))
    assert model.separator_id == EOS and model.layout is not None
    ids = ids_with_ends()
    read: dict[int, Tensor] = {}
    for layer in model.memory_layers:
        table = module.model.layers[layer].ple.ple_embedding.ngram_embedding
        table.register_forward_hook(lambda _m, given, _out, at=layer: read.update({at: given[0]}))
    with torch.inference_mode():
        wanted = module(ids, use_cache=False, output_hidden_states=True)
    rec = record(model, ids, sites=["blocks.*.engram.*", "blocks.*.hook_*"])
    assert (rec.logits - wanted.logits).abs().max() < 1e-5
    for layer in range(model.n_layers - 1):  # the last one of transformers' is past the mixer
        site = f"blocks.{layer}.hook_resid_post"
        assert rec[site].shape == (*ids.shape, model.n_streams, model.d_model)
        assert (rec[site].flatten(2) - wanted.hidden_states[layer + 1]).abs().max() < 1e-5
    for place, layer in enumerate(model.memory_layers):
        rows = rec[f"blocks.{layer}.engram.hook_rows"]
        assert rows.equal(read[layer])
        assert rows.equal(rows_of(ids, model.layout)[:, :, place])
        written = rec[f"blocks.{layer}.engram.hook_gated_value"] + rec[f"blocks.{layer}.engram.hook_conv_out"]
        out = rec[f"blocks.{layer}.hook_engram_out"]
        assert (written - out).abs().max() < 1e-6
        assert rec[f"blocks.{layer}.engram.hook_gate"].shape == (*ids.shape, model.n_streams)


def test_a_mask_is_dead_to_the_memory_as_transformers_makes_it() -> None:
    module = causal()
    model = qwen4_exp_of(module, support.tokenizer(), name="q")
    ids, mask = ids_with_ends(), torch.ones(3, 19, dtype=torch.int64)
    mask[1, 12:] = 0
    with torch.inference_mode():
        wanted = module(ids, attention_mask=mask, use_cache=False).logits
        found = model.module(ids, attention_mask=mask).logits
    assert (found - wanted)[mask.bool()].abs().max() < 1e-5
    with pytest.raises(InputError, match=r"runs whole prompts; give use_cache=False"):
        model.module(ids, use_cache=True)


def test_a_training_step_is_seen_and_the_users_module_is_not_changed() -> None:
    module = causal()
    names = [name for name, _ in module.named_modules()]
    model = wrap(module, support.tokenizer(), name="live")
    assert (model.family, model.name) == ("qwen4_exp", "live")
    ids = ids_with_ends()
    before = model.logits(ids)
    assert [name for name, _ in module.named_modules()] == names
    assert not any(p.requires_grad for p in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.25)
        wanted = module(ids, use_cache=False).logits
    assert not model.logits(ids).equal(before)
    assert (model.logits(ids) - wanted).abs().max() < 1e-5


def test_a_directory_opens_and_every_question_can_be_asked(tmp_path: Path) -> None:
    module = causal()
    with quiet():
        module.save_pretrained(tmp_path / "q")
    support.tokenizer().save(str(tmp_path / "q" / "tokenizer.json"))
    model = load_model(tmp_path / "q")
    assert (model.family, len(model.digest)) == ("qwen4_exp", 64)
    ids = ids_with_ends()
    assert (model.logits(ids) - module(ids, use_cache=False).logits).abs().max() < 1e-5
    texts = support.documents(21, seed=4)
    found = lens.convergence(model, texts, limit=20, n_boot=5).data
    assert float(found["kl"][-1]) == pytest.approx(0, abs=1e-6)
    slot = slots.lookup(model, "The Kalo of Dor").data
    assert slot["share"].notnull().all() and slot.sizes["stream"] == 3
    statistics = gates.statistics(model, texts[:4], n_boot=5, n_inits=2, init_documents=2).data
    assert statistics["null_mean"].notnull().all()
    with ablation.ablate(model, "gate_zero", layers=[1]):
        assert not model.logits(ids).equal(module(ids, use_cache=False).logits)


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        ("layer_multipliers", r"stores multipliers [\d, ]+ for layer 3 \(counted from 0\), and the rule"),
        (
            "ngram_heads_vocab_sizes",
            r"layer 3 \(counted from 0\) stores the offsets 0, 79, 162, .* add up to 0, 79, 164,",
        ),
    ],
)
def test_another_hash_is_refused_with_what_was_found(buffer: str, message: str) -> None:
    module = causal()
    getattr(module.model.layers[3].ple.ple_embedding, buffer)[1] += 2
    with pytest.raises(InputError, match=f"(?i){message}"):
        qwen4_exp_of(module, support.tokenizer(), name="q")
    seeded = causal()
    seeded.config.seed = 99
    with pytest.raises(InputError, match=r"q stores multipliers .* for layer 1 .* it hashes otherwise"):
        qwen4_exp_of(seeded, support.tokenizer(), name="q")


@pytest.mark.shared
@pytest.mark.parametrize("prompt", ["a", "b", "c"])
def test_the_fixtures_whole_model(shared_dir: Path, prompt: str) -> None:
    folder = shared_dir / "conformance" / "qwen4_exp"
    expected = load_file(folder / "expected" / f"prompt_{prompt}.safetensors")
    model = qwen4_exp_of(load_causal(folder), support.tokenizer(384), name="fixture")
    assert model.memory_layers == (0, 3) and model.layout is not None
    rec = record(model, expected["input_ids"][None], sites=list(model.sites))
    assert (rec.logits[0] - expected["logits"]).abs().max() < 1e-4
    for layer in range(5):
        for ours, theirs in (("mid", "after_attn"), ("post", "after_mlp")):
            seen = rec[f"blocks.{layer}.hook_resid_{ours}"][0]
            assert (seen - expected[f"layers.{layer}.streams.{theirs}"]).abs().max() < 2e-4
    for layer in (0, 3):
        parts = {"rows": "row_ids", "memory": "rows", "mem_value": "value", "score": "dot", "gate": "gate"}
        for ours, theirs in parts.items():
            seen = rec[f"blocks.{layer}.engram.hook_{ours}"][0]
            allowed = {"rows": 0, "memory": 0, "gate": 5e-5, "score": 1e-4}.get(ours, 2e-4)
            assert (seen - expected[f"layers.{layer}.ple.{theirs}"]).abs().max() <= allowed
        out = rec[f"blocks.{layer}.hook_engram_out"][0]
        assert (out - expected[f"layers.{layer}.ple.output"]).abs().max() < 2e-4
        resid = rec[f"blocks.{layer}.hook_resid_pre"][0] + out
        assert (resid - expected[f"layers.{layer}.streams.after_ple"]).abs().max() < 2e-4


def fixture_engram(folder: Path, config: dict[str, Any], layer: int) -> Engram:
    configuration = pytest.importorskip("transformers.models.qwen4_exp.configuration_qwen4_exp")
    modeling = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    prefix = f"model.layers.{layer}.ple."
    weights = load_file(folder / "model.safetensors")
    state = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    table = "ple_embedding.ngram_embedding."
    parts = range(config["split_ngram_parts"])
    state[f"{table}weight"] = torch.cat([state.pop(f"{table}shard_{i}.weight") for i in parts])
    index = config["ple_layer_ids"].index(layer + 1)
    ple = modeling.Qwen4ExpTextPLELayer(configuration.Qwen4ExpTextConfig(**config), layer, index)
    ple.load_state_dict(state)
    return engram_from_ple(ple)[0].requires_grad_(False)


@pytest.mark.shared
@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("prompt", ["a", "b"])
def test_the_fixtures_memory_layers(shared_dir: Path, layer: int, prompt: str) -> None:
    folder = shared_dir / "conformance" / "qwen4_exp"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = load_file(folder / "expected" / f"prompt_{prompt}.safetensors")
    engram = fixture_engram(folder, config, layer)
    names = {"memory": "rows", "mem_value": "value", "score": "dot", "gate": "gate", "conv_out": "short_conv"}
    seen: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        point = engram.get_submodule(f"hook_{ours}")
        point.register_forward_hook(lambda _m, _i, out, n=theirs: seen.update({n: out[0]}))

    def wanted(name: str) -> Tensor:
        return expected[f"layers.{layer}.ple.{name}"]

    seen["output"] = engram(wanted("stream_in")[None], wanted("row_ids")[None])[0]
    assert seen["rows"].equal(wanted("rows"))
    allowed = {"gate": 5e-5, "dot": 1e-4}
    for name, value in seen.items():
        assert (value - wanted(name)).abs().max() <= allowed.get(name, 2e-4), name
