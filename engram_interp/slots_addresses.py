"""What a text looks up in DeepSeek-V4.1's tables, from its address book: no network is run."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from engram_interp.capture.encode import encode
from engram_interp.checkpoints.address_book import AddressBook
from engram_interp.checkpoints.table_rows import Tables, row_bytes
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.provenance import describe
from engram_interp.results import SlotLookup
from engram_interp.slots_index import canonical_names, name_of

__all__ = ["addresses"]

_NOT_RUN = "the network was not run: only addresses are known"
_NO_TABLES = "no table is at hand; give its shards, or an address to read rows from"
_GAP, _DEAD = -2, -1
"""Canonical ids of nothing: before the start, and at or past a dead token."""


def addresses(book: AddressBook, text: Any, *, tables: Tables | None = None) -> SlotLookup:
    """For every token of a text: its canonical n-grams and their rows in every table.

    Args:
        book: The addresses (`open_addresses`).
        text: One prompt, or token ids.
        tables: Where rows are read from (`open_tables`): a row's norm is known only with them, and only of
            layers whose table is at hand. Each distinct row is read once, in the order of the file.

    Returns:
        As `slots.lookup` gives, without what only a run tells: gates and shares of the value. Dead tokens
        are marked; their n-grams are empty and they look the padding row up, behind a shut gate.

    Raises:
        InputError: If it is not one prompt, or rows cannot be read.
    """
    model, encoded = book.model, encode(book.model, text)
    if len(encoded) != 1:
        raise InputError(f"addresses reads one prompt at a time, got {len(encoded)}; call it for each.")
    layout = model.layout
    assert layout is not None
    rows = book.addresses(encoded.tokens)[0]
    per_slot, per_token = np.full(rows.shape, np.nan), np.full(rows.shape[:2], np.nan)
    norm, facts = per_slot, {"tables": "none", "bytes_read": 0}
    if tables is not None:
        norm = _norms(model.memory_layers, tables, rows)
        distinct = sum(
            len(np.unique(rows[:, place]))
            for place, layer in enumerate(model.memory_layers)
            if layer not in tables.absent
        )
        facts = {"tables": tables.name, "bytes_read": distinct * row_bytes(book.d_row)}
    return SlotLookup.from_arrays(
        coords={"layer": list(model.memory_layers), "order_index": np.arange(2, layout.max_order + 1)},
        variables={
            "address": rows.numpy(),
            "row_norm": norm,
            "share": per_slot,
            "share_bias": per_token,
            "hits": per_slot,
            "gate": np.full((*rows.shape[:2], model.n_streams), np.nan),
            "order": np.repeat(np.arange(2, layout.max_order + 1), layout.heads),
            "head": np.tile(np.arange(layout.heads), layout.max_order - 1),
            "ngram": _ngrams(book, encoded.tokens),
            "token_id": encoded.tokens[0].numpy(),
            "token_text": np.asarray([model.token_text(int(i)) for i in encoded.tokens[0]], dtype=object),
            "dead": book.dead(encoded.tokens)[0].numpy(),
            "table_bytes": layout.rows * book.d_row,
            "scale_bytes": layout.rows * (row_bytes(book.d_row) - book.d_row),
        },
        provenance=describe(model, encoded) | {"dtype": "none"} | facts,
        missing=dict.fromkeys(("share", "share_bias", "gate"), _NOT_RUN)
        | {"hits": "the checkpoint does not tell them"}
        | _unread(tables),
    )


def _norms(layers: tuple[int, ...], tables: Tables, rows: Int64[Tensor, "token layer column"]) -> np.ndarray:
    """Euclidean norm of every row that is looked up; NaN where the table is not at hand."""
    norms = np.full(rows.shape, np.nan)
    for place, layer in enumerate(layers):
        if layer not in tables.absent:
            read = tables.read(layer, rows[:, place].flatten().numpy())
            norms[:, place] = read.double().norm(dim=-1).view(rows.shape[0], -1).numpy()
    return norms


def _unread(tables: Tables | None) -> dict[str, str]:
    """Why some norms are not known."""
    if tables is None:
        return {"row_norm": _NO_TABLES}
    lacks = [f"layer {layer}'s table lies in {shard}" for layer, shard in tables.absent.items()]
    return {"row_norm": f"{', '.join(lacks)}, not in {tables.name}; download it"} if lacks else {}


def _ngrams(book: AddressBook, tokens: Int64[Tensor, "batch token"]) -> np.ndarray:
    """The canonical n-gram of every order that ends at each token; empty at dead ones."""
    model = book.model
    assert model.layout is not None and model.token_map is not None
    dead = book.dead(tokens)
    canonical = torch.from_numpy(model.token_map)[tokens].masked_fill(dead, _DEAD)
    lags = range(model.layout.max_order)
    lagged = torch.cat([hashing.lagged_ids(canonical, lag, pad_id=_GAP) for lag in lags])
    names, oldest_first = canonical_names(model), lagged.flip(0).T.tolist()
    orders = range(2, len(lagged) + 1)
    return np.asarray([[name_of(ids[-order:], names) for order in orders] for ids in oldest_first], object)
