"""What is each layer worth? The loss when a block is skipped, with memory and without.

A skipped block hands its residual on unchanged, all streams alike. In a layer with a memory there are two
ways to skip it: the memory's write goes too, or it is kept and only attention and feed-forward go. Beside
each stands a control: what was skipped is replaced by as much in a random direction.
"""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
from torch import Tensor

from engram_interp.capture.draws import directions
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.intervene import Change, intervene
from engram_interp.capture.predictions import batches, logits_of, moves, next_loss
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import mean_interval
from engram_interp.provenance import describe, unmeasured
from engram_interp.results.skipping import Memory, SkipEffect

__all__ = ["MEMORY", "effect", "skipped"]

MEMORY: tuple[Memory, ...] = get_args(Memory)
"""The memory's write goes with the block ("skipped"), or stays ("kept")."""


def skipped(
    model: SubjectModel,
    layer: int,
    *,
    memory: Memory = "skipped",
    seed: int | None = None,
    first: int = 0,
) -> dict[str, Change]:
    """Site name → change, for `intervene`: the block of one layer hands its residual on unchanged.

    Args:
        model: The model.
        layer: Which block.
        memory: Whether the memory's write of that layer goes too.
        seed: None to skip it; a seed puts as much in a random direction in place of what is skipped.
        first: Number of the first prompt that is run: each prompt has its own directions.

    Raises:
        InputError: If there is no such layer, the memory of a layer without one is to be kept, or the
            model does not show what goes into the block.
    """
    if not 0 <= layer < model.n_layers:
        raise InputError(f"The layers of {model.name} run from 0 to {model.n_layers - 1}, got {layer}.")
    if memory not in MEMORY:
        raise InputError(f"memory is one of {', '.join(MEMORY)}, got {memory!r}.")
    if memory == "kept" and layer not in model.memory_layers:
        raise InputError(
            f"Layer {layer} has no memory to keep; layers that have one: "
            f"{list(model.memory_layers) or 'none'}."
        )
    names = ["hook_resid_pre", "hook_resid_post"] + ["hook_engram_out"] * (memory == "kept")
    sites = [f"blocks.{layer}.{name}" for name in names]
    lacking = [site for site in sites if site not in model.sites]
    if lacking:
        raise InputError(
            f"To skip layer {layer}, {model.name} wants the site {lacking[0]}; add it to wrap's sites."
        )
    seen: list[Tensor] = []

    def opening(x: Tensor) -> None:
        seen[:] = [x]

    def also(x: Tensor) -> None:
        seen[0] = seen[0] + x

    def hand_on(x: Tensor) -> Tensor:
        if seed is None:
            return seen[0]
        size = (x.float() - seen[0].float()).norm(dim=-1, keepdim=True)
        moved: Tensor = seen[0].float() + size * directions(x.shape, seed, layer, first=first).to(x.device)
        return moved.to(x.dtype)

    acts: tuple[Callable[[Tensor], Tensor | None], ...] = (opening, hand_on, also)
    return dict(zip(sites, acts, strict=False))


