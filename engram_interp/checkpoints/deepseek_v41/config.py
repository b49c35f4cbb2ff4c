"""What a released config.json says, under our names; what we do not know is refused or named."""

from collections.abc import Mapping
from typing import Any

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory.config import EngramConfig
from engram_interp.model.deepseek_v41.config import V41Config, Yarn

MODEL_TYPE = "deepseek_v41"
PUBLISHED_MAPS = {
    (129_280, 99_092): "26b9be2936d236a124ba318a998c417bc7032e3e92a3107fe98deee49f1dc496",
}
"""By token ids and canonical ids, the digest of the token map of a released checkpoint."""

_FIXED: Mapping[str, Any] = {
    "hidden_act": "silu",
    "scoring_func": "sqrtsoftplus",
    "topk_method": "noaux_tc",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "num_key_value_heads": 1,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}
"""Settings that have one value in this family; where they are absent they have it."""
_QUANTISED: Mapping[str, Any] = {
    "quant_method": "fp8",
    "weight_block_size": [32, 32],
    "scale_fmt": "ue8m0",
    "expert_dtype": "fp4",
}
_HARMLESS = frozenset(
    {
        *("architectures", "auto_map", "dtype", "torch_dtype", "model_type", "transformers_version"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "image_token_id", "video_token_id"),
        *("initializer_range", "use_cache", "num_nextn_predict_layers", "attention_dropout", "_name_or_path"),
    }
)
"""Settings that do not change what the text backbone computes; all others that we do not know are refused."""
_DRAFTS = "dspark_"
"""Beginning of the draft layers' settings, which are as harmless."""
_PARTS = frozenset({"text_config", "vision_config", "quantization_config"})
_NAMES = {
    "d_vocab": "vocab_size",
    "d_model": "hidden_size",
    "d_expert": "moe_intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_head": "head_dim",
    "d_rope": "qk_rope_head_dim",
    "q_rank": "q_lora_rank",
    "o_rank": "o_lora_rank",
    "o_groups": "o_groups",
    "rms_eps": "rms_norm_eps",
    "n_ctx": "max_position_embeddings",
    "rope_theta": "rope_theta",
    "compress_theta": "compress_rope_theta",
    "n_experts": "n_routed_experts",
    "experts_per_token": "num_experts_per_tok",
    "normalise_weights": "norm_topk_prob",
    "route_scale": "routed_scaling_factor",
    "expert_limit": "swiglu_limit",
    "window": "sliding_window",
    "n_index_heads": "index_n_heads",
    "d_index": "index_head_dim",
    "index_top_k": "index_topk",
    "candidate_blocks": "candidate_topk_blocks",
    "candidate_block_size": "candidate_block_size",
    "n_streams": "hc_mult",
    "sinkhorn_steps": "hc_sinkhorn_iters",
    "hc_eps": "hc_eps",
}
"""Our name: the released one, where the value is taken as it is."""
_REAL = ("rms_eps", "rope_theta", "compress_theta", "route_scale", "expert_limit", "hc_eps")
"""Of these, the ones that may be written as whole numbers and are not."""
_LISTS = ("compress_ratios", "kv_source_layer_ids", "index_source_layer_ids")
_ENGRAM = (
    *("engram_max_ngram_size", "engram_vocab_size", "engram_n_heads", "engram_head_dim"),
    *("engram_pad_token_id", "engram_compressed_vocab_size"),
)
"""Whole numbers that a model with a memory has."""
_NONE: Mapping[str, Any] = {"candidate_source_layer_id": -1, "swiglu_limit": 0.0}
"""Settings whose null means that there is none, and how else that is written."""
_OTHERS = (
    *("compress_ratios", "kv_source_layer_ids", "index_source_layer_ids", "candidate_source_layer_id"),
    *("rope_scaling", "gate_temp", "engram_layer_ids", "engram_num_embeddings", "engram_max_ngram_size"),
    *("engram_vocab_size", "engram_n_heads", "engram_head_dim", "engram_pad_token_id"),
    *("engram_compressed_vocab_size", "bos_token_id", "image_token_id"),
)


