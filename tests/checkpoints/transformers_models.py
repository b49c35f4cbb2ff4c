"""Random models of transformers in three shapes, saved to directories as their users have them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from engram_interp.checkpoints.transformers_files import quiet
from tests import support

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 20, "n_layer": 5, "n_head": 2, "n_positions": 40},
    "llama": {
        "hidden_size": 24,
        "intermediate_size": 36,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    },
    "qwen3": {
        "hidden_size": 28,
        "head_dim": 8,
        "intermediate_size": 30,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 48,
        "tie_word_embeddings": True,
    },
    "gemma2": {
        "hidden_size": 24,
        "head_dim": 8,
        "intermediate_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "final_logit_softcapping": 3.0,
    },
}


def random_module(kind: str, *, d_vocab: int = support.D_VOCAB, seed: int = 0, **changes: Any) -> Any:
    """A causal language model of transformers with random weights everywhere, in evaluation mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    with quiet():
        config = AutoConfig.for_model(kind, vocab_size=d_vocab, **SHAPES[kind] | ends | changes)
        module = AutoModelForCausalLM.from_config(config)
    support.randomise(module, seed=seed, std=0.1)
    return module.eval().requires_grad_(False)


def save(folder: Path, module: Any, tokenizer: Tokenizer) -> Path:
    """A directory that `load_model` opens."""
    with quiet():
        module.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def saved(folder: Path, kind: str, **changes: Any) -> tuple[Any, Path]:
    """A random model and its directory."""
    module = random_module(kind, **changes)
    return module, save(folder / kind, module, support.tokenizer())


def without(folder: Path, copy: Path, *, key: str) -> Path:
    """A copy of a model directory whose weights lack a tensor."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    del tensors[key]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


def changed(folder: Path, copy: Path, **changes: Any) -> Path:
    """A copy of a model directory with other values in its config.json."""
    shutil.copytree(folder, copy)
    values = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(values | changes), encoding="utf-8")
    return copy


def random_ids(batch: int, length: int) -> torch.Tensor:
    """Token ids that open with the separator."""
    return support.token_ids(batch, length, seed=3)
