"""Random checkpoints in the released layout, at any size: to try the reading without the released weights."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from tokenizers import Tokenizer

from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.config import MODEL_TYPE, config_of
from engram_interp.checkpoints.deepseek_v41.layout import Stored
from engram_interp.checkpoints.files import save_tokenizer, write_json
from engram_interp.checkpoints.sharded import INDEX, Wanted
from engram_interp.checkpoints.tensor_files import header_of
from engram_interp.memory import hashing
from engram_interp.memory.hashing import Layout
from engram_interp.model.deepseek_v41.config import V41Config

_RANK = ("F32", "BF16", "F8_E8M0", "F8_E4M3", "I8")
"""In this order the released files hold their types; within a type, tensors go by name."""
_PIECE = 64 << 20
"""Bytes that are drawn and written at a time."""
_E2M1_RMS, _E4M3_RMS = 2.93, 1.15
"""Root mean squares of the codes that are drawn."""
_FILLERS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "aligner.proj.weight": ("BF16", (4, 4)),
    "vision.norm.weight": ("BF16", (4,)),
}


def released_config(tokenizer: Tokenizer, **text_config: Any) -> dict[str, Any]:
    """A config.json with the released file's keys, small unless told otherwise.

    Args:
        tokenizer: Gives the vocabulary, its compression, and so the tables' rows.
        text_config: Settings of the text backbone under their released names.
    """
    token_map, count = hashing.token_map(tokenizer)
    text: dict[str, Any] = {
        "model_type": f"{MODEL_TYPE}_text",
        "vocab_size": len(token_map),
        "hidden_size": 96,
        "moe_intermediate_size": 64,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "qk_rope_head_dim": 8,
        "q_lora_rank": 40,
        "o_lora_rank": 24,
        "o_groups": 3,
        "hidden_act": "silu",
        "swiglu_limit": 3.0,
        "rms_norm_eps": 1e-20,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
        "rope_theta": 10000,
        "compress_rope_theta": 5000,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 16,
            "beta_fast": 32,
            "beta_slow": 1,
            "original_max_position_embeddings": 256,
        },
        "n_routed_experts": 7,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "scoring_func": "sqrtsoftplus",
        "topk_method": "noaux_tc",
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.5,
        "sliding_window": 5,
        "compress_ratios": [0, 3, 3, 1, 1, 0],
        "kv_source_layer_ids": [1, 3],
        "index_source_layer_ids": [1, 2, 3, 4],
        "index_n_heads": 3,
        "index_head_dim": 32,
        "index_topk": 3,
        "candidate_source_layer_id": 3,
        "candidate_topk_blocks": 2,
        "candidate_block_size": 3,
        "hc_mult": 3,
        "hc_sinkhorn_iters": 20,
        "hc_eps": 1e-6,
        "engram_layer_ids": [0, 3],
        "engram_max_ngram_size": 3,
        "engram_vocab_size": 150,
        "engram_n_heads": 3,
        "engram_head_dim": 32,
        "engram_pad_token_id": 2,
        "engram_compressed_vocab_size": count,
        "num_nextn_predict_layers": 1,
    } | text_config
    if text["engram_layer_ids"] and "engram_num_embeddings" not in text_config:
        rows = Layout.deepseek(
            layer_ids=text["engram_layer_ids"],
            budget=text["engram_vocab_size"],
            max_order=text["engram_max_ngram_size"],
            heads=text["engram_n_heads"],
            n_canonical=count,
        ).rows
        text["engram_num_embeddings"] = rows.tolist()
    quantisation = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}
    return {
        "architectures": ["DeepseekV41ForCausalLM"],
        "model_type": MODEL_TYPE,
        "bos_token_id": 0,
        "quantization_config": quantisation | {"scale_fmt": "ue8m0", "expert_dtype": "fp4"},
        "text_config": text,
        "vision_config": {"model_type": f"{MODEL_TYPE}_vision"},
    }


def files(cfg: V41Config, *, drafts: int = 1) -> list[Wanted]:
    """The tensors of each shard, in the order of their bytes.

    Args:
        cfg: The model.
        drafts: Draft layers, of which only a filler is made.
    """
    images = {f"image_{name}": ("BF16", (cfg.d_model,)) for name in ("end", "newline", "start")}
    embed, norm, head = layout.outer(cfg)
    shards: list[Wanted] = [_FILLERS, {**embed.tensors(), **images}]
    for layer in range(cfg.n_layers):
        stored = [s for stage in ("attn", "mlp") for s in layout.block(cfg, layer, stage)]
        stored += [s for number in range(cfg.n_experts) for s in layout.expert(cfg, layer, number)]
        shards.append(_tensors(stored))
    shards.append(_tensors([head, norm]))
    shards += [{f"mtp.{i}.attn_norm.weight": ("BF16", (cfg.d_model,))} for i in range(drafts)]
    for layer in cfg.memory_layers:
        projections, *norms = layout.block(cfg, layer, "engram")
        shards.append(_tensors([layout.table(cfg, layer), *norms, projections]))
    return [shard if _is_memory(shard) else _ordered(shard) for shard in shards]


def _tensors(stored: list[Stored]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: place for one in stored for name, place in one.tensors().items()}


def _ordered(shard: Wanted) -> Wanted:
    """By type and name."""
    return dict(sorted(shard.items(), key=lambda item: (_RANK.index(item[1][0]), item[0])))


def _is_memory(shard: Wanted) -> bool:
    return any(".engram." in name for name in shard)


def write_checkpoint(folder: Path, values: Mapping[str, Any], *, tokenizer: Tokenizer, seed: int = 0) -> Path:
    """Write a random checkpoint: config, tokenizer, index and shards; memory does not grow with its size.

    Args:
        folder: Made if missing.
        values: Its config.json, such as `released_config` gives.
        tokenizer: Its tokenizer.
        seed: Of the weights.
    """
    cfg = config_of(values)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", dict(values))
    save_tokenizer(folder / "tokenizer.json", tokenizer)
    shards, weight_map = files(cfg), dict[str, str]()
    generator = np.random.default_rng(seed)
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        weight_map |= dict.fromkeys(shard, file)
        with (folder / file).open("wb") as opened:
            opened.write(header_of(shard))
            for name, (dtype, shape) in shard.items():
                _write(opened, _drawn(name, dtype, shape, shard, generator))
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return folder


def _write(file: BinaryIO, pieces: Iterator[np.ndarray]) -> None:
    for piece in pieces:
        file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)


def _drawn(
    name: str, dtype: str, shape: tuple[int, ...], shard: Wanted, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """A tensor's numbers as they are stored, in pieces: products keep about the size of their inputs."""
    width = int(np.prod(shape[1:]))
    step = max(1, _PIECE // max(width, 1))
    for start in range(0, shape[0], step):
        size = (min(step, shape[0] - start), *shape[1:])
        if dtype == "F8_E4M3":
            yield generator.integers(0, 256, size, dtype=np.uint8) & 0x8F | 0x30  # sizes 0.5 to 1.9
        elif dtype == "I8":
            yield generator.integers(0, 256, size, dtype=np.uint8)
        elif dtype == "F8_E8M0":
            yield generator.integers(-1, 2, size).astype(np.uint8) + _exponent(name, shard)
        elif dtype == "F32":
            yield _plain(name, size, generator).numpy()
        else:
            yield _plain(name, size, generator).bfloat16().view(torch.int16).numpy()


def _exponent(name: str, shard: Wanted) -> np.uint8:
    """The scale code that makes a row of the weight about one long; rows of tables have entries about one."""
    dtype, shape = shard[name.removesuffix("scale") + "weight"]
    if ".engram.embed." in name:
        return np.uint8(127)
    long = _E2M1_RMS * (2 * shape[1]) ** 0.5 if dtype == "I8" else _E4M3_RMS * shape[1] ** 0.5
    return np.uint8(127 - round(np.log2(long)))


def _plain(name: str, size: tuple[int, ...], generator: np.random.Generator) -> torch.Tensor:
    noise = torch.from_numpy(generator.standard_normal(size, dtype=np.float32))
    if name.endswith(("norm.weight", "q_weight", "k_weight", "_scale")):
        return 1 + noise / 4
    if ".gate.bias" in name:
        return noise / 50  # so that every expert is chosen now and then
    return noise if len(size) == 1 or name == "embed.weight" else noise * size[-1] ** -0.5
