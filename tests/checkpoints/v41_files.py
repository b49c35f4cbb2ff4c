"""The two small files and the tables' shards of a made-up checkpoint in DeepSeek-V4.1's layout."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from engram_interp.memory import hashing
from engram_interp.memory.quantise import quantise_rows
from tests import support

LAYERS = (1, 3)
IMAGE = 7
D_ROW = 64
SHARDS = {layer: f"model-0000{4 + place}-of-00005.safetensors" for place, layer in enumerate(LAYERS)}


def configuration(**changes: Any) -> dict[str, Any]:
    """A config.json with the released file's keys, as far as addresses need them."""
    count = hashing.token_map(support.tokenizer())[1]
    text: dict[str, Any] = {
        "vocab_size": support.D_VOCAB,
        "hidden_size": 20,
        "num_hidden_layers": 5,
        "hc_mult": 3,
        "engram_layer_ids": list(LAYERS),
        "engram_max_ngram_size": 4,
        "engram_vocab_size": 50,
        "engram_n_heads": 2,
        "engram_head_dim": D_ROW,
        "engram_pad_token_id": 2,
        "engram_compressed_vocab_size": count,
    }
    layout = hashing.Layout.deepseek(layer_ids=LAYERS, budget=50, max_order=4, heads=2, n_canonical=count)
    text["engram_num_embeddings"] = layout.rows.tolist()
    return {
        "model_type": "deepseek_v41",
        "bos_token_id": 0,
        "image_token_id": IMAGE,
        "text_config": text | changes,
    }


def write(folder: Path, *, tables: bool = True, **changes: Any) -> dict[int, Tensor]:
    """A checkpoint directory; gives the float table of every layer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration(**changes)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    support.tokenizer().save(str(folder / "tokenizer.json"))
    found, listed = dict[int, Tensor](), dict[str, str]()
    generator = torch.Generator().manual_seed(5)
    for layer, rows in zip(LAYERS, config["text_config"]["engram_num_embeddings"], strict=True):
        spread = torch.exp2(torch.randint(-4, 4, (rows, 1), generator=generator))
        values, scale = quantise_rows(torch.randn(rows, D_ROW, generator=generator) * spread)
        found[layer] = values.float() * scale.float().repeat_interleave(32, dim=1)
        tensors = {
            f"layers.{layer}.engram.embed.weight": values,
            f"layers.{layer}.engram.embed.scale": scale,
            f"layers.{layer}.engram.q_weight": torch.ones(3, 20, dtype=torch.bfloat16),
        }
        listed |= dict.fromkeys(tensors, SHARDS[layer])
        if tables:
            save_file(tensors, folder / SHARDS[layer])
    if tables:
        index = json.dumps({"metadata": {}, "weight_map": listed})
        (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    return found
