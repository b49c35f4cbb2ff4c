"""A memory layer of Qwen's `qwen4_exp`: transformers' own and ours, on random weights and on the fixture."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engram_interp.checkpoints.qwen4_exp_block import engram_from_ple
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.module import Engram
from tests.checkpoints.qwen4_exp_models import EOS, ids_with_ends, rows_of
from tests.support import randomise

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
