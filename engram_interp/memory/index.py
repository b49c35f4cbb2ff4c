"""Which n-grams of a text live in which row: an index on disk, memory-mapped, built with numpy sorts.

Per order there are the distinct canonical n-grams, sorted, with their counts; per layer, order and head
the n-grams' numbers grouped by row, and where each row's group starts. An n-gram of order n is stored as
one int64, ``number of its last n-1 tokens · n_ids + its first token``, so that no vocabulary and no order
overflows and every n-gram is found by n-1 binary searches.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64, Shaped, UInt8, UInt32

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory.hashing import Layout

__all__ = ["NgramIndex", "Progress", "ages", "column_rows", "quiet", "read", "write"]

_CHUNK = 1 << 18
_LOW = np.uint64(2**32 - 1)
Progress = Callable[[float, str], None]


def quiet(_share: float, _text: str) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, kw_only=True)
class NgramIndex:
    """The n-grams of a text by order, and by layer, order and head the n-grams of every row.

    Attributes:
        folder: Where its arrays lie.
        layout: The hash layout it was built with.
        n_ids: Number of canonical ids.
    """

    folder: Path
    layout: Layout
    n_ids: int

    def keys(self, order: int) -> Int64[np.ndarray, " ngram"]:
        """The distinct n-grams of an order as sorted keys; an n-gram's number is its place here."""
        return _load(self.folder / f"order{order}.keys.npy")

    def counts(self, order: int) -> UInt32[np.ndarray, " ngram"]:
        """How often each n-gram of an order occurs in the text."""
        return _load(self.folder / f"order{order}.counts.npy")

    def starts(self, layer: int, order: int, head: int) -> UInt32[np.ndarray, " bound"]:
        """Where each row's group starts in `grouped`, and the end: one more than the head has rows."""
        return _load(self.folder / f"layer{layer}.order{order}.head{head}.starts.npy")

    def grouped(self, layer: int, order: int, head: int) -> UInt32[np.ndarray, " ngram"]:
        """Numbers of all n-grams of the order, grouped by their row of this head."""
        return _load(self.folder / f"layer{layer}.order{order}.head{head}.ngrams.npy")

    def living_in(self, layer: int, order: int, head: int, *, row: int) -> Int64[np.ndarray, " ngram"]:
        """Numbers of the n-grams in a row of a head, counted from the head's first row, in rising order.

        Raises:
            InputError: If the head has no such row.
        """
        starts = self.starts(layer, order, head)
        if not 0 <= row < len(starts) - 1:
            raise InputError(f"This head has the rows 0 … {len(starts) - 2}, got {row}.")
        return self.grouped(layer, order, head)[starts[row] : starts[row + 1]].astype(np.int64)

    def ids(self, order: int, numbers: Shaped[np.ndarray, " ngram"]) -> Int64[np.ndarray, "ngram position"]:
        """Canonical ids of n-grams, the first token first."""
        return _ids(self.keys, order, numbers, self.n_ids)

    def occurrences(self, ids: Int64[np.ndarray, "ngram position"]) -> Int64[np.ndarray, " ngram"]:
        """How often n-grams of one order, at least 2, occur in the text; 0 where it does not have them."""
        found, there = ids[:, -1].astype(np.int64), np.ones(len(ids), bool)
        for order in range(2, ids.shape[1] + 1):
            keys, asked = self.keys(order), found * self.n_ids + ids[:, -order]
            place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
            there &= keys[place] == asked
            found = place
        return np.where(there, self.counts(ids.shape[1])[found], 0).astype(np.int64)

    def number(self, ids: Int64[np.ndarray, " position"]) -> int | None:
        """The number of an n-gram, or None where the text does not have it."""
        found = int(ids[-1])
        for order in range(2, len(ids) + 1):
            keys, key = self.keys(order), found * self.n_ids + int(ids[-order])
            found = int(np.searchsorted(keys, np.int64(key)))
            if found == len(keys) or int(keys[found]) != key:
                return None
        return found


