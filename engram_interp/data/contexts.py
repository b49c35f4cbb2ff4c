"""How often a text has the tokens that end at a place: strata of held-out text, the same for every model."""

import numpy as np
from jaxtyping import Int64, UInt32

from engram_interp.errors import InputError


def context_counts(
    stream: UInt32[np.ndarray, " token"],
    text: UInt32[np.ndarray, " token"],
    *,
    order: int,
    separator_id: int,
    d_vocab: int,
) -> Int64[np.ndarray, " token"]:
    """Occurrences in a text of the `order` tokens that end at each token of a stream.

    Tokens are compared as they are, before any compression, so that the counts are the same for every model
    of the tokenizer, with a memory or without.

    Args:
        stream: Token ids, every document opened by the separator.
        text: Token ids of the text to count in, in the same form.
        order: Tokens of a context, at least 1.
        separator_id: Id that opens every document.
        d_vocab: Token ids in all.

    Returns:
        Counts; -1 where fewer than `order` tokens lie in the document.

    Raises:
        InputError: If contexts do not fit 63 bits.
    """
    if order < 1 or order * np.log2(max(d_vocab, 2)) >= 63:
        raise InputError(
            f"Contexts want 1 token or more whose ids fit 63 bits; got {order} of {d_vocab:,} ids."
        )
    wanted, there = _keys(stream, order, d_vocab)
    seen, _ = _keys(text, order, d_vocab)
    keys, counts = np.unique(seen, return_counts=True)
    found = np.full(len(stream), -1, np.int64)
    if not len(keys):
        found[there] = 0
        return found
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found[there] = np.where(keys[place] == wanted, counts[place], 0)
    found[_opens(stream, order, separator_id)] = -1
    return found


def _keys(
    ids: UInt32[np.ndarray, " token"], order: int, d_vocab: int
) -> tuple[Int64[np.ndarray, " context"], slice]:
    """Contexts as numbers, and where they end."""
    count = max(len(ids) - order + 1, 0)
    key = np.zeros(count, np.int64)
    for lag in range(order):
        key = key * d_vocab + ids[lag : lag + count].astype(np.int64)
    return key, slice(order - 1, order - 1 + count)


def _opens(ids: UInt32[np.ndarray, " token"], order: int, separator_id: int) -> Int64[np.ndarray, " token"]:
    """Places whose context would reach over the separator that opens their document."""
    opens = np.flatnonzero(ids == separator_id)
    reach = (opens[:, None] + np.arange(order - 1)).ravel()
    return reach[reach < len(ids)]
