"""Small random `qwen4_exp` models of transformers, and text that ends in them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from engram_interp.checkpoints.transformers_files import quiet
from engram_interp.memory import hashing
from engram_interp.memory.hashing import Layout
from tests import support
from tests.support import randomise

EOS = 7


def ids_with_ends() -> Tensor:
    ids = torch.randint(0, 97, (3, 19))
    ids[0, 5] = ids[1, 0] = ids[1, 1] = ids[2, 9] = ids[2, 11] = EOS
    return ids


def rows_of(ids: Tensor, layout: Layout) -> Tensor:
    split = hashing.segments(ids, separator_id=EOS, boundary="separator_ends")
    return hashing.addresses(ids, layout, pad_id=EOS, segment_ids=split)


def causal(**changes: Any) -> Any:
    """A causal model of transformers with random weights, five layers and memories at 0-based 1 and 3."""
    configuration = pytest.importorskip("transformers.models.qwen4_exp.configuration_qwen4_exp")
    modeling = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    linear, indexed = "linear_attention", "indexed_attention"
    values: dict[str, Any] = {
        "vocab_size": support.D_VOCAB,
        "hidden_size": 20,
        "num_hidden_layers": 5,
        "layer_types": [linear, linear, indexed, linear, indexed],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "hc_count": 3,
        "hc_lowrank": 6,
        "ple_layer_ids": [2, 4],
        "ple_embed_dim": 16,
        "ple_conv_kernel_size": 3,
        "ngram_size": 3,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 60,
        "make_ngram_vocab_size_divisible_by": 16,
        "seed": 1234,
        "eos_token_id": EOS,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "shared_expert_intermediate_size": 16,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 6,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "indexer_head_dim": 16,
        "indexer_kv_heads": 1,
        "indexer_n_heads": 4,
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 2, 2],
            "mrope_interleaved": True,
        },
    }
    with quiet():
        module = modeling.Qwen4ExpForCausalLM(configuration.Qwen4ExpTextConfig(**values | changes))
    randomise(module, seed=3, std=0.1)
    return module.eval().requires_grad_(False)
