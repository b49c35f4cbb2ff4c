"""What exactly is switched off: an ablation's target, its changes to sites, and its control."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from engram_interp.capture.averages import REFERENCE, mean_gates
from engram_interp.capture.draws import directions, drawn_by
from engram_interp.capture.encode import Encoded
from engram_interp.capture.intervene import Change, intervene
from engram_interp.capture.kinds import KINDS, MEANING, STANDARD, TABLE, Kind, Means, Place, Target
from engram_interp.capture.record import run_batches
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

__all__ = [
    "KINDS",
    "MEANING",
    "STANDARD",
    "Kind",
    "Means",
    "Target",
    "beside_control",
    "changes",
    "log_probabilities",
    "means_for",
    "moved",
    "random_rows",
    "same_size_changes",
    "sources",
    "target_of",
    "write_sites",
]


def target_of(model: SubjectModel, kind: str, **parts: Sequence[int] | None) -> Target:
    """A checked `Target`.

    Raises:
        InputError: If the kind is unknown, the model has no memory there, or a part does not apply.
    """
    if kind not in KINDS:
        raise InputError(f"No ablation {kind!r}; there are {', '.join(KINDS)}.")
    if not model.memory_layers:
        raise InputError(f"{model.name} has no memory to ablate; give the model that has one.")
    _refuse_no_lists(parts)
    target = Target(**{k: None if v is None else tuple(int(i) for i in v) for k, v in parts.items()})
    wrong = sorted(set(target.layers or ()) - set(model.memory_layers))
    if wrong:
        raise InputError(f"Layers {wrong} have no memory; layers that have one: {list(model.memory_layers)}.")
    empty = [name for name, values in vars(target).items() if values == ()]
    if empty:
        raise InputError(f"{', '.join(empty)} name nothing to ablate; leave them out to mean all of them.")
    by_rows = TABLE[kind].by_rows
    if not by_rows and (target.orders is not None or target.heads is not None):
        raise InputError(
            f"{kind} acts on whole tokens, not on orders or heads; use rows_zero or rows_random."
        )
    if by_rows and target.streams is not None:
        raise InputError(f"{kind} acts on the rows, which all streams share; use gate_zero or output_off.")
    layout = model.layout
    if layout is not None:
        limits = {"orders": range(2, layout.max_order + 1), "heads": range(layout.heads)}
        for name, allowed in limits.items():
            if any(i not in allowed for i in getattr(target, name) or ()):
                raise InputError(
                    f"{name} want to lie in {allowed.start} … {allowed.stop - 1}, got "
                    f"{getattr(target, name)}."
                )
    if any(s not in range(model.n_streams) for s in target.streams or ()):
        raise InputError(f"Streams want to lie in 0 … {model.n_streams - 1}, got {target.streams}.")
    if any(t < 0 for t in target.tokens or ()):
        raise InputError(f"Token positions count from 0, got {target.tokens}.")
    return target


def _refuse_no_lists(parts: dict[str, Any]) -> None:
    for name, values in parts.items():
        if values is not None and (isinstance(values, str) or not isinstance(values, Iterable)):
            raise InputError(f"{name} wants a list of whole numbers, such as {name}=[1], got {values!r}.")


def changes(
    model: SubjectModel, kind: Kind, target: Target, *, seed: int, means: Means | None = None
) -> dict[str, Change]:
    """Site name → change, for `intervene`.

    Raises:
        InputError: If the kind wants something that is not there: training hits, mean gates, a swap.
    """
    layers = model.memory_layers if target.layers is None else target.layers
    row = TABLE[kind]
    return {
        f"blocks.{layer}.{row.site}": row.make(
            Place(model=model, target=target, layer=layer, seed=seed, means=means or Means())
        )
        for layer in layers
    }


def random_rows(model: SubjectModel, batch: Encoded, target: Target, *, seed: int) -> dict[str, Change]:
    """The control that reads other rows of the same heads, at the target's tokens and in its streams.

    All streams share the rows. Where the target names some, the others are given what they would be given
    with their own rows, which at a later memory layer depends on what the earlier ones changed: one pass a
    memory layer.

    Args:
        model: The model.
        batch: The prompts.
        target: Where.
        seed: Of the rows that are drawn.
    """
    shared = replace(target, streams=None)
    drawn = changes(model, "rows_random", shared, seed=seed)
    if target.streams is None or model.n_streams == 1:
        return drawn
    found: dict[str, Change] = {}
    for site, rows in zip(write_sites(model, target), drawn, strict=True):
        written = log_probabilities(model, batch, found, [site])[1][site]
        found |= {rows: drawn[rows], site: _keep(written, list(target.streams))}
    return found


def _keep(written: Tensor, streams: list[int]) -> Change:
    def change(x: Tensor) -> Tensor:
        kept = written.to(x).clone()
        kept[:, :, streams] = x[:, :, streams]
        return kept

    return change


def same_size_changes(
    model: SubjectModel, target: Target, sizes: dict[int, Tensor], *, seed: int, first: int = 0
) -> dict[str, Change]:
    """The control: a write moved by as much, at the same places, but in a random direction.

    Args:
        model: The model.
        target: The ablation's target; only its layers count, sizes hold the rest.
        sizes: By layer, how far the ablation moved the write: norms `[batch, token, (stream,) 1]`.
        seed: Of the directions.
        first: Number of the batch's first prompt: each prompt has its own directions.
    """

    def change(layer: int) -> Change:
        def move(x: Tensor) -> Tensor:
            direction = directions(x.shape, seed, layer, first=first).to(x.device)
            moved: Tensor = x.float() + sizes[layer] * direction
            return moved.to(x.dtype)

        return move

    layers = model.memory_layers if target.layers is None else target.layers
    return {f"blocks.{layer}.hook_engram_out": change(layer) for layer in layers}


def means_for(
    model: SubjectModel, kinds: Sequence[Kind], *, reference: Any = None, swap: Any = None
) -> Means:
    """What the kinds put in place of what is read; gates are averaged only where one of them asks."""
    return Means(gates=mean_gates(model, reference) if "gate_mean" in kinds else {}, swap=swap)


def sources(
    model: SubjectModel, kinds: Sequence[Kind], *, reference: Any = None, swap: Any = None
) -> dict[str, str]:
    """Where the means, the random and the swapped reads came from, for provenance."""
    said = {}
    if "gate_mean" in kinds:
        said["gate_mean_over"] = (
            f"the first {REFERENCE} packaged passages" if reference is None else "given texts"
        )
    if "rows_mean" in kinds:
        said["rows_mean_over"] = "the rows of each head, weighted by training hits"
    if "rows_random" in kinds:
        said["rows_random_drawn"] = drawn_by(model)
    if "ngram_swap" in kinds:
        said["swap"] = str(swap)
    return said


def write_sites(model: SubjectModel, target: Target) -> list[str]:
    """Where the target's layers write."""
    layers = model.memory_layers if target.layers is None else target.layers
    return [f"blocks.{layer}.hook_engram_out" for layer in layers]


