"""How often a training text has an n-gram: its own count, which a row that several share cannot tell.

A table holds the n-grams that were asked about, each order's sorted, as one int64 key an n-gram: its
canonical ids as the digits of a number, the first token first. On disk keys are differences, which
compress; an n-gram that is not in a table was not counted, which is not a count of 0.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Int64, Shaped

from engram_interp.errors import DamagedFileError, InputError

FILE = "ngram_counts.npz"
"""Its name beside a model's weights."""
UNKNOWN = -1
"""Stands for the count of an n-gram that was not counted."""
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class NgramCounts:
    """Counts of n-grams in a text, wherever they are kept.

    Attributes:
        of: Counts of n-grams, all of one order, as canonical ids, the first token first
            `[ngram, position]`; `UNKNOWN` where an n-gram was not counted.
        tokens: Tokens of the text.
        source: What was counted, in words.
        text_digest: Digest of the text.
    """

    of: Callable[[Int64[np.ndarray, "ngram position"]], Int64[np.ndarray, " ngram"]]
    tokens: int
    source: str
    text_digest: str


def keys_of(ids: Int64[np.ndarray, "ngram position"], *, n_ids: int) -> Int64[np.ndarray, " ngram"]:
    """N-grams as numbers whose digits are their canonical ids.

    Raises:
        InputError: If such a number has more than 63 bits.
    """
    order = ids.shape[1]
    if order * np.log2(max(n_ids, 2)) >= 63:
        raise InputError(
            f"{order}-grams of {n_ids:,} canonical ids do not fit 63 bits; index the text instead."
        )
    key = np.zeros(len(ids), np.int64)
    for position in range(order):
        key = key * n_ids + ids[:, position]
    return key


def tally(
    wanted: Mapping[int, Int64[np.ndarray, "_ngram _order"]], *, n_ids: int
) -> tuple[dict[int, Int64[np.ndarray, " _key"]], dict[int, Int64[np.ndarray, " _key"]]]:
    """Sorted distinct keys of the n-grams wanted by order, and as many counts of 0 for `add` to raise."""
    keys = {order: np.unique(keys_of(ids, n_ids=n_ids)) for order, ids in wanted.items()}
    return keys, {order: np.zeros(len(key), np.int64) for order, key in keys.items()}


def add(
    counts: Int64[np.ndarray, " ngram"],
    keys: Int64[np.ndarray, " ngram"],
    seen: Int64[np.ndarray, " occurrence"],
) -> None:
    """Raise the count of every key by how often it occurs in `seen`; others are passed over."""
    place = np.minimum(np.searchsorted(keys, seen), len(keys) - 1)
    counts += np.bincount(place[keys[place] == seen], minlength=len(keys))


def write(
    path: Path,
    keys: Mapping[int, Int64[np.ndarray, " _key"]],
    counts: Mapping[int, Int64[np.ndarray, " _key"]],
    *,
    n_ids: int,
    facts: Mapping[str, Any],
) -> None:
    """Write a table.

    Args:
        path: File.
        keys: Sorted distinct keys by order.
        counts: Their counts.
        n_ids: Number of canonical ids.
        facts: What was counted: at least ``tokens``, ``source``, ``text_sha256``, ``token_map_sha256``.
    """
    arrays: dict[str, np.ndarray] = {}
    for order, key in keys.items():
        arrays[f"keys{order}"] = np.diff(key, prepend=0)
        arrays[f"counts{order}"] = counts[order].astype(np.uint32)
    told = json.dumps({**facts, "format": _FORMAT, "n_ids": n_ids, "orders": sorted(keys)})
    np.savez_compressed(path, facts=np.frombuffer(told.encode(), np.uint8), **arrays)  # type: ignore[arg-type]  # taken for flags


def read(path: Path, *, token_map_digest: str) -> NgramCounts:
    """Read a table for a model with this token map.

    Raises:
        DamagedFileError: If the file cannot be read.
        InputError: If its n-grams are of another token map, or another version wrote it.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            facts = json.loads(file["facts"].tobytes())
            orders: Sequence[int] = facts["orders"]
            keys = {order: np.cumsum(file[f"keys{order}"], dtype=np.int64) for order in orders}
            counts = {order: file[f"counts{order}"].astype(np.int64) for order in orders}
            n_ids = int(facts["n_ids"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as cause:
        raise DamagedFileError(f"{path} cannot be read ({cause}); fetch the file again.") from cause
    if facts.get("format") != _FORMAT or facts.get("token_map_sha256") != token_map_digest:
        raise InputError(
            f"{path} counts n-grams of another token map than the model's, or is of another format; remove "
            "the file, or count again with scripts/count_ngrams.py."
        )

    return table(keys, counts, n_ids=n_ids, facts=facts)


def table(
    keys: Mapping[int, Int64[np.ndarray, " _key"]],
    counts: Mapping[int, Int64[np.ndarray, " _key"]],
    *,
    n_ids: int,
    facts: Mapping[str, Any],
) -> NgramCounts:
    """Counts kept in memory.

    Args:
        keys: Sorted distinct keys by order.
        counts: Their counts.
        n_ids: Number of canonical ids.
        facts: As for `write`; where ``complete`` is true, what is not in the table does not occur.
    """
    absent = 0 if facts.get("complete") else UNKNOWN

    def of(ids: Int64[np.ndarray, "ngram position"]) -> Int64[np.ndarray, " ngram"]:
        order = ids.shape[1]
        if order not in keys or not len(keys[order]):
            return np.full(len(ids), UNKNOWN, np.int64)
        asked = keys_of(ids, n_ids=n_ids)
        place = np.minimum(np.searchsorted(keys[order], asked), len(keys[order]) - 1)
        return np.where(keys[order][place] == asked, counts[order][place], absent)

    tokens, source, digest = int(facts["tokens"]), str(facts["source"]), str(facts["text_sha256"])
    return NgramCounts(of=of, tokens=tokens, source=source, text_digest=digest)


def distinct(ids: Shaped[np.ndarray, "_occurrence position"]) -> Int64[np.ndarray, "ngram position"]:
    """Distinct n-grams that lie whole in their document: none of their ids is negative."""
    whole = np.asarray(ids, np.int64)[(np.asarray(ids) >= 0).all(1)]
    return np.unique(whole, axis=0)