def _load(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as cause:
        raise DamagedFileError(
            f"{path} is missing or cut short ({cause}); build the index again in another directory."
        ) from cause
    return array


def _ids(
    keys: Callable[[int], np.ndarray], order: int, numbers: np.ndarray, n_ids: int
) -> Int64[np.ndarray, "ngram position"]:
    if order == 1:
        return np.asarray(numbers, np.int64)[:, None]
    rest, first = np.divmod(keys(order)[numbers], n_ids)
    return np.concatenate([first[:, None], _ids(keys, order - 1, rest, n_ids)], axis=1)


def ages(opens: Shaped[np.ndarray, " token"], *, most: int) -> UInt8[np.ndarray, " token"]:
    """How many tokens of its own segment precede each token, at most `most`.

    Args:
        opens: True at the first token of every segment, the stream's first token included.
        most: Largest age that is told apart, below 256.
    """
    out = np.zeros(len(opens), np.uint8)
    closed = ~opens
    for age in range(1, most + 1):
        # A token is as old as its predecessor, and one more, unless it opens a segment.
        out[1:][closed[1:] & (out[:-1] == age - 1)] = age
    return out


def column_rows(
    layout: Layout, place: int, order: int, head: int, ids: Int64[np.ndarray, "ngram position"]
) -> Int64[np.ndarray, " ngram"]:
    """Rows of n-grams in one head, counted from the head's first row.

    Args:
        layout: The hash layout.
        place: The memory layer's place in the layout.
        order: Tokens of the n-grams.
        head: The head.
        ids: Canonical ids, the first token first.
    """
    # As hashing.addresses, without its boundaries: an index has millions of whole n-grams to hash.
    multipliers = layout.multipliers[place]
    mixed = ids[:, -1] * multipliers[0]
    for lag in range(1, order):
        mixed ^= ids[:, -1 - lag] * multipliers[lag]
    return np.asarray(mixed % layout.primes[place, order - 2, head], np.int64)


def write(
    folder: Path,
    ids: Int[np.ndarray, " token"],
    age: UInt8[np.ndarray, " token"],
    *,
    layout: Layout,
    n_ids: int,
    progress: Progress = quiet,
) -> NgramIndex:
    """Build the index of a stream of canonical ids in an empty folder.

    Only n-grams that lie whole inside a segment count. Memory: about 40 bytes a token.

    Args:
        folder: Where the arrays go.
        ids: Canonical ids.
        age: What `ages` gives, up to the layout's longest order less one.
        layout: The hash layout.
        n_ids: Number of canonical ids.
        progress: Called with the share done and what is being done.

    Raises:
        InputError: If no n-gram of some order is in the stream, or there are more than an index can number.
    """
    if len(ids) >= 2**32:
        raise InputError(f"An index numbers fewer than 2³² n-grams, and the text has {len(ids):,} tokens.")
    index = NgramIndex(folder=folder, layout=layout, n_ids=n_ids)
    steps = (layout.max_order - 1) * (1 + len(layout.layer_ids) * layout.heads)
    done = 0
    newest = ids.astype(np.uint32)  # by token, the number of the longest n-gram counted so far
    for order in range(2, layout.max_order + 1):
        progress(done / steps, f"counting {order}-grams")
        _count(index, order, ids, newest, age)
        done += 1
        for place, layer in enumerate(layout.layer_ids):
            for head in range(layout.heads):
                progress(done / steps, f"sorting {order}-grams into layer {layer}, head {head}")
                _group(index, place, order, head)
                done += 1
    return index


def _count(index: NgramIndex, order: int, ids: np.ndarray, newest: np.ndarray, age: np.ndarray) -> None:
    """Write an order's keys and counts, and put the n-grams' numbers into `newest`."""
    keys = np.concatenate([key for _, key in _keys(ids, newest, age, order, index.n_ids)])
    if not len(keys):
        raise InputError(f"The text has no {order} tokens in a row within a document; give more text.")
    keys.sort()
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(first, append=len(keys)).astype(np.uint32)
    distinct = keys[first]
    del keys, first
    np.save(index.folder / f"order{order}.keys.npy", distinct)
    np.save(index.folder / f"order{order}.counts.npy", counts)
    if order < index.layout.max_order:
        for at, key in _keys(ids, newest, age, order, index.n_ids):
            newest[at] = np.searchsorted(distinct, key)


def _keys(
    ids: np.ndarray, newest: np.ndarray, age: np.ndarray, order: int, n_ids: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions where an n-gram of this order ends, and its key, chunk by chunk."""
    for start in range(0, len(ids), _CHUNK):
        at = start + np.flatnonzero(age[start : start + _CHUNK] >= order - 1)
        yield at, newest[at].astype(np.int64) * n_ids + ids[at - order + 1]


def _group(index: NgramIndex, place: int, order: int, head: int) -> None:
    """Write the n-grams' numbers of one head by row: rows in the upper, numbers in the lower half, sorted."""
    total = len(index.keys(order))
    packed = np.empty(total, np.uint64)
    for start in range(0, total, _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, total))
        rows = column_rows(index.layout, place, order, head, index.ids(order, numbers))
        packed[numbers] = (rows.astype(np.uint64) << np.uint64(32)) | numbers.astype(np.uint64)
    packed.sort()
    n_rows = int(index.layout.primes[place, order - 2, head])
    bounds = np.arange(n_rows + 1, dtype=np.uint64) << np.uint64(32)
    name = f"layer{index.layout.layer_ids[place]}.order{order}.head{head}"
    np.save(index.folder / f"{name}.starts.npy", np.searchsorted(packed, bounds).astype(np.uint32))
    np.save(index.folder / f"{name}.ngrams.npy", (packed & _LOW).astype(np.uint32))


def read(folder: Path, *, layout: Layout, n_ids: int) -> NgramIndex:
    """The index that `write` made in a folder, with this layout and number of ids.

    Raises:
        DamagedFileError: If a file is missing, cut short, or of another size than the others want.
    """
    index = NgramIndex(folder=folder, layout=layout, n_ids=n_ids)
    for order in range(2, layout.max_order + 1):
        total = len(index.keys(order))
        wrong = len(index.counts(order)) != total
        for place, layer in enumerate(layout.layer_ids):
            for head in range(layout.heads):
                starts, grouped = index.starts(layer, order, head), index.grouped(layer, order, head)
                rows = int(layout.primes[place, order - 2, head])
                wrong |= len(grouped) != total or len(starts) != rows + 1 or int(starts[-1]) != total
        if wrong:
            raise DamagedFileError(f"The arrays of {folder} do not fit each other; build the index again.")
    return index
