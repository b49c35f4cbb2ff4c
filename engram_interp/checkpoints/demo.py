"""One memory layer of the paper's published demo module: its weights under our names, and back.

The demo prints no checkpoint; whoever trained from it has state dicts with these names. Its norms take
the epsilon of the input's type, float32 here; its convolution's norms take 1e-5.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.module import Engram

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
