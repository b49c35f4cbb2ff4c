"""Layers of the paper's demo: our own round trip, and the published module's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engram_interp.checkpoints.demo import demo_config, demo_state_dict, load_demo_layer
from engram_interp.checkpoints.files import load_tokenizer
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.module import Engram
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
