"""The kinds of ablation: what each is in words, which site it changes, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.averages import mean_rows
from engram_interp.capture.draws import OtherRows, fixed_uniform
from engram_interp.capture.intervene import Change
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.numbering import runs_of

Kind = Literal[
    "output_off",
    "gate_zero",
    "gate_mean",
    "gate_one",
    "rows_zero",
    "rows_mean",
    "rows_shuffled",
    "rows_random",
    "ngram_swap",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
STANDARD: tuple[Kind, ...] = ("output_off", "gate_zero", "rows_zero", "rows_random")
"""The kinds that ask nothing of a model but its memory: no training hits, no reference texts."""


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
            f"{name[:-1] if len(values) == 1 else name} {', '.join(runs_of(values))}"
            for name in ("layers", "orders", "heads", "streams", "tokens")
            if (values := getattr(self, name)) is not None
        ]
        return ", ".join(parts) or "everywhere"


@dataclass(frozen=True, kw_only=True)
class Means:
    """What some kinds put in place of what the model reads, beside a seed.

    Attributes:
        gates: By layer, the gate of `gate_mean` `[stream]` (`averages.mean_gates`).
        swap: For `ngram_swap`: a text or token ids, whose last token's reads are taken, or a position of
            the same prompt.
    """

    gates: Mapping[int, Tensor] = field(default_factory=dict)
    swap: Any = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """One layer of a model, the target there, and what a change may draw from."""

    model: SubjectModel
    target: Target
    layer: int
    seed: int
    means: Means

    @property
    def columns(self) -> Tensor:
        """True at the target's columns `[column]`."""
        layout = self.model.layout
        if layout is None:
            raise InputError(
                f"{self.model.name} has no hash layout, so its rows have no orders or heads; pass layout=…."
            )
        orders = np.repeat(np.arange(2, layout.max_order + 1), layout.heads)
        heads = np.tile(np.arange(layout.heads), layout.max_order - 1)
        by_order = np.isin(orders, orders if self.target.orders is None else self.target.orders)
        by_head = np.isin(heads, heads if self.target.heads is None else self.target.heads)
        return torch.from_numpy(by_order & by_head)


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


def _output_off(at: Place) -> Change:
    axis = 2 if at.model.n_streams > 1 else None
    return lambda x: x.masked_fill(_where(x, at.target, stream_axis=axis), 0.0)


def _gate_at(value: float) -> Callable[[Place], Change]:
    return lambda at: lambda x: x.masked_fill(_where(x, at.target, stream_axis=2), value)


def _gate_mean(at: Place) -> Change:
    if at.layer not in at.means.gates:
        raise InputError(
            f"gate_mean wants the mean gate of layer {at.layer}; give means=Means(gates=mean_gates(model))."
        )
    mean = at.means.gates[at.layer]
    return lambda x: torch.where(_where(x, at.target, stream_axis=2), mean.to(x), x)


def _rows_zero(at: Place) -> Change:
    columns = at.columns
    return lambda x: x.masked_fill(_where(x, at.target) & columns[:, None].to(x.device), 0.0)


def _rows_mean(at: Place) -> Change:
    columns, mean = at.columns, mean_rows(at.model, at.layer)
    return lambda x: torch.where(
        _where(x, at.target) & columns[:, None].to(x.device), mean.to(x.device, x.dtype), x
    )


def _exchanged(at: Place, other: Callable[[Tensor], Tensor]) -> Change:
    """The addresses of the target's tokens and columns become `other` of all addresses."""
    columns = at.columns
    return lambda rows: torch.where(_where(rows, at.target) & columns.to(rows.device), other(rows), rows)


def _rows_random(at: Place) -> Change:
    if at.model.layout is None:
        return _exchanged(at, lambda rows: rows)  # refused there
    others = OtherRows.of(at.model, at.layer)

    def another(rows: Tensor) -> Tensor:
        # By address, not by call: inside the block every pass meets one and the same other table.
        read = rows.cpu()
        return others(read, fixed_uniform(read, at.seed, at.layer)).to(rows.device)

    return _exchanged(at, another)