def config_of(values: Mapping[str, Any], *, where: str = "config.json") -> V41Config:
    """The text backbone that a config.json describes.

    Args:
        values: The file's content.
        where: What it is called in errors.

    Raises:
        InputError: If a setting is one that we do not know, or out of its range.
        DamagedFileError: If one is missing or of the wrong type.
    """
    text = values.get("text_config")
    if not isinstance(text, dict):
        raise DamagedFileError(f"{where} has no text_config; fetch the file again.")
    text = {**text, **{key: none for key, none in _NONE.items() if text.get(key, none) is None}}
    try:
        _refuse_unknown(values, text, where)
        _check_types(values, text, where)
        plain = {ours: text[theirs] for ours, theirs in _NAMES.items()}
        plain |= {name: float(plain[name]) for name in _REAL}
        first = int(text.get("candidate_source_layer_id", -1))
        return V41Config(
            **plain,
            ratios=tuple(text["compress_ratios"][: text["num_hidden_layers"]]),  # the rest are draft layers'
            kv_sources=tuple(sorted(text["kv_source_layer_ids"])),
            index_sources=tuple(sorted(text["index_source_layer_ids"])),
            candidate_source=first if first >= 0 else None,
            route_temperature=float(text.get("gate_temp", 1.0)),
            yarn=_yarn(text.get("rope_scaling")),
            separator_id=token_named(values, "bos_token_id"),
            image_id=token_named(values, "image_token_id"),
            engram=memory_of(text, norm_eps=text["rms_norm_eps"]) if text.get("engram_layer_ids") else None,
            table_rows=tuple(text["engram_num_embeddings"]) if text.get("engram_layer_ids") else (),
            n_canonical=text["engram_compressed_vocab_size"] if text.get("engram_layer_ids") else 0,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        if isinstance(cause, InputError):
            raise
        raise DamagedFileError(
            f"{where} does not describe a V4.1 backbone ({type(cause).__name__}: {cause}); fetch it again."
        ) from cause


def token_named(values: Mapping[str, Any], key: str) -> int | None:
    """A special token's id: what the top of config.json says, else its text part; None where neither does."""
    top = values.get(key)
    found: int | None = values.get("text_config", {}).get(key) if top is None else top
    return found


def ignored_settings(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings of the text backbone that change nothing that we know of."""
    return tuple(sorted(key for key in set(values["text_config"]) - {"model_type"} if _harmless(key)))


def _harmless(key: str) -> bool:
    return key in _HARMLESS or key.startswith(_DRAFTS)


def _refuse_unknown(values: Mapping[str, Any], text: Mapping[str, Any], where: str) -> None:
    known = {*_FIXED, *_NAMES.values(), *_OTHERS, "quantization_config"}
    others = {key: one for key, one in text.items() if key not in known and not _harmless(key)}
    top = _PARTS | set(_FIXED)
    others |= {key: one for key, one in values.items() if key not in top and not _harmless(key)}
    others |= {
        key: part[key]
        for part in (values, text)
        for key, one in _FIXED.items()
        if part.get(key, one) not in (one, None)
    }
    quantised = values.get("quantization_config", text.get("quantization_config")) or {}
    others |= {key: quantised.get(key) for key, one in _QUANTISED.items() if quantised.get(key) != one}
    if others:
        shown = ", ".join(f"{key}={value!r:.60}" for key, value in sorted(others.items()))
        raise InputError(
            f"{where} has settings that we do not know and that may change what the model computes: {shown}. "
            "It is not opened, since it might be computed wrongly."
        )


def _check_types(values: Mapping[str, Any], text: Mapping[str, Any], where: str) -> None:
    """Refuse a setting of another type; one that is missing is found where it is used."""
    memory = bool(text.get("engram_layer_ids"))
    reals = {_NAMES[name] for name in _REAL} | {"gate_temp"}
    lists = {*_LISTS, "engram_layer_ids", *(["engram_num_embeddings"] if memory else [])}
    wholes = {*_NAMES.values(), "candidate_source_layer_id", *(_ENGRAM if memory else ())}
    wholes -= reals | {"norm_topk_prob"}
    found = {"bos_token_id": values["bos_token_id"]} if "bos_token_id" in values else {}
    for key, value in {**text, **found}.items():
        if key in reals and not (_whole(value) or isinstance(value, float)):
            wanted = "a number"
        elif key in wholes and not _whole(value):
            wanted = "a whole number"
        elif key in lists and not (isinstance(value, list) and all(map(_whole, value))):
            wanted = "a list of whole numbers"
        elif key == "norm_topk_prob" and not isinstance(value, bool):
            wanted = "true or false"
        elif key == "bos_token_id" and not (value is None or _whole(value)):
            wanted = "a token id or null"
        else:
            continue
        raise DamagedFileError(f"{where} has {key}={value!r}, which wants to be {wanted}; fetch it again.")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _yarn(values: Mapping[str, Any] | None) -> Yarn | None:
    if values is None:
        return None
    kind = values.get("rope_type", values.get("type"))
    if kind != "yarn":
        raise InputError(f"Rotary frequencies want to be stretched by yarn or not at all, got {kind!r}.")
    return Yarn(
        factor=float(values["factor"]),
        beta_fast=float(values.get("beta_fast", 32)),
        beta_slow=float(values.get("beta_slow", 1)),
        original=int(values["original_max_position_embeddings"]),
    )


def memory_of(text: Mapping[str, Any], *, norm_eps: float = 1e-20) -> EngramConfig:
    """The memory that the text part of a configuration describes; `norm_eps` does not move an address."""
    return EngramConfig(
        layer_ids=tuple(text["engram_layer_ids"]),
        max_order=text["engram_max_ngram_size"],
        heads=text["engram_n_heads"],
        d_row=text["engram_head_dim"],
        rows=text["engram_vocab_size"],
        pad_token=text["engram_pad_token_id"],
        boundary="none",
        conv_kernel=0,
        norm_eps=norm_eps,
    )
