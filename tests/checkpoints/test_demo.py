"""Layers of the paper's demo: our own round trip, and the published module's numbers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engram_interp.checkpoints.demo import (
    demo_config,
    demo_state_dict,
    from_native,
    load_demo_layer,
    to_native,
)
from engram_interp.checkpoints.files import load_tokenizer
from engram_interp.checkpoints.native import load_native, save_native
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.module import Engram
from engram_interp.model.config import ModelConfig
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support
from tests.support import randomise

SIZES: dict[str, Any] = {
    "engram_vocab_size": [20, 30],
    "max_ngram_size": 3,
    "n_embed_per_ngram": 15,
    "n_head_per_ngram": 3,
    "layer_ids": [1, 2],
    "pad_id": 2,
    "seed": 5,
    "kernel_size": 4,
}


def layer_and_state() -> tuple[Engram, dict[str, Tensor]]:
    config = demo_config(SIZES)
    layout = config.layout(n_ids=50)
    engram = Engram(config, d_model=7, n_streams=3, n_rows=int(layout.rows[0]))
    randomise(engram)
    return engram, demo_state_dict(engram, offsets=torch.from_numpy(layout.offsets[0]))


def test_names_there_and_back() -> None:
    engram, state = layer_and_state()
    assert state["key_projs.2.bias"].shape == (7,)
    assert state["key_projs.0.weight"].shape == (7, 30)
    assert state["short_conv.conv.weight"].shape == (21, 1, 4)
    again = load_demo_layer(state, engram.config)
    assert {k: v.tolist() for k, v in again.state_dict().items()} == {
        k: v.tolist() for k, v in engram.state_dict().items()
    }
    hidden, rows = torch.randn(2, 5, 3, 7), torch.randint(0, 100, (2, 5, 6))
    assert again(hidden, rows).equal(engram(hidden, rows))


def test_configuration_in_our_words() -> None:
    config = demo_config(SIZES)
    assert (config.d_row, config.rows, config.dilation, config.bias) == (5, (20, 30), 3, True)
    assert config.norm_eps == torch.finfo(torch.float32).eps
    with pytest.raises(InputError, match=r"it lacks \['pad_id'\]"):
        demo_config({k: v for k, v in SIZES.items() if k != "pad_id"})


def test_states_that_do_not_fit_are_refused() -> None:
    engram, state = layer_and_state()
    with pytest.raises(InputError, match=r"no state dict of a demo layer.*holds \['weight'\]"):
        load_demo_layer({"weight": torch.zeros(1)}, engram.config)
    narrow = state | {"norm1.1.weight": torch.zeros(6)}
    with pytest.raises(InputError, match=r"norm1.1.weight is \(6,\) and wants to be \(7,\) \(1 such"):
        load_demo_layer(narrow, engram.config)
    del state["short_conv.norms.0.weight"]
    with pytest.raises(InputError, match=r"short_conv.norms.0.weight is missing and wants to be \(7,\)"):
        load_demo_layer(state, engram.config)


def backbone(**changes: Any) -> ModelConfig:
    return support.model_config(**{"d_model": 12, "n_streams": 3, "n_layers": 5} | changes)


def native(**changes: Any) -> HookedEngramTransformer:
    """A model of ours whose memory the demo can express, with random weights."""
    memory = replace(demo_config(SIZES | {"layer_ids": [1, 3]}), **changes)
    return support.model(backbone(engram=memory))


def test_models_there_and_back_bit_for_bit(tmp_path: Path) -> None:
    model = native()
    values, layers = from_native(model)
    assert values == SIZES | {"layer_ids": [1, 3]}
    made = to_native(layers, values, tokenizer=support.tokenizer(), backbone=backbone())
    save_native(tmp_path, made, tokenizer=support.tokenizer())
    opened = load_native(tmp_path).module
    assert isinstance(opened, HookedEngramTransformer)
    again = from_native(opened)
    assert again[0] == values
    for layer, state in layers.items():
        assert again[1][layer].keys() == state.keys()
        assert all(again[1][layer][name].equal(value) for name, value in state.items())
        place = f"blocks.{layer}.engram"
        own, made_of = (m.get_submodule(place).state_dict() for m in (opened, model))
        assert all(value.equal(own[name]) for name, value in made_of.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": False}, r"cannot express bias=False \(there True\); such a memory stays native"),
        (
            {"gate": "open", "norm": "zero_centred"},
            r"norm='zero_centred' \(there 'rms'\), gate='open' \(there",
        ),
        ({"conv_kernel": 0}, "cannot express a memory without a convolution"),
        ({"conv_dilation": 2}, r"conv_dilation=2 \(there None\)"),
        ({"boundary": "separator_starts"}, r"boundary='separator_starts' \(there 'none'\)"),
        ({"hash_rule": "qwen4_exp", "rows": 40}, r"hash_rule='qwen4_exp' \(there 'deepseek'\)"),
        ({"norm_eps": 1e-6}, r"norm_eps=1e-06 \(there 1\.19"),
    ],
)
def test_what_the_demo_cannot_express_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_native(native(**changes))


def test_the_dilation_named_and_one_number_of_rows_are_expressed() -> None:
    values, _ = from_native(native(conv_dilation=3, rows=25))
    assert values["engram_vocab_size"] == [25, 25]


def test_demo_models_that_do_not_fit_are_refused() -> None:
    values, layers = from_native(native())
    give: dict[str, Any] = {"tokenizer": support.tokenizer(), "backbone": backbone()}
    with pytest.raises(InputError, match=r"on layers \[1, 3\] and state dicts came for \[1\]; give one"):
        to_native({1: layers[1]}, values, **give)
    with pytest.raises(
        InputError, match=r"layer 1 has \(width, streams, rows\) \(12, 3, \d+\) and .* \(16, 3"
    ):
        to_native(layers, values, **give | {"backbone": backbone(d_model=16)})
    with pytest.raises(InputError, match=r"rows\) \(12, 3, \d+\) and the backbone and hash"):
        to_native(layers, values | {"engram_vocab_size": [50, 60]}, **give)
    moved = layers[3] | {"multi_head_embedding.offsets": layers[3]["multi_head_embedding.offsets"] + 1}
    with pytest.raises(InputError, match=r"layer 3 stores offsets \[1, .* gives \[0, .* lie elsewhere"):
        to_native(layers | {3: moved}, values, **give)
    half = {name: value.bfloat16() for name, value in layers[3].items()}
    half["multi_head_embedding.offsets"] = layers[3]["multi_head_embedding.offsets"]
    with pytest.raises(InputError, match=r"known of float32 alone; .* is torch.bfloat16: cast"):
        to_native(layers | {3: half}, values, **give)
    with pytest.raises(InputError, match="no memory to give the demo"):
        from_native(support.model(support.model_config()))


@pytest.mark.shared
def test_the_published_modules_layers_in_a_model_of_ours(shared_dir: Path) -> None:
    folder = shared_dir / "conformance" / "demo"
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))["engram"]
    tokenizer, expected = (
        load_tokenizer(folder / "tokenizer.json"),
        load_file(folder / "expected.safetensors"),
    )
    layers = {layer: load_file(folder / f"layer_{layer}.safetensors") for layer in (1, 3)}
    sizes = backbone(d_model=40, n_streams=4, d_vocab=640)
    model = to_native(layers, values, tokenizer=tokenizer, backbone=sizes)
    _, back = from_native(model)
    for layer in (1, 3):
        assert all(back[layer][name].equal(value) for name, value in layers[layer].items())
        rows = model.memory_rows(expected["input_ids"])
        assert rows is not None and model.layout is not None
        place = model.layout.layer_ids.index(layer)
        output = model.get_submodule(f"blocks.{layer}.engram")(expected["hidden_states"], rows[:, :, place])
        assert (output - expected[f"layer_{layer}.output"]).abs().max() < 5e-5


@pytest.mark.shared
@pytest.mark.parametrize("layer", [1, 3])
def test_the_published_module(shared_dir: Path, layer: int) -> None:
    folder = shared_dir / "conformance" / "demo"
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = load_file(folder / "expected.safetensors")
    config = demo_config(values["engram"])
    mapping, count = hashing.token_map(load_tokenizer(folder / "tokenizer.json"))
    assert mapping.tolist() == expected["compressed_lookup"].tolist()
    canonical = torch.from_numpy(mapping)[expected["input_ids"]]
    assert canonical.equal(expected["compressed_input_ids"])
    layout = config.layout(n_ids=count)
    index = layout.layer_ids.index(layer)
    wanted = {k.removeprefix(f"layer_{layer}."): v for k, v in expected.items() if f"layer_{layer}." in k}
    assert layout.primes[index].tolist() == wanted["primes"].tolist()
    assert layout.multipliers[index].tolist() == wanted["multipliers"].tolist()
    rows = hashing.addresses(canonical, layout, pad_id=int(expected["compressed_pad_id"]))[:, :, index]
    offsets = torch.from_numpy(layout.offsets[index])
    assert (rows - offsets).equal(wanted["hash_ids"])
    state = load_file(folder / f"layer_{layer}.safetensors")
    assert state["multi_head_embedding.offsets"].equal(offsets)
    engram = load_demo_layer(state, config)
    assert len(engram.table.weight) == layout.rows[index]
    names = {
        "memory": "rows",
        "mem_value": "value",
        "score": "dot",
        "gate": "gate",
        "gated_value": "gated_value",
        "conv_out": "short_conv",
    }
    seen: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        point = engram.get_submodule(f"hook_{ours}")
        point.register_forward_hook(lambda _m, _i, out, n=theirs: seen.update({n: out.detach()}))
    seen["output"] = engram(expected["hidden_states"], rows).detach()
    assert seen["rows"].equal(wanted["rows"])
    allowed = {"gate": 2e-5}
    for name, value in seen.items():
        assert (value - wanted[name]).abs().max() <= allowed.get(name, 5e-5), name
    back = demo_state_dict(engram, offsets=offsets)
    assert back.keys() == state.keys()
    assert all(back[name].equal(value) for name, value in state.items())
