"""Rows of the memory's tables written for as long as a `with` block lasts, and put back bit for bit."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.module import Engram


@dataclass(frozen=True, kw_only=True, eq=False)
class RowChange:
    """What is added to rows of one layer's table.

    Attributes:
        rows: Distinct addresses, offsets included.
        change: Added to each.
    """

    rows: Int64[Tensor, " row"]
    change: Float[Tensor, "row d_row"]


def memory_of(model: SubjectModel, layer: int) -> Engram:
    """The memory of one layer.

    Raises:
        InputError: If that layer has none, or it is not of a kind whose rows can be written.
    """
    if layer not in model.memory_layers:
        raise InputError(
            f"Layer {layer} of {model.name} has no memory; layers that have one: "
            f"{list(model.memory_layers) or 'none'}."
        )
    site = f"blocks.{layer}.engram.hook_memory"
    path = model.sites.get(site, "").rpartition(".")[0]
    found = model.module.get_submodule(path) if path else None
    if not isinstance(found, Engram):
        raise InputError(
            f"The memory of {model.name} is not of a kind whose rows can be written: the site {site} wants "
            "to lie in an engram_interp Engram."
        )
    return found


@contextmanager
def rows_written(model: SubjectModel, changes: Mapping[int, RowChange]) -> Iterator[SubjectModel]:
    """Add to rows inside the block; afterwards, also after an error, their old bits are back.

    Blocks nest: each puts back what it found, the inner one first.

    Args:
        model: A model with a memory.
        changes: By memory layer, what is added to which rows.

    Raises:
        InputError: If an address lies outside the table. When the block ends: if the rows are no longer
            what was written; they are then left as they are, since to put the old ones back would undo
            somebody else's change.
    """
    with ExitStack() as stack:
        for layer, change in changes.items():
            stack.enter_context(_written(model, layer, change))
        yield model


@contextmanager
def _written(model: SubjectModel, layer: int, change: RowChange) -> Iterator[None]:
    memory = memory_of(model, layer)
    table = memory.table.weight
    rows = change.rows.to(table.device)
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(table):
        raise InputError(
            f"An edit of layer {layer} names rows {int(rows.min())} … {int(rows.max())} and the table has "
            f"{len(table):,}; it was made for another model."
        )
    old = table.detach()[rows]
    new = (old.float() + change.change.to(old.device)).to(old.dtype)
    with torch.no_grad():
        table.data[rows] = new
    try:
        yield
    finally:
        _put_back(memory, rows, old=old, new=new, layer=layer)


def _put_back(memory: Engram, rows: Tensor, *, old: Tensor, new: Tensor, layer: int) -> None:
    table = memory.table.weight
    if table.dtype != old.dtype or not _same_bits(table.detach()[rows.to(table.device)], new):
        raise InputError(
            f"The rows that this edit wrote into layer {layer} were changed before it ended (by training, by "
            "a cast, or by an edit undone in another order), so they were not put back; load the model again."
        )
    with torch.no_grad():
        table.data[rows.to(table.device)] = old.to(table.device)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Equality that tells 0 from -0 and finds a NaN equal to itself."""
    return torch.equal(one.contiguous().view(torch.uint8).cpu(), other.contiguous().view(torch.uint8).cpu())