def _rows_shuffled(at: Place) -> Change:
    nothing = _nothing(at.model, at.layer)

    def anothers(rows: Tensor) -> Tensor:
        out = rows.clone()
        # By position alone: a prompt is shuffled alike in every batch and however far it is padded.
        order = fixed_uniform(torch.arange(rows.shape[1]), at.seed, at.layer).argsort().to(rows.device)
        for mine, shuffled in zip(rows, out, strict=True):
            reading = torch.ones(len(mine), dtype=torch.bool, device=mine.device)
            if nothing is not None:
                reading = (mine != nothing.to(mine.device)).any(-1)
            places = order[reading[order]]
            shuffled[places] = mine[places.roll(1)]  # one cycle through all of them: nobody keeps its own
        return out

    return _exchanged(at, anothers)


def _nothing(model: SubjectModel, layer: int) -> Tensor | None:
    """The rows read where there is no n-gram (padding, an opening separator); None if not known."""
    module = model.module
    if not isinstance(module, HookedEngramTransformer):
        return None
    one = torch.zeros((1, 1), dtype=torch.int64, device=model.device)
    rows = module.memory_rows(one, torch.zeros_like(one, dtype=torch.bool))
    assert rows is not None
    return rows[0, 0, model.memory_layers.index(layer)]


def _ngram_swap(at: Place) -> Change:
    swap = at.means.swap
    if swap is None or isinstance(swap, bool):
        raise InputError(
            "ngram_swap wants to know whose reads to take: swap= a text (its last token's reads), or a "
            "position of the same prompt."
        )
    if not isinstance(swap, int | np.integer):
        site = f"blocks.{at.layer}.engram.hook_rows"
        read = record(at.model, swap, sites=[site], logits=False)
        if len(read.tokens) != 1:
            raise InputError(f"ngram_swap takes the reads of one text, got {len(read.tokens)}.")
        given = read[site][0, -1]
        return _exchanged(at, lambda rows: given.to(rows.device).expand_as(rows))

    def of_position(rows: Tensor) -> Tensor:
        if not 0 <= swap < rows.shape[1]:
            raise InputError(
                f"swap={swap} lies outside the prompt, whose tokens run from 0 to {rows.shape[1] - 1}."
            )
        return rows[:, swap : swap + 1].expand_as(rows)

    return _exchanged(at, of_position)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of ablation: what it is in words, the site it changes, and how."""

    meaning: str
    site: str
    make: Callable[[Place], Change]

    @property
    def by_rows(self) -> bool:
        """Whether it acts on the rows, by order and head; otherwise on gates or the write, by stream."""
        return self.site in ("engram.hook_rows", "engram.hook_memory")


_OUT, _GATE, _MEMORY, _ROWS = (
    "hook_engram_out",
    "engram.hook_gate",
    "engram.hook_memory",
    "engram.hook_rows",
)
TABLE: dict[str, Row] = {
    "output_off": Row(meaning="the memory writes nothing", site=_OUT, make=_output_off),
    "gate_zero": Row(
        meaning="the gate is 0 (the convolution then sees zeros)", site=_GATE, make=_gate_at(0.0)
    ),
    "gate_mean": Row(
        meaning="the gate is its mean over reference texts, whatever the token", site=_GATE, make=_gate_mean
    ),
    "gate_one": Row(meaning="the gate is 1: all of the memory is let in", site=_GATE, make=_gate_at(1.0)),
    "rows_zero": Row(meaning="the rows read are zeros", site=_MEMORY, make=_rows_zero),
    "rows_mean": Row(
        meaning="every row read is its head's mean row, weighted by training hits (a table of one row)",
        site=_MEMORY,
        make=_rows_mean,
    ),
    "rows_shuffled": Row(
        meaning="what another position of the same prompt reads is read", site=_ROWS, make=_rows_shuffled
    ),
    "rows_random": Row(
        meaning="another row of the same head is read, drawn at random (by training hits where known)",
        site=_ROWS,
        make=_rows_random,
    ),
    "ngram_swap": Row(meaning="what another n-gram reads is read", site=_ROWS, make=_ngram_swap),
}
MEANING: dict[Kind, str] = {kind: TABLE[kind].meaning for kind in KINDS}
