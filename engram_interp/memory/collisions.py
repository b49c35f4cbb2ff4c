"""How n-grams share rows: load of every row, and n-grams that no head tells apart."""

import math

import numpy as np
from jaxtyping import Bool, Int64

from engram_interp.memory.index import NgramIndex

__all__ = ["expected_alone", "living_with", "loads", "rows_by_ngram", "shared_in_all_heads"]


def loads(
    index: NgramIndex, layer: int, order: int, head: int
) -> tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " row"]]:
    """Distinct n-grams, and their occurrences, in every row of a head."""
    distinct = np.diff(index.starts(layer, order, head).astype(np.int64))
    counts = np.asarray(index.counts(order))[index.grouped(layer, order, head)]
    total = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    starts = np.asarray(index.starts(layer, order, head))
    return distinct, total[starts[1:]] - total[starts[:-1]]


def rows_by_ngram(index: NgramIndex, layer: int, order: int, head: int) -> Int64[np.ndarray, " ngram"]:
    """The row of every n-gram of an order in one head, counted from the head's first row."""
    distinct, _ = loads(index, layer, order, head)
    out = np.empty(int(distinct.sum()), np.int64)
    out[index.grouped(layer, order, head)] = np.repeat(np.arange(len(distinct)), distinct)
    return out


def shared_in_all_heads(index: NgramIndex, layer: int, order: int) -> Bool[np.ndarray, " ngram"]:
    """Which n-grams of an order have all their rows in common with some other: the memory cannot tell them.

    Heads are taken one after the other, and only n-grams that still have a companion are followed.
    """
    left = np.arange(len(index.keys(order)))
    group = np.zeros(len(left), np.int64)  # n-grams of one group agree in every head so far
    for head in range(index.layout.heads):
        n_rows = len(index.starts(layer, order, head)) - 1
        rows = rows_by_ngram(index, layer, order, head)[left]
        _, group, size = np.unique(group * n_rows + rows, return_inverse=True, return_counts=True)
        several = size[group] > 1
        left, group = left[several], group[several]
    out = np.zeros(len(index.keys(order)), bool)
    out[left] = True
    return out


def living_with(
    index: NgramIndex, layer: int, rows: Int64[np.ndarray, " head"], *, order: int
) -> tuple[Int64[np.ndarray, " ngram"], Bool[np.ndarray, "ngram head"]]:
    """N-grams of an order that live in any of the rows, one a head, and in which of them.

    Args:
        index: The index.
        layer: Memory layer.
        rows: A row of each head, counted from the head's first row.
        order: Tokens of the n-grams.
    """
    found = [index.living_in(layer, order, head, row=int(row)) for head, row in enumerate(rows)]
    numbers = np.unique(np.concatenate(found))
    return numbers, np.stack([np.isin(numbers, one, assume_unique=True) for one in found], axis=1)


def expected_alone(n_ngrams: int, cells: float) -> float:
    """Chance that no other of `n_ngrams` falls into an n-gram's cell if each fell anywhere alike.

    ``(1 - 1/cells)^(n_ngrams - 1)``: the null of every collision count.

    Args:
        n_ngrams: Distinct n-grams, at least 1.
        cells: Rows of a head, at least 2; for all heads together, the product of their rows.
    """
    return math.exp((n_ngrams - 1) * math.log1p(-1 / cells))
