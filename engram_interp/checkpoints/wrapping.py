"""A module of the user's own, in memory, as a `SubjectModel`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64
from tokenizers import Tokenizer
from torch import Tensor, nn

from engram_interp.checkpoints.baseline import baseline_of
from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.qwen4_exp import is_qwen4_exp, qwen4_exp_of
from engram_interp.checkpoints.subject import SubjectModel, Unembed
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.compression import as_vocabulary
from engram_interp.memory.hashing import Boundary, Layout
from engram_interp.model.transformer import HookedEngramTransformer

_LAYER = re.compile(r"^blocks\.(\d+)\.")


def wrap(
    module: nn.Module,
    tokenizer: Any,
    *,
    sites: Mapping[str, str] | None = None,
    layout: Layout | None = None,
    token_map: Int64[np.ndarray, " d_vocab"] | None = None,
    boundary: Boundary = "none",
    hits: Mapping[int, Int64[np.ndarray, " row"]] | None = None,
    name: str = "wrapped",
    d_model: int | None = None,
    n_ctx: int | None = None,
    separator: str | int | None = None,
    n_streams: int = 1,
    lens_head: Callable[[Tensor], Tensor] | None = None,
    final_norm: Callable[[Tensor], Tensor] | None = None,
    unembed: Unembed | None = None,
    rebuild: Callable[[], nn.Module] | None = None,
) -> SubjectModel:
    """Study a model that is in memory, for example in the middle of its own training.

    Args:
        module: Takes token ids `[batch, token]` and returns logits, or an object with `.logits`.
        tokenizer: A `tokenizers.Tokenizer` or a fast transformers tokenizer.
        sites: Canonical site names (`blocks.0.hook_resid_post`, `blocks.1.engram.hook_gate`, …) to the
            paths of the submodules whose output they are (`model.layers.0`, …). Not needed for a
            `HookedEngramTransformer`, nor for a causal language model of transformers.
        layout: Hash layout of the memory, where there is one and slots are to be looked up. Its layer_ids
            are the model's memory layers.
        token_map: What the memory hashes in place of token ids; by default the canonical ids of the
            tokenizer (`hashing.identity_map` for raw ids). `slots.lookup` checks it against the rows read.
        boundary: Where n-gram windows stop (see `hashing.segments`).
        hits: Training hits of every row by memory layer, where they were counted.
        name: What results call it.
        d_model: Width of the residual stream; by default that of the input embedding.
        n_ctx: Longest input in tokens.
        separator: Token, or its id, put before every text; None for none.
        n_streams: Residual streams M.
        lens_head: Residual to logits, needed by the lenses unless
            final_norm and unembed are given.
        final_norm: The model's final norm; with `unembed` the lenses are faster and can be tuned.
        unembed: The model's unembedding.
        rebuild: Makes a freshly initialised copy, needed by the untrained-gate null.

    Raises:
        InputError: If sites are missing or name submodules that the module does not have, or the layout
            is of other layers; for a `HookedEngramTransformer`, if anything but its name is given.
    """
    backend = as_vocabulary(tokenizer)
    assert isinstance(backend, Tokenizer)
    given = (
        sites,
        layout,
        token_map,
        hits,
        d_model,
        n_ctx,
        separator,
        lens_head,
        rebuild,
        final_norm,
        unembed,
    )
    if isinstance(module, HookedEngramTransformer):
        if any(value is not None for value in given) or (boundary, n_streams) != ("none", 1):
            raise InputError(
                "A HookedEngramTransformer says itself what its sites, layout and sizes are; give wrap its "
                "tokenizer and a name alone."
            )
        return subject_of(module, backend, name=name)
    if not sites and (known := _known(module)) is not None:
        if any(value is not None for value in given) or (boundary, n_streams) != ("none", 1):
            raise InputError(
                f"wrap knows where a {type(module).__name__} keeps its residual stream; give its tokenizer "
                "and a name alone, or all of it with sites=…."
            )
        return known(module, backend, name=name)
    if not sites:
        raise InputError(
            f"wrap cannot guess where a {type(module).__name__} keeps its residual stream; pass "
            'sites={"blocks.0.hook_resid_post": "model.layers.0", …}.'
        )
    parts = dict(module.named_modules())
    wrong = sorted({path for path in sites.values() if path not in parts})
    if wrong:
        raise InputError(
            f"The sites name submodules {wrong} that the {type(module).__name__} does not have; "
            "dict(module.named_modules()) lists them all."
        )
    layers = [int(m.group(1)) for site in sites if (m := _LAYER.match(site))]
    if not layers:
        raise InputError('At least one site wants to name a layer, as "blocks.0.hook_resid_post" does.')
    opening = backend.token_to_id(separator) if isinstance(separator, str) else separator
    if isinstance(separator, str) and opening is None:
        raise InputError(
            f"The tokenizer has no token {separator!r} to put before every text; name one it has, or None."
        )
    width, d_vocab = _embedding(module, d_model)
    memory_layers = tuple(sorted({int(s.split(".")[1]) for s in sites if ".engram." in s}))
    if layout is not None and not set(memory_layers) <= set(layout.layer_ids):
        raise InputError(
            f"The sites show memories on layers {list(memory_layers)} and the layout is of layers "
            f"{list(layout.layer_ids)}; make it with Layout(…, layer_ids={memory_layers})."
        )
    if layout is not None and token_map is None:
        token_map = hashing.token_map(backend)[0]
    return SubjectModel(
        module=module,
        tokenizer=backend,
        name=name,
        family="wrapped",
        sites=dict(sites),
        n_layers=max(layers) + 1,
        d_model=width,
        d_vocab=d_vocab,
        n_streams=n_streams,
        n_ctx=n_ctx,
        memory_layers=memory_layers,
        separator_id=opening,
        layout=layout,
        token_map=token_map,
        boundary=boundary,
        hits=hits or {},
        lens_head=lens_head,
        final_norm=final_norm,
        unembed=unembed,
        rebuild=rebuild,
        notes=("a module in memory: its weights have no digest",),
    )


def _known(module: nn.Module) -> Callable[..., SubjectModel] | None:
    """What makes a subject of a causal language model of transformers; None of anything else."""
    if is_qwen4_exp(module):
        return qwen4_exp_of
    head: Any = getattr(module, "get_output_embeddings", None)
    return None if head is None or head() is None else baseline_of


def _embedding(module: nn.Module, d_model: int | None) -> tuple[int, int]:
    embeddings = [m for m in module.modules() if isinstance(m, nn.Embedding)]
    if not embeddings:
        raise InputError(f"A {type(module).__name__} without an nn.Embedding cannot take token ids.")
    return d_model or embeddings[0].embedding_dim, embeddings[0].num_embeddings
