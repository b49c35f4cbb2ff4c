"""What exactly is switched off: each kind of ablation as changes to sites."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.intervene import Change
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

Kind = Literal["output_off", "gate_zero", "rows_zero", "rows_random"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEANING: dict[Kind, str] = {
    "output_off": "the memory writes nothing",
    "gate_zero": "the gate is 0 (the convolution then sees zeros)",
    "rows_zero": "the rows read are zeros",
    "rows_random": "another row of the same head is read, drawn at random",
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Which part of the memory an ablation touches; None means all of it.

    Attributes:
        layers: Memory layers, counted from 0.
        orders: N-gram orders (rows only).
        heads: Heads within each order (rows only).
        streams: Residual streams (output and gate only).
        tokens: Positions, counted from 0 with the separator at 0.
    """

    layers: tuple[int, ...] | None = None
    orders: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    streams: tuple[int, ...] | None = None
    tokens: tuple[int, ...] | None = None

    def describe(self) -> str:
        """The parts in words, such as "layer 1, order 3, token 7"."""
        parts = [
            f"{name[:-1] if len(values) == 1 else name} {', '.join(map(str, values))}"
            for name in ("layers", "orders", "heads", "streams", "tokens")
            if (values := getattr(self, name)) is not None
        ]
        return ", ".join(parts) or "everywhere"


def target_of(model: SubjectModel, kind: str, **parts: Sequence[int] | None) -> Target:
    """A checked `Target`.

    Raises:
        InputError: If the kind is unknown, the model has no memory there, or a part does not apply.
    """
    if kind not in KINDS:
        raise InputError(f"No ablation {kind!r}; there are {', '.join(KINDS)}.")
    if not model.memory_layers:
        raise InputError(f"{model.name} has no memory to ablate; give the model that has one.")
    target = Target(**{k: None if v is None else tuple(int(i) for i in v) for k, v in parts.items()})
    wrong = sorted(set(target.layers or ()) - set(model.memory_layers))
    if wrong:
        raise InputError(f"Layers {wrong} have no memory; layers that have one: {list(model.memory_layers)}.")
    empty = [name for name, values in vars(target).items() if values == ()]
    if empty:
        raise InputError(f"{', '.join(empty)} name nothing to ablate; leave them out to mean all of them.")
    by_rows = kind.startswith("rows_")
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


def changes(model: SubjectModel, kind: Kind, target: Target, *, seed: int) -> dict[str, Change]:
    """Site name → change, for `intervene`."""
    layers = model.memory_layers if target.layers is None else target.layers
    return {_site(kind, layer): _change(model, kind, target, layer, seed) for layer in layers}


def _site(kind: Kind, layer: int) -> str:
    names = {
        "output_off": "hook_engram_out",
        "gate_zero": "engram.hook_gate",
        "rows_zero": "engram.hook_memory",
        "rows_random": "engram.hook_rows",
    }
    return f"blocks.{layer}.{names[kind]}"


def _change(model: SubjectModel, kind: Kind, target: Target, layer: int, seed: int) -> Change:
    if kind == "output_off":
        return lambda x: x.masked_fill(_where(x, target, stream_axis=2 if model.n_streams > 1 else None), 0.0)
    if kind == "gate_zero":
        return lambda x: x.masked_fill(_where(x, target, stream_axis=2), 0.0)
    columns = _columns(model, target)
    if kind == "rows_zero":
        return lambda x: x.masked_fill(_where(x, target) & columns[:, None].to(x.device), 0.0)
    generator = torch.Generator().manual_seed((seed << 16) + layer)
    sizes, offsets = _heads_of(model, layer)

    def other_rows(rows: Tensor) -> Tensor:
        step = (torch.rand(rows.shape, generator=generator) * (sizes - 1)).long() + 1
        moved = (rows - offsets.to(rows.device) + step.to(rows.device)) % sizes.to(rows.device)
        chosen = _where(rows, target) & columns.to(rows.device)
        return torch.where(chosen, moved + offsets.to(rows.device), rows)

    return other_rows


def _where(x: Tensor, target: Target, *, stream_axis: int | None = None) -> Tensor:
    """True where the target's tokens and streams are; broadcasts against x `[batch, token, …]`."""
    token = torch.ones(x.shape[1], dtype=torch.bool, device=x.device)
    if target.tokens is not None:
        beyond = [t for t in target.tokens if t >= len(token)]
        if beyond:
            raise InputError(
                f"Tokens {beyond} lie outside the prompt, whose tokens run from 0 to {len(token) - 1}."
            )
        token = torch.zeros_like(token)
        token[list(target.tokens)] = True
    where = token.view(1, -1, *[1] * (x.ndim - 2))
    if stream_axis is not None and target.streams is not None:
        stream = torch.zeros(x.shape[stream_axis], dtype=torch.bool, device=x.device)
        stream[list(target.streams)] = True
        where = where & stream.view(1, 1, -1, *[1] * (x.ndim - 3))
    return where


def _columns(model: SubjectModel, target: Target) -> Tensor:
    if model.layout is None:
        raise InputError(
            f"{model.name} has no hash layout, so its rows have no orders or heads; pass layout=…."
        )
    orders = np.repeat(np.arange(2, model.layout.max_order + 1), model.layout.heads)
    heads = np.tile(np.arange(model.layout.heads), model.layout.max_order - 1)
    by_order = np.isin(orders, orders if target.orders is None else target.orders)
    by_head = np.isin(heads, heads if target.heads is None else target.heads)
    return torch.from_numpy(by_order & by_head)


def _heads_of(model: SubjectModel, layer: int) -> tuple[Tensor, Tensor]:
    assert model.layout is not None
    index = model.layout.layer_ids.index(layer)
    sizes = model.layout.primes[index].reshape(-1)
    return torch.from_numpy(sizes), torch.from_numpy(model.layout.offsets[index])


def same_size_changes(
    model: SubjectModel, target: Target, sizes: dict[int, Tensor], *, seed: int
) -> dict[str, Change]:
    """The control: a write moved by as much, at the same places, but in a random direction.

    Args:
        model: The model.
        target: The ablation's target; only its layers count, sizes hold the rest.
        sizes: By layer, how far the ablation moved the write: norms `[batch, token, (stream,) 1]`.
        seed: Of the directions.
    """

    def change(layer: int) -> Change:
        generator = torch.Generator().manual_seed((seed << 16) + 7919 + layer)

        def move(x: Tensor) -> Tensor:
            direction = torch.randn(x.shape, generator=generator).to(x.device)
            moved: Tensor = x.float() + sizes[layer] * direction / direction.norm(dim=-1, keepdim=True)
            return moved.to(x.dtype)

        return move

    layers = model.memory_layers if target.layers is None else target.layers
    return {f"blocks.{layer}.hook_engram_out": change(layer) for layer in layers}
