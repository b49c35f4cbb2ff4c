"""What live runs find, and what stands for a row of a table in a run about it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engram_interp.results import (
    GateReading,
    LensTable,
    MemoryAttribution,
    MemoryPromotion,
    Result,
    SlotColliders,
    SlotLoad,
    SlotLookup,
    SlotOccupants,
)


def unknown_words(result: Result) -> str:
    """What a result of one text notes of words that the model does not know; empty where there are none."""
    found = re.search(r"holds words that .*? does not know.*?: .*?\.(?= Prompt |$)", _notes(result))
    return f"The text {found[0]}" if found else ""


def _notes(result: Result) -> str:
    return str(result.data.attrs.get("notes", ""))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a live run found in one text.

    Attributes:
        gates: where the gates open.
        slots: which rows were read.
        lens: what each layer would predict.
        given: how many tokens the text has, with the separator in front.
        analysed: how many of them the model's context holds; the first ones were run.
        notes: words that the model does not know, in a sentence; empty where it knows them all.
    """

    gates: GateReading
    slots: SlotLookup
    lens: LensTable
    given: int
    analysed: int
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class Attributed:
    """What the reads of one token give a prediction, and what each write promotes."""

    memory: MemoryAttribution
    promotion: MemoryPromotion


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Who shares the rows that one token read, in a reference text; its load where that was asked for."""

    load: SlotLoad | None
    occupants: SlotOccupants
    colliders: SlotColliders | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row that an n-gram read, and the text in which others are looked for."""

    digest: str
    ids: tuple[int, ...]
    order: int
    layer: int
    address: int


def row_of(texts: Sequence[str], slot: SlotLookup, *, token: int, layer: int, column: int) -> Row:
    """The row that `column` of a token read, and the texts in which others are looked for."""
    at = slot.data.sel(token=token, layer=layer, column=column)
    order, read = int(at["order"]), slot.data["token_id"].values[: token + 1]
    return Row(
        digest=hashlib.sha1("\0".join(texts).encode("utf-8", "replace"), usedforsecurity=False).hexdigest(),
        ids=tuple(int(one) for one in read[max(token - order + 1, 0) :]),
        order=order,
        layer=layer,
        address=int(at["address"]),
    )
