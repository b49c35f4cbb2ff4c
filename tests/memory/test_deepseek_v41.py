"""The memory of a tiny checkpoint in DeepSeek-V4.1's format: rows, key, value, gate and write."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from engram_interp.memory.config import EngramConfig
from engram_interp.memory.module import Engram
from engram_interp.memory.quantise import dequantise_rows

pytestmark = pytest.mark.shared
LAYERS = (1, 3)


@pytest.fixture(scope="module")
def folder(shared_dir: Path) -> Path:
    return shared_dir / "conformance" / "deepseek_v41_tiny"


def blocks_dequantised(weight: Tensor, scale: Tensor) -> Tensor:
    """A dense fp8 matrix with one power-of-two scale per 32 x 32 block."""
    spread = scale.float().repeat_interleave(32, 0).repeat_interleave(32, 1)
    return weight.float() * spread[: weight.shape[0], : weight.shape[1]]


def engram_of(folder: Path, layer: int) -> Engram:
    index = json.loads((folder / "checkpoint" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    prefix = f"layers.{layer}.engram."
    shard = index["weight_map"][f"{prefix}embed.weight"]
    raw = {k.removeprefix(prefix): v for k, v in load_file(folder / "checkpoint" / shard).items()}
    table = dequantise_rows(raw["embed.weight"], raw["embed.scale"])
    config = EngramConfig(
        layer_ids=LAYERS,
        max_order=4,
        heads=2,
        d_row=table.shape[1],
        rows=300,
        pad_token=2,
        boundary="none",
        conv_kernel=0,
        norm_eps=1e-20,
    )
    d_model = raw["q_weight"].shape[1]
    engram = Engram(config, d_model=d_model, n_streams=4, n_rows=len(table))
    both = blocks_dequantised(raw["wkv.weight"], raw["wkv.scale"])
    engram.load_state_dict(
        {
            "table.weight": table,
            "key.weight": both[:-d_model],
            "value.weight": both[-d_model:],
            "query_norm.weight": raw["q_weight"].float(),
            "key_norm.weight": raw["k_weight"].float(),
        }
    )
    return engram.requires_grad_(False)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("prompt", ["a", "b", "c"])
def test_memory_equals_the_reference(folder: Path, layer: int, prompt: str) -> None:
    expected = load_file(folder / "expected" / f"prompt_{prompt}.safetensors")
    allowed = json.loads((folder / "expected" / "tolerances.json").read_text(encoding="utf-8"))["absolute"]
    engram = engram_of(folder, layer)
    seen: dict[str, Tensor] = {}
    names = {"memory": "rows", "mem_key": "key", "mem_value": "value", "score": "dot", "gate": "gate"}
    for ours, theirs in names.items():
        point = engram.get_submodule(f"hook_{ours}")
        point.register_forward_hook(lambda _m, _i, out, n=theirs: seen.update({n: out[0]}))
    before = expected[f"layers.{layer}.streams.before_engram"]
    write = engram(before[None], expected[f"layers.{layer}.engram.hash_ids"][None])[0]
    compared = {name for name in seen if f"layers.{layer}.engram.{name}" in expected}
    assert compared >= {"rows", "value", "dot", "gate"}
    for name in compared:
        error = (seen[name] - expected[f"layers.{layer}.engram.{name}"]).abs().max()
        assert error <= allowed[f"engram.{name}"], name
    error = (before + write - expected[f"layers.{layer}.streams.after_engram"]).abs().max()
    assert error <= allowed["streams.after_engram"]


def test_the_key_is_compared_at_least_once(folder: Path) -> None:
    expected = load_file(folder / "expected" / "prompt_a.safetensors")
    assert {f"layers.{layer}.engram.key" for layer in LAYERS} <= set(expected)
