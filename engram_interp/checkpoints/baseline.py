"""Any causal language model that TransformerLens wraps, from a local directory of transformers.

It runs as transformers runs it, so its attention stays fast, and plain hooks on its submodules are the sites.
TransformerLens's view of the same weights, which wants eager attention, is made when it is first asked for.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from engram_interp.checkpoints.subject import SubjectModel, Unembed
from engram_interp.checkpoints.transformers_files import any_tokenizer, load_causal, weight_files_digest
from engram_interp.errors import InputError
from engram_interp.memory.compression import as_vocabulary

FAMILY = "baseline"
_SOFTCAP = "final_logit_softcapping"


def is_causal(model_type: str) -> bool:
    """Whether transformers has a causal language model of this type."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    return model_type in CONFIG_MAPPING and CONFIG_MAPPING[model_type] in MODEL_FOR_CAUSAL_LM_MAPPING


def load_baseline(
    directory: str | Path, *, name: str | None = None, dtype: Literal["float32", "bfloat16"] = "float32"
) -> SubjectModel:
    """Open a transformers directory of a causal language model; nothing is fetched, no code in it is run.

    Args:
        directory: Holds config.json, safetensors weights and the tokenizer.
        name: What results call it; by default the directory's name.
        dtype: What it computes in.

    Raises:
        InputError: If a file is missing, or TransformerLens does not know the architecture.
        DamagedFileError: If a file is cut short, or weights are missing, unknown, or of other shapes than
            config.json says.
    """
    directory = Path(directory)
    module = load_causal(directory, dtype=dtype)
    model = baseline_of(module, any_tokenizer(directory), name=name or directory.resolve().name)
    return replace(model, digest=weight_files_digest(directory), folder=directory.resolve())


def baseline_of(module: Any, tokenizer: Any, *, name: str) -> SubjectModel:
    """A `SubjectModel` around a causal language model of transformers; the module is not changed.

    Args:
        module: For example what `AutoModelForCausalLM.from_pretrained` gave.
        tokenizer: Its tokenizer, of either library.
        name: What results call it.

    Raises:
        InputError: If TransformerLens does not know the architecture.
    """
    backend = as_vocabulary(tokenizer)
    assert isinstance(backend, Tokenizer)
    config = module.config.get_text_config()
    parts = _parts(module)
    unembed, norm = module.get_submodule(parts["unembed"]), _submodule(module, parts.get("ln_final"))
    cap = getattr(config, _SOFTCAP, None)
    plain = Unembed(weight=unembed.weight.detach(), bias=getattr(unembed, "bias", None))
    layers = len(module.get_submodule(parts["blocks"]))
    separator, note = _separator(config, backend)
    return SubjectModel(
        module=module,
        tokenizer=backend,
        name=name,
        family=FAMILY,
        sites=_sites(parts, layers, entry=_entry(module, parts["blocks"])),
        n_layers=layers,
        d_model=config.hidden_size,
        d_vocab=unembed.weight.shape[0],
        n_ctx=getattr(config, "max_position_embeddings", None),
        separator_id=separator,
        lens_head=_capped(norm, unembed, cap) if cap else None,
        final_norm=None if cap else norm,
        unembed=None if cap else plain,
        rebuild=_rebuilding(module),
        bridge=_bridging(module),
        notes=(note,),
    )


def _capped(norm: Callable[[Tensor], Tensor], unembed: nn.Module, cap: float) -> Callable[[Tensor], Tensor]:
    def head(resid: Tensor) -> Tensor:
        logits: Tensor = cap * torch.tanh(unembed(norm(resid)) / cap)
        return logits

    return head


def _submodule(module: nn.Module, path: str | None) -> Callable[[Tensor], Tensor]:
    return nn.Identity() if path is None else module.get_submodule(path)


def _rebuilding(module: Any) -> Callable[[], nn.Module]:
    def rebuild() -> nn.Module:
        fresh: nn.Module = type(module)(copy.deepcopy(module.config))
        return fresh.eval().requires_grad_(False)

    return rebuild


