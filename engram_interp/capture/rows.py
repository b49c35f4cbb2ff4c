"""Rows of the memory's tables written for as long as a `with` block lasts, and put back bit for bit."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from engram_interp.capture.memories import engram_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class RowChange:
    """What is added to rows of one layer's table.

    Attributes:
        rows: Distinct addresses, offsets included.
        change: Added to each.
    """

    rows: Int64[Tensor, " row"]
    change: Float[Tensor, "row d_row"]


@contextmanager
def rows_written(model: SubjectModel, changes: Mapping[int, RowChange]) -> Iterator[SubjectModel]:
    """Add to rows inside the block; afterwards, also after an error, their old bits are back.

    Blocks add up and may end in any order: what is left is what the blocks still open make of the rows as
    they were before all of them.

    Args:
        model: A model with a memory.
        changes: By memory layer, what is added to which rows.

    Raises:
        InputError: If an address lies outside the table. When the block ends (or another begins on the
            same rows): if the rows are no longer what was written; they are then left as they are, since
            to put the old ones back would undo somebody else's change.
    """
    with ExitStack() as stack:
        for layer, change in changes.items():
            stack.enter_context(_written(model, layer, change))
        yield model


@dataclass(eq=False)
class _Written:
    """The changes that one table holds now, and the bits below them.

    Attributes:
        below: By address, the row before any change that is still open.
        open: The changes, in the order in which they were written.
    """

    below: dict[int, Tensor] = field(default_factory=dict)
    open: list[RowChange] = field(default_factory=list)

    def values(self, rows: Tensor) -> Tensor:
        """What the open changes make of rows that they touch, added one by one as they were written."""
        out = torch.stack([self.below[row] for row in rows.tolist()])
        for made in self.open:
            here, there = (rows[:, None] == made.rows.cpu()).nonzero(as_tuple=True)
            out[here] = (out[here].float() + made.change.cpu()[there]).to(out.dtype)
        return out

    def forget(self, rows: Tensor) -> None:
        """Drop what lies below rows that no open change touches."""
        held = {row for made in self.open for row in made.rows.tolist()}
        for row in set(rows.tolist()) - held:
            self.below.pop(row, None)


_TABLES: WeakKeyDictionary[nn.Module, _Written] = WeakKeyDictionary()
"""By table, for as long as it lives: blocks that end out of order must know of each other."""


@contextmanager
def _written(model: SubjectModel, layer: int, change: RowChange) -> Iterator[None]:
    table, rows = engram_of(model, layer).table, change.rows.cpu()
    if not len(rows):
        yield
        return
    _refuse_wrong(table, change, layer)
    state = _TABLES.setdefault(table, _Written())
    touched = torch.tensor([row for row in rows.tolist() if row in state.below], dtype=torch.int64)
    _refuse_changed(table, state, touched, layer)
    found = table.weight.detach()[rows.to(table.weight.device)].cpu()
    ours = replace(change)  # the same change may be written twice: each block ends its own
    written = False
    try:  # an interruption may come between any two of these lines
        for row, bits in zip(rows.tolist(), found, strict=True):
            state.below.setdefault(row, bits.clone())
        state.open.append(ours)
        _write(table, rows, state.values(rows))
        written = True
        yield
    finally:
        try:
            if written:
                _refuse_changed(table, state, rows, layer)
        finally:
            state.open = [made for made in state.open if made is not ours]
            known = torch.tensor([row for row in rows.tolist() if row in state.below], dtype=torch.int64)
            left = state.values(known) if len(known) else found[:0]
            state.forget(rows)
        _write(table, known, left)


def _refuse_wrong(table: nn.Embedding, change: RowChange, layer: int) -> None:
    rows, wanted = change.rows.cpu(), (len(change.rows), table.weight.shape[1])
    if not 0 <= int(rows.min()) <= int(rows.max()) < len(table.weight):
        raise InputError(
            f"An edit of layer {layer} names rows {int(rows.min())} … {int(rows.max())} and the table has "
            f"{len(table.weight):,}; it was made for another model."
        )
    if tuple(change.change.shape) != wanted or not bool(change.change.isfinite().all()):
        raise InputError(
            f"An edit of {wanted[0]} rows of layer {layer} wants finite numbers {list(wanted)} to add, got "
            f"shape {list(change.change.shape)}{'' if change.change.isfinite().all() else ' with others'}."
        )
    if len(rows.unique()) < len(rows):
        raise InputError(f"An edit of layer {layer} names a row twice; add the changes of each row first.")


def _write(table: nn.Embedding, rows: Tensor, values: Tensor) -> None:
    with torch.no_grad():
        table.weight.data[rows.to(table.weight.device)] = values.to(table.weight.device)


def _refuse_changed(table: nn.Embedding, state: _Written, rows: Tensor, layer: int) -> None:
    if not len(rows):
        return
    found, wanted = table.weight.detach()[rows.to(table.weight.device)], state.values(rows)
    if found.dtype != wanted.dtype or not _same_bits(found, wanted):
        raise InputError(
            f"The rows that this edit wrote into layer {layer} were changed before it ended (by training or "
            "by a cast), so they were not put back; load the model again."
        )


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Equality that tells 0 from -0 and finds a NaN equal to itself."""
    return torch.equal(one.contiguous().view(torch.uint8).cpu(), other.contiguous().view(torch.uint8).cpu())
