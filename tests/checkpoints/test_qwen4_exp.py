"""Qwen's `qwen4_exp` whole: logits, rows and streams are transformers' own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engram_interp import ablation, gates, lens, slots
from engram_interp.capture import record
from engram_interp.checkpoints import load_model, wrap
from engram_interp.checkpoints.qwen4_exp import qwen4_exp_of
from engram_interp.checkpoints.transformers_files import load_causal, quiet
from engram_interp.errors import InputError
from tests import support
from tests.checkpoints.qwen4_exp_models import EOS, causal, ids_with_ends, rows_of

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


def test_the_one_with_vision_is_read_as_text() -> None:
    configuration = pytest.importorskip("transformers.models.qwen4_exp.configuration_qwen4_exp")
    modeling = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 20}
    config = configuration.Qwen4ExpConfig(text_config=causal().config.to_dict(), vision_config=vision)
    with quiet():
        module = modeling.Qwen4ExpForConditionalGeneration(config).eval()
    support.randomise(module, seed=4, std=0.1)
    model, ids = wrap(module, support.tokenizer(), name="vl"), ids_with_ends()
    assert (model.family, model.n_layers, model.memory_layers) == ("qwen4_exp", 5, (1, 3))
    with torch.inference_mode():
        wanted = module(input_ids=ids, use_cache=False).logits
    assert (record(model, ids).logits - wanted).abs().max() < 1e-5


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