def log_probabilities(
    model: SubjectModel, batch: Encoded, changed: dict[str, Change], sites: Sequence[str] = ()
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities `[batch, token, d_vocab]` of one batch with sites changed, and what passed `sites`.

    On the CPU, where the numbers end up: the changes themselves ran on the model's device.
    """
    with intervene(model, changed):
        [(output, seen)] = run_batches(model, batch, sites, batch_size=len(batch))
    return output.float().cpu().log_softmax(-1), seen


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[int, Tensor]:
    """By layer, how far a write was moved: norms `[batch, token, (stream,) 1]` of the sites in `after`."""
    return {
        int(site.split(".")[1]): (after[site].float() - before[site].float()).norm(dim=-1, keepdim=True)
        for site in after
    }


def beside_control(
    model: SubjectModel,
    batch: Encoded,
    kind: Kind,
    target: Target,
    written: dict[str, Tensor],
    *,
    seed: int,
    first: int = 0,
    means: Means | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a batch under an ablation, and under its control of the same size.

    Args:
        model: The model.
        batch: The prompts.
        kind: What is switched off.
        target: Where.
        written: What the intact model writes at `write_sites` of this batch.
        seed: Of whatever is drawn.
        first: Number of the batch's first prompt: what is drawn for a prompt does not depend on its batch.
        means: As in `changes`.
    """
    sites = write_sites(model, target)
    changed = changes(model, kind, target, seed=seed, means=means)
    ablated, seen = log_probabilities(model, batch, changed, sites)
    control = same_size_changes(model, target, moved(written, seen), seed=seed, first=first)
    return ablated, log_probabilities(model, batch, control)[0]
