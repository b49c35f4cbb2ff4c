"""The memory layers of the paper's published demo module: their weights under our names, and back.

The demo prints no checkpoint; whoever trained from it has state dicts with these names. Its norms take
the epsilon of the input's type, float32 here; its convolution's norms take 1e-5.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.module import Engram
from engram_interp.model.config import ModelConfig
from engram_interp.model.transformer import HookedEngramTransformer

_TABLE = "multi_head_embedding.embedding.weight"
_OFFSETS = "multi_head_embedding.offsets"
_FIELDS = (
    "engram_vocab_size",
    "max_ngram_size",
    "n_embed_per_ngram",
    "n_head_per_ngram",
    "layer_ids",
    "pad_id",
    "seed",
    "kernel_size",
)


def demo_config(values: Mapping[str, Any]) -> EngramConfig:
    """The memory that the demo's `EngramConfig` describes.

    Args:
        values: Its fields by name; `engram_vocab_size` is the least number of rows a head, per order.

    Raises:
        InputError: If a field is missing.
    """
    missing = [name for name in _FIELDS if name not in values]
    if missing:
        raise InputError(f"The demo's configuration wants {', '.join(_FIELDS)}; it lacks {missing}.")
    return EngramConfig(
        layer_ids=tuple(values["layer_ids"]),
        max_order=values["max_ngram_size"],
        heads=values["n_head_per_ngram"],
        d_row=values["n_embed_per_ngram"] // values["n_head_per_ngram"],
        rows=tuple(values["engram_vocab_size"]),
        pad_token=values["pad_id"],
        boundary="none",
        seed=values["seed"],
        bias=True,
        conv_kernel=values["kernel_size"],
        norm_eps=torch.finfo(torch.float32).eps,
    )


def demo_values(config: EngramConfig) -> dict[str, Any]:
    """The demo's fields for a memory; the inverse of `demo_config`.

    Raises:
        InputError: If the demo cannot express the memory; names what it lacks.
    """
    orders = config.max_order - 1
    rows = config.rows if isinstance(config.rows, tuple) else (config.rows,) * orders
    values: dict[str, Any] = {
        "engram_vocab_size": list(rows),
        "max_ngram_size": config.max_order,
        "n_embed_per_ngram": config.d_row * config.heads,
        "n_head_per_ngram": config.heads,
        "layer_ids": list(config.layer_ids),
        "pad_id": config.pad_token,
        "seed": config.seed,
        "kernel_size": config.conv_kernel,
    }
    dilation = None if config.conv_dilation == config.max_order else config.conv_dilation
    plain = replace(config, rows=rows, conv_dilation=dilation)
    wanted = demo_config(values)
    apart = [
        f"{field.name}={getattr(plain, field.name)!r} (there {getattr(wanted, field.name)!r})"
        for field in fields(config)
        if getattr(plain, field.name) != getattr(wanted, field.name)
    ]
    if not config.conv_kernel:
        apart.append("a memory without a convolution")
    if apart:
        raise InputError(f"The demo module cannot express {', '.join(apart)}; such a memory stays native.")
    return values


def to_native(
    layers: Mapping[int, Mapping[str, Tensor]],
    values: Mapping[str, Any],
    *,
    tokenizer: Tokenizer,
    backbone: ModelConfig,
) -> HookedEngramTransformer:
    """A model in our own format whose memories are the demo's; its backbone is freshly initialised.

    The demo has no backbone of its own: attention and experts are stand-ins there.

    Args:
        layers: By layer (numbered as the demo's `layer_ids`), `Engram(layer_id).state_dict()`.
        values: The demo's `EngramConfig` by field.
        tokenizer: The one the demo was given.
        backbone: Sizes of the rest; width and streams must be those of the state dicts.

    Raises:
        InputError: If layers, sizes or stored offsets disagree, or a tensor is missing or unknown.
    """
    config = demo_config(values)
    if sorted(layers) != list(config.layer_ids):
        raise InputError(
            f"The demo's configuration has memories on layers {list(config.layer_ids)} and state dicts came "
            f"for {sorted(layers)}; give one for each."
        )
    token_map, count = hashing.token_map(tokenizer)
    layout = config.layout(n_ids=count)
    model = HookedEngramTransformer(
        replace(backbone, engram=config), token_map=token_map, layout=layout, tokenizer=tokenizer
    )
    for place, layer in enumerate(config.layer_ids):
        loaded, own = load_demo_layer(layers[layer], config), _memory(model, layer)
        sizes = [(part.d_model, part.n_streams, len(part.table.weight)) for part in (loaded, own)]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"The demo's layer {layer} has (width, streams, rows) {sizes[0]} and the backbone and hash "
                f"rule want {sizes[1]}; give a backbone of that width and streams, and the demo's tokenizer."
            )
        if layers[layer][_OFFSETS].tolist() != layout.offsets[place].tolist():
            raise InputError(
                f"The demo's layer {layer} stores offsets {layers[layer][_OFFSETS][:3].tolist()}, … and the "
                f"hash rule gives {layout.offsets[place, :3].tolist()}, …: its rows lie elsewhere."
            )
        own.load_state_dict(loaded.state_dict())
    return model.eval().requires_grad_(False)


def from_native(model: HookedEngramTransformer) -> tuple[dict[str, Any], dict[int, dict[str, Tensor]]]:
    """The demo's configuration and a state dict per memory layer; the inverse of `to_native`, bit for bit.

    Raises:
        InputError: If the model has no memory, or one that the demo cannot express; names what it lacks.
    """
    if model.cfg.engram is None or model.layout is None:
        raise InputError("The model has no memory to give the demo; give one with Engram.")
    values, offsets = demo_values(model.cfg.engram), torch.from_numpy(model.layout.offsets)
    return values, {
        layer: demo_state_dict(_memory(model, layer), offsets=offsets[place])
        for place, layer in enumerate(model.cfg.memory_layers)
    }


def _memory(model: HookedEngramTransformer, layer: int) -> Engram:
    found: Any = model.blocks[layer]
    engram: Engram = found.engram
    return engram


def load_demo_layer(state_dict: Mapping[str, Tensor], config: EngramConfig) -> Engram:
    """The memory layer whose weights a demo module's state dict holds.

    Args:
        state_dict: `Engram(layer_id).state_dict()` of the demo.
        config: What `demo_config` gave.

    Raises:
        InputError: If a tensor is missing, unknown, or of another shape than the configuration wants.
    """
    if not {_TABLE, "value_proj.weight"} <= set(state_dict):
        raise InputError(
            f"This is no state dict of a demo layer: it lacks {_TABLE} or value_proj.weight and holds "
            f"{sorted(state_dict)[:3]}."
        )
    streams = sum(name.startswith("key_projs.") and name.endswith(".weight") for name in state_dict)
    engram = Engram(
        config,
        d_model=len(state_dict["value_proj.weight"]),
        n_streams=streams,
        n_rows=len(state_dict[_TABLE]),
    )
    expected = demo_state_dict(engram, offsets=torch.zeros(config.columns, dtype=torch.int64))
    shapes, wanted = ({k: tuple(v.shape) for k, v in d.items()} for d in (state_dict, expected))
    wrong = sorted(k for k in shapes.keys() | wanted.keys() if shapes.get(k) != wanted.get(k))
    if wrong:
        first = wrong[0]
        raise InputError(
            f"The demo layer does not fit its configuration: {first} is {shapes.get(first, 'missing')} and "
            f"wants to be {wanted.get(first, 'absent')} ({len(wrong)} such tensors)."
        )
    other = sorted(k for k, v in state_dict.items() if k != _OFFSETS and v.dtype != torch.float32)
    if other:
        raise InputError(
            f"The demo's norms take the epsilon of their input's type, which is known of float32 alone; "
            f"{other[0]} is {state_dict[other[0]].dtype}: cast the state dict if its model ran in float32."
        )

    def joined(name: str) -> Tensor:
        return torch.stack([state_dict[name.format(branch)] for branch in range(streams)])

    tensors = {
        "table.weight": state_dict[_TABLE],
        "key.weight": joined("key_projs.{}.weight").flatten(0, 1),
        "key.bias": joined("key_projs.{}.bias").flatten(),
        "value.weight": state_dict["value_proj.weight"],
        "value.bias": state_dict["value_proj.bias"],
        "key_norm.weight": joined("norm1.{}.weight"),
        "query_norm.weight": joined("norm2.{}.weight"),
        "conv.conv.weight": state_dict["short_conv.conv.weight"],
        "conv.norm.weight": joined("short_conv.norms.{}.weight"),
    }
    engram.load_state_dict(tensors)
    return engram


def demo_state_dict(engram: Engram, *, offsets: Int64[Tensor, " column"]) -> dict[str, Tensor]:
    """A memory layer's weights under the demo's names; the inverse of `load_demo_layer`.

    Args:
        engram: A layer with biases and a convolution.
        offsets: First row of each column (`Layout.offsets` of the layer).
    """
    own = engram.state_dict()
    split = {"key_projs.{}.weight": "key.weight", "key_projs.{}.bias": "key.bias"}
    stacked = {
        "norm1.{}.weight": "key_norm.weight",
        "norm2.{}.weight": "query_norm.weight",
        "short_conv.norms.{}.weight": "conv.norm.weight",
    }
    out = {
        _OFFSETS: offsets,
        _TABLE: own["table.weight"],
        "value_proj.weight": own["value.weight"],
        "value_proj.bias": own["value.bias"],
        "short_conv.conv.weight": own["conv.conv.weight"],
    }
    for theirs, ours in (split | stacked).items():
        value = own[ours]
        branches = value.unflatten(0, (engram.n_streams, -1)) if theirs in split else value
        out |= {theirs.format(branch): part.clone() for branch, part in enumerate(branches)}
    return out