def effect(
    model: SubjectModel,
    texts: Any,
    *,
    baseline: SubjectModel | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
) -> SkipEffect:
    """Change of loss and predictions when each layer is skipped, beside a random control.

    Args:
        model: The model, with memory or without.
        texts: Texts, a `PromptSet`, or token ids.
        baseline: The model without memory to stand beside it; both must cut the texts into the same tokens.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the control and the bootstrap.
        batch_size: Prompts per forward pass.

    Returns:
        By model, layer and what becomes of the memory's write; and model minus baseline, paired by token.
        With fewer than 20 documents there are no intervals.

    Raises:
        InputError: If the texts have fewer than two tokens, or the models cut them differently.
    """
    models = [model] if baseline is None else [model, baseline]
    limit = min((m.n_ctx for m in models if m.n_ctx is not None), default=None)
    encodings = [encode(m, texts, limit=limit) for m in models]
    tokens = encodings[0].tokens.cpu()
    if tokens.shape[1] < 2:
        raise InputError("The cost of skipping a layer wants prompts of at least two tokens.")
    if not all(e.tokens.shape == tokens.shape and bool((e.tokens.cpu() == tokens).all()) for e in encodings):
        raise InputError(
            "The models cut these texts into different tokens, so their losses cannot be paired; measure "
            "each alone."
        )
    n_layers = max(m.n_layers for m in models)
    parts = [
        _measured(m, encoded, n_layers, seed=seed, batch_size=batch_size)
        for m, encoded in zip(models, encodings, strict=True)
    ]
    documents = encodings[0].mask[:, 1:].cpu().nonzero()[:, 0].numpy()
    values = np.stack([moved for moved, _ in parts], axis=1)
    variables: dict[str, Any] = {"intact_loss": np.asarray([loss.mean() for _, loss in parts])}
    for index, name in enumerate(("delta_loss", "kl", "control_delta_loss", "control_kl")):
        variables |= _bounded(name, values[..., index], documents, n_boot=n_boot, seed=seed)
    nothing = np.full((len(documents), len(MEMORY), n_layers), np.nan)
    difference = nothing
    if baseline is not None:
        # The baseline has no memory to keep: both ways of skipping stand against its one.
        difference = values[:, 0, ..., 0] - values[:, 1, :1, :, 0]
    variables |= _bounded("difference", difference, documents, n_boot=n_boot, seed=seed)
    return SkipEffect.from_arrays(
        coords={
            "model": ["engram", "baseline"][: len(models)],
            "layer": np.arange(n_layers),
            "memory": list(MEMORY),
        },
        variables=variables,
        provenance=_facts(models, encodings[0], seed=seed) | {"n_boot": n_boot, "n_samples": len(documents)},
        missing=unmeasured(
            variables,
            len(np.unique(documents)),
            paired=baseline is not None,
            why="no memory to keep in this layer, or the model has fewer layers",
        ),
    )


def _bounded(
    name: str, values: np.ndarray, documents: np.ndarray, *, n_boot: int, seed: int
) -> dict[str, np.ndarray]:
    bounds = mean_interval(values, documents, n_boot=n_boot, seed=seed)
    return {name: bounds.value, f"{name}_low": bounds.low, f"{name}_high": bounds.high}


def _facts(models: Sequence[SubjectModel], encoded: Encoded, *, seed: int) -> dict[str, Any]:
    facts = describe(models[0], encoded, seed=seed)
    if len(models) > 1:
        facts |= {"baseline": models[1].name, "baseline_digest": models[1].digest or "unknown"}
    return facts | {"control": "what is skipped replaced by as much in a random direction"}


def _measured(
    model: SubjectModel, encoded: Encoded, n_layers: int, *, seed: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Change of loss and KL, skipped and control `[token, memory, layer, effect]`, and the intact loss."""
    moved, intact = list[np.ndarray](), list[np.ndarray]()
    ways = [(way, layer) for layer in range(model.n_layers) for way in _ways(model, layer)]
    for start, batch in batches(encoded, batch_size=batch_size):
        predicted = batch.mask[:, 1:].cpu()
        before = logits_of(model, batch).float().log_softmax(-1)
        loss = next_loss(before, batch)
        found = np.full((int(predicted.sum()), len(MEMORY), n_layers, 4), np.nan)
        for way, layer in ways:
            for arm, chance in enumerate((None, seed)):
                with intervene(model, skipped(model, layer, memory=way, seed=chance, first=start)):
                    after = logits_of(model, batch).float().log_softmax(-1)
                effects = moves(before, after, batch)[predicted].numpy()
                found[:, MEMORY.index(way), layer, 2 * arm : 2 * arm + 2] = effects
        moved.append(found)
        intact.append(loss[predicted].double().numpy())
    return np.concatenate(moved), np.concatenate(intact)


def _ways(model: SubjectModel, layer: int) -> tuple[Memory, ...]:
    return MEMORY if layer in model.memory_layers else MEMORY[:1]