def sharing_copy(module: nn.Module) -> Any:
    """A copy whose parts can be replaced without touching the original; the weights are the same tensors."""
    memo: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()}
    return copy.deepcopy(module, memo)


def _bridging(module: Any) -> Callable[[], Any]:
    @cache
    def bridge() -> Any:
        from transformer_lens.model_bridge.sources import _bridge_builder as builder

        twin = sharing_copy(module)
        return builder.build_bridge_from_module(twin, type(module).__name__, hf_config=twin.config).eval()

    return bridge


def _parts(module: Any) -> Mapping[str, str]:
    """Where TransformerLens's adapter finds embedding, blocks, norms and unembedding; a block's parts too."""
    from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
    from transformer_lens.model_bridge.sources import _bridge_builder as builder

    architecture = type(module).__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of adapters that other packages registered
        try:
            cfg = builder.build_bridge_config_from_hf(module.config, architecture, "local", torch.float32)
            adapter = ArchitectureAdapterFactory.select_architecture_adapter(cfg)
        except ValueError as cause:
            raise InputError(
                f"TransformerLens knows no {architecture}; say where its residual stream is with "
                "wrap(module, tokenizer, sites=…)."
            ) from cause
    mapping = adapter.component_mapping
    assert mapping is not None
    block = mapping["blocks"].submodules
    found = {part: component.name for part, component in mapping.items()}
    found |= {f"block.{part}": component.name for part, component in block.items()}
    return {part: path for part, path in found.items() if path}


def _entry(module: Any, blocks: str) -> str | None:
    """The submodule whose output the first block is given, seen in a run on two tokens.

    None where the module itself makes it, of embeddings that it scales or adds up.
    """
    given, made = list[Tensor](), dict[str, Tensor]()

    def before(_block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        given.append(inputs[0] if inputs else named["hidden_states"])

    def after(name: str) -> Callable[..., None]:
        def hook(_part: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not given:
                made[name] = output

        return hook

    modes = [(part, part.training) for part in module.modules()]
    with ExitStack() as stack:
        first = module.get_submodule(blocks)[0]
        stack.callback(first.register_forward_pre_hook(before, with_kwargs=True).remove)
        for name, part in module.named_modules():
            if name and not name.startswith(blocks):
                stack.callback(part.register_forward_hook(after(name)).remove)
        for part, training in modes:
            stack.callback(setattr, part, "training", training)
        module.eval()
        with torch.inference_mode():
            module(torch.zeros(1, 2, dtype=torch.int64, device=module.device), use_cache=False)
    same = [name for name, output in made.items() if output.equal(given[0])]
    return same[-1] if same else None


def _sites(parts: Mapping[str, str], layers: int, *, entry: str | None) -> dict[str, str]:
    """Canonical sites and the submodules whose outputs they are.

    A block that normalises what attention and feed-forward give (Gemma) adds the normalised values.
    """
    blocks = parts["blocks"]
    added = {
        "hook_attn_out": parts.get("block.ln1_post", parts.get("block.attn")),
        "hook_mlp_out": parts.get("block.ln2_post", parts.get("block.mlp")),
    }
    sites = {"hook_embed": parts["embed"]}
    for layer in range(layers):
        before = f"{blocks}.{layer - 1}" if layer else entry
        if before:
            sites[f"blocks.{layer}.hook_resid_pre"] = before
        sites |= {
            f"blocks.{layer}.{site}": f"{blocks}.{layer}.{path}" for site, path in added.items() if path
        }
        sites[f"blocks.{layer}.hook_resid_post"] = f"{blocks}.{layer}"
    return sites


def _separator(config: Any, tokenizer: Tokenizer) -> tuple[int | None, str]:
    """The token put before every text: what the tokenizer puts there itself, else the configuration's."""
    own = tokenizer.encode("").ids[:1]
    named = config.bos_token_id if isinstance(config.bos_token_id, int) else None
    chosen = own[0] if own else named
    if chosen is None or tokenizer.id_to_token(chosen) is None:
        return None, "No token is put before a text."
    return chosen, f"Every text is opened by {tokenizer.id_to_token(chosen)!r}."
