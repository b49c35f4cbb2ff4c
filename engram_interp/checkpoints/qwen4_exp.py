"""One memory layer of Qwen's `qwen4_exp`, as transformers holds it (there: a per-layer embedding, PLE)."""

from typing import Any

import torch

from engram_interp.memory.config import EngramConfig
from engram_interp.memory.hashing import Layout
from engram_interp.memory.module import Engram


@torch.no_grad()
def engram_from_ple(layer: Any) -> tuple[Engram, Layout]:
    """A copy of a PLE layer, and the hash layout stored in it.

    Raw token ids are hashed; windows restart after every EOS, which also stands for "nothing there":
    `segments(…, boundary="separator_ends")` and `addresses(…, pad_id=eos)` give the addresses it reads.

    Args:
        layer: A `Qwen4ExpTextPLELayer` of transformers. Its table may have more rows than the layout
            uses: they are padding that no n-gram reaches.

    Returns:
        The layer as an `Engram`, and the layout with the layer's number counted from 0.
    """
    hashed = layer.ple_embedding
    orders, heads = hashed.ngram_size - 1, hashed.heads_per_ngram
    layout = Layout(
        primes=hashed.ngram_heads_vocab_sizes.view(1, orders, heads).numpy(force=True),
        multipliers=hashed.layer_multipliers[None].numpy(force=True),
        layer_ids=(layer.layer_idx,),
    )
    table = hashed.ngram_embedding.weight
    config = EngramConfig(
        layer_ids=(layer.layer_idx,),
        max_order=hashed.ngram_size,
        heads=heads,
        d_row=table.shape[1],
        rows=hashed.ngram_vocab_size_base,
        hash_rule="explicit",
        compression="none",
        pad_token=hashed.eos_token_id,
        boundary="separator_ends",
        seed=hashed.seed,
        conv_kernel=layer.conv1d.kernel_size[0],
        conv_dilation=layer.conv1d.dilation[0],
        norm="zero_centred",
        norm_eps=layer.norm_key.eps,
        conv_norm_eps=layer.norm_conv.eps,
    )
    shape = (layer.hc_count, layer.hidden_size)
    engram = Engram(config, d_model=shape[1], n_streams=shape[0], n_rows=len(table))
    tensors = {
        "table.weight": table,
        "key.weight": layer.key_proj.weight,
        "value.weight": layer.value_proj.weight,
        "key_norm.weight": layer.norm_key.weight.view(shape),
        "query_norm.weight": layer.norm_query.weight.view(shape),
        "conv.norm.weight": layer.norm_conv.weight.view(shape),
        "conv.conv.weight": layer.conv1d.weight,
    }
    engram.load_state_dict(tensors)
    return engram, layout
