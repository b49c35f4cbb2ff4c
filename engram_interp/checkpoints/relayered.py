"""A model put together anew from its own blocks: a positive control, whose true depth is known."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.model.transformer import HookedEngramTransformer


@torch.no_grad()
def relayered(model: SubjectModel, blocks: Sequence[int | None], *, name: str | None = None) -> SubjectModel:
    """A copy whose blocks are those of `model` in another order, number or both.

    ``[0, 1, None, 2, 3]`` puts in a block that does nothing: the residual passes it unchanged, so from
    there on the copy lags by one layer and predicts the same. ``[0, 1, 1, 2, 3]`` runs a block twice,
    which changes what follows.

    Args:
        model: In our own format, with one residual stream and no memory.
        blocks: For every block of the copy, which of the model's it is; None for one that does nothing.
        name: What results call the copy.

    Raises:
        InputError: If the model is of another family, has a memory or several streams, or lacks a block.
    """
    module = model.module
    if not isinstance(module, HookedEngramTransformer) or model.memory_layers or model.n_streams > 1:
        raise InputError(
            f"relayered wants a model in our own format with one stream and no memory; {model.name} is of "
            f"family {model.family!r}, with {model.n_streams} streams and memory at {model.memory_layers}."
        )
    wrong = [block for block in blocks if block is not None and not 0 <= block < model.n_layers]
    if wrong or not blocks:
        raise InputError(
            f"blocks want to lie in 0 … {model.n_layers - 1}, or be None, at least one; got {list(blocks)}."
        )
    cfg = replace(module.cfg, n_layers=len(blocks))
    copy = HookedEngramTransformer(cfg, token_map=model.token_map, tokenizer=model.tokenizer)
    state = module.state_dict()
    copy.load_state_dict(
        {key: value for key, value in state.items() if not key.startswith("blocks.")}, strict=False
    )
    for target, source in zip(copy.blocks, blocks, strict=True):
        if source is not None:
            target.load_state_dict(module.blocks[source].state_dict())
            continue
        for parameter in target.parameters():
            parameter.zero_()
    copy.eval().requires_grad_(False).to(model.device)
    return subject_of(copy, model.tokenizer, name=name or f"{model.name} of blocks {list(blocks)}")
