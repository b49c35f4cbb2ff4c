"""Qwen's `qwen4_exp` as transformers holds it (there a memory is a per-layer embedding, PLE).

The module runs as transformers runs it but for its memories, which are our `Engram` on the same weights, and
hook points around its blocks: what passes them has a stream axis, which transformers keeps folded.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from engram_interp.checkpoints.baseline import sharing_copy
from engram_interp.checkpoints.qwen4_exp_block import Block, few
from engram_interp.checkpoints.subject import SubjectModel, Unembed
from engram_interp.checkpoints.transformers_files import any_tokenizer, load_causal, weight_files_digest
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.compression import as_vocabulary
from engram_interp.memory.hashing import Layout

MODEL_TYPES = ("qwen4_exp", "qwen4_exp_text")
_MIXER = "hyper_connection_mixer"
_MEMORY_SITES = (
    "rows",
    "memory",
    "mem_key",
    "mem_value",
    "key_normed",
    "query_normed",
    "score",
    "gate_logit",
    "gate",
    "gated_value",
    "conv_out",
)


def is_qwen4_exp(module: nn.Module) -> bool:
    """Whether a module is a causal `qwen4_exp` of transformers."""
    config = getattr(module, "config", None)
    return getattr(config, "model_type", None) in MODEL_TYPES and hasattr(module, "lm_head")


def load_qwen4_exp(directory: str | Path, *, name: str | None = None) -> SubjectModel:
    """Open a transformers directory of a `qwen4_exp` model; nothing is fetched, no code in it is run.

    Raises:
        InputError: If a file is missing, or stored multipliers, primes or offsets are not the rule's.
        DamagedFileError: If a file is cut short, or weights do not fit config.json.
    """
    directory = Path(directory)
    module = load_causal(directory)
    model = qwen4_exp_of(module, any_tokenizer(directory), name=name or directory.resolve().name)
    return replace(model, digest=weight_files_digest(directory), folder=directory.resolve())


def qwen4_exp_of(module: Any, tokenizer: Any, *, name: str) -> SubjectModel:
    """A `SubjectModel` around a `qwen4_exp` of transformers, also one in training.

    Args:
        module: `Qwen4ExpForCausalLM`, or the one with vision. It is not changed: what is hooked is a copy
            that has the same weights, so that a step of training is seen at once.
        tokenizer: Its tokenizer, of either library.
        name: What results call it.

    Raises:
        InputError: If the stored multipliers, primes or offsets are not those of the rule.
    """
    backend = as_vocabulary(tokenizer)
    assert isinstance(backend, Tokenizer)
    config = module.config.get_text_config()
    hooked = _hooked(module)
    text, path = _text_model(hooked)
    mixer = getattr(text, _MIXER)
    eos = _eos(config)
    return SubjectModel(
        module=hooked,
        tokenizer=backend,
        name=name,
        family="qwen4_exp",
        sites=_sites(text, path),
        n_layers=len(text.layers),
        d_model=config.hidden_size,
        d_vocab=config.vocab_size,
        n_streams=config.hc_count,
        n_ctx=config.max_position_embeddings,
        memory_layers=_memory_layers(text),
        separator_id=eos,
        layout=_layout(text, config, name),
        token_map=hashing.identity_map(config.vocab_size)[0],
        boundary="separator_ends",
        readout=lambda x: mixer(x.flatten(-2)),
        final_norm=nn.Identity(),  # the mixer's norm is the last one
        unembed=Unembed(weight=hooked.lm_head.weight.detach()),
        rebuild=_rebuilding(module),
        notes=(f"Every text is opened by {backend.id_to_token(eos)!r}, after which n-gram windows restart.",),
    )


def _eos(config: Any) -> int:
    eos = config.eos_token_id
    return int(eos[0] if isinstance(eos, list) else eos)


def _rebuilding(module: Any) -> Callable[[], nn.Module]:
    def rebuild() -> nn.Module:
        fresh: nn.Module = _hooked(type(module)(copy.deepcopy(module.config)).eval())
        return fresh.requires_grad_(False)

    return rebuild


def _text_model(module: nn.Module) -> tuple[Any, str]:
    """The part with the text's blocks, and its path."""
    found = [(part, path) for path, part in module.named_modules() if hasattr(part, _MIXER)]
    return found[0]


def _memory_layers(text: Any) -> tuple[int, ...]:
    return tuple(number for number, layer in enumerate(text.layers) if layer.inner.ple is not None)


def _hooked(module: Any) -> Any:
    """A copy with hook points, on the same weights."""
    twin = sharing_copy(module)
    twin.config.use_cache = twin.config.get_text_config().use_cache = False
    text, _ = _text_model(twin)
    streams = twin.config.get_text_config().hc_count
    text.layers = nn.ModuleList(Block(layer, streams) for layer in text.layers)
    return twin


def _sites(text: Any, path: str) -> dict[str, str]:
    prefix = f"{path}." if path else ""
    sites = {"hook_embed": f"{prefix}embed_tokens"}
    for number, layer in enumerate(text.layers):
        place, block = f"{prefix}layers.{number}", f"blocks.{number}"
        attention = "linear_attn" if hasattr(layer.inner, "linear_attn") else "self_attn"
        sites[f"{block}.hook_resid_pre"] = f"{place}.hook_resid_pre"
        if layer.inner.ple is not None:
            memory = f"{place}.inner.ple"
            sites |= {f"{block}.engram.hook_{s}": f"{memory}.engram.hook_{s}" for s in _MEMORY_SITES}
            sites[f"{block}.hook_engram_out"] = f"{memory}.hook_engram_out"
        sites |= {
            f"{block}.hook_attn_out": f"{place}.inner.{attention}",
            f"{block}.hook_resid_mid": f"{place}.inner.mlp_hyper_connection.hook_resid_mid",
            f"{block}.hook_mlp_out": f"{place}.inner.mlp",
            f"{block}.hook_resid_post": f"{place}.hook_resid_post",
        }
    return sites


def _layout(text: Any, config: Any, name: str) -> Layout | None:
    """The hash layout that the checkpoint stores, compared with what the rule gives.

    `ple_layer_ids` count from 1 and their order is that of the rule; ours count from 0 and rise.
    """
    layers = [int(number) - 1 for number in config.ple_layer_ids]
    if not layers:
        return None
    rule = Layout.qwen4_exp(
        layer_ids=layers,
        base=config.ngram_vocab_size_base,
        max_order=config.ngram_size,
        heads=config.heads_per_ngram,
        d_vocab=config.vocab_size,
        seed=config.seed,
    )
    kept = {layer: text.layers[layer].inner.ple.layout for layer in layers}
    for place, layer in enumerate(layers):
        for what in ("multipliers", "primes"):
            stored, wanted = (getattr(of, what)[at] for of, at in ((kept[layer], 0), (rule, place)))
            if not np.array_equal(stored, wanted):
                raise InputError(
                    f"{name} stores {what} {few(stored)} for layer {layer} (counted from 0), and the rule of "
                    f"qwen4_exp gives {few(wanted)}: it hashes otherwise, or its config.json is of another "
                    "model."
                )
    order = sorted(layers)
    return Layout(
        primes=np.concatenate([kept[layer].primes for layer in order]),
        multipliers=np.concatenate([kept[layer].multipliers for layer in order]),
        layer_ids=tuple(order),
    )
