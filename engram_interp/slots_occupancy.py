"""What an index of a reference text says: who lives in a row, who collides with whom, how full tables are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engram_interp.capture.memories import table_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory import collisions
from engram_interp.memory.index import NgramIndex, column_rows
from engram_interp.results import SlotCensus, SlotColliders, SlotLoad, SlotOccupants
from engram_interp.slots_index import SlotIndex, name_of

__all__ = ["census", "colliders", "load", "occupants"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_STRATA = ("0", "1–4", "5–49", "≥ 50")
_EDGES = (1, 5, 50)
_CENSUS = 20_000  # n-grams that one small file holds


def _place(model: SubjectModel, index: SlotIndex, layer: int) -> int:
    index.check(model)
    layers = index.ngrams.layout.layer_ids
    if layer not in layers:
        raise InputError(
            f"Layer {layer} has no memory; layers {', '.join(map(str, layers))} have one (counted from 0)."
        )
    return layers.index(layer)


def occupants(
    model: SubjectModel, index: SlotIndex, *, layer: int, address: int, most: int = 50
) -> SlotOccupants:
    """The n-grams of the reference text that live in one row.

    Args:
        model: A model with the index's addresses.
        index: The index.
        layer: A memory layer, counted from 0.
        address: Row of the layer's table, offsets included, as `slots.lookup` gives it.
        most: N-grams that are listed, the most frequent; all count in the totals.

    Raises:
        InputError: If the layer has no memory, the table no such row, or the index is of other addresses.
    """
    layout, place = index.ngrams.layout, _place(model, index, layer)
    if not 0 <= address < layout.rows[place]:
        raise InputError(
            f"The table of layer {layer} has the rows 0 … {layout.rows[place] - 1}, got {address}."
        )
    column = int(np.searchsorted(layout.offsets[place], address, side="right")) - 1
    order, head = 2 + column // layout.heads, column % layout.heads
    row = address - int(layout.offsets[place, column])
    numbers = index.ngrams.living_in(layer, order, head, row=row)
    counts = index.ngrams.counts(order)[numbers].astype(np.int64)
    first = np.argsort(-counts, kind="stable")[:most]
    return SlotOccupants.from_arrays(
        coords={},
        variables={
            "ngram": np.asarray(index.named(order, numbers[first]), object),
            "count": counts[first],
            "layer": layer,
            "address": address,
            "order": order,
            "head": head,
            "ngrams": len(numbers),
            "occurrences": int(counts.sum()),
        },
        provenance=index.provenance(model),
    )


def colliders(
    model: SubjectModel, index: SlotIndex, ngram: str | Sequence[int], *, layer: int, most: int = 50
) -> SlotColliders:
    """The other n-grams of the reference text that share rows with one n-gram, in how many heads.

    Args:
        model: A model with the index's addresses.
        index: The index.
        ngram: A text of as many tokens as one of the memory's orders, or its token ids. The reference text
            need not hold it.
        layer: A memory layer, counted from 0.
        most: N-grams that are listed, those that share most heads first; all count in the totals.

    Raises:
        InputError: If the layer has no memory, the text has another number of tokens, or the index is of
            other addresses.
    """
    place, layout = _place(model, index, layer), index.ngrams.layout
    ids = _canonical(model, ngram, longest=layout.max_order)
    order = len(ids)
    heads = range(layout.heads)
    rows = np.asarray([column_rows(layout, place, order, head, ids[None])[0] for head in heads], np.int64)
    numbers, shared = collisions.living_with(index.ngrams, layer, rows, order=order)
    own = index.ngrams.number(ids)
    others = numbers != (-1 if own is None else own)
    numbers, shared = numbers[others], shared[others]
    counts, in_heads = index.ngrams.counts(order)[numbers].astype(np.int64), shared.sum(1)
    first = np.lexsort((-counts, -in_heads))[:most]
    columns = (order - 2) * layout.heads + np.arange(layout.heads)
    return SlotColliders.from_arrays(
        coords={"heads_shared": np.arange(1, layout.heads + 1)},
        variables={
            "ngram": np.asarray(index.named(order, numbers[first]), object),
            "count": counts[first],
            "shared": shared[first],
            "address": rows + layout.offsets[place, columns],
            "colliders": [int((in_heads == n + 1).sum()) for n in heads],
            "mass": [int(counts[in_heads == n + 1].sum()) for n in heads],
            "own_count": 0 if own is None else int(index.ngrams.counts(order)[own]),
        },
        provenance=index.provenance(model) | {"layer": layer, "ngram": name_of(ids.tolist(), index.names)},
    )


def census(model: SubjectModel, index: SlotIndex) -> SlotCensus:
    """Every n-gram of a small reference text with its rows, for pages and bundles that have no model.

    Args:
        model: A model with the index's addresses.
        index: The index.

    Raises:
        InputError: If the text has more than 20,000 distinct n-grams, or the index is of other addresses.
    """
    index.check(model)
    ngrams, layout = index.ngrams, index.ngrams.layout
    numbers = {order: np.arange(len(ngrams.keys(order))) for order in range(2, layout.max_order + 1)}
    total = sum(map(len, numbers.values()))
    if total > _CENSUS:
        raise InputError(
            f"A census holds at most {_CENSUS:,} n-grams, this text has {total:,}; ask the index itself with "
            "occupants and colliders."
        )
    address = np.concatenate(
        [
            [
                [
                    column_rows(layout, place, order, head, ngrams.ids(order, every))
                    + layout.offsets[place, (order - 2) * layout.heads + head]
                    for head in range(layout.heads)
                ]
                for place in range(len(layout.layer_ids))
            ]
            for order, every in numbers.items()
        ],
        axis=-1,
    )
    return SlotCensus.from_arrays(
        coords={"layer": np.asarray(layout.layer_ids)},
        variables={
            "ngram": np.asarray([name for o, n in numbers.items() for name in index.named(o, n)], object),
            "order": np.repeat(list(numbers), [len(n) for n in numbers.values()]),
            "count": np.concatenate([ngrams.counts(o)[n].astype(np.int64) for o, n in numbers.items()]),
            "address": address,
        },
        provenance=index.provenance(model),
    )


def _canonical(model: SubjectModel, ngram: str | Sequence[int], *, longest: int) -> np.ndarray:
    text = isinstance(ngram, str)
    tokens = model.tokenizer.encode(ngram, add_special_tokens=False).ids if text else [int(i) for i in ngram]
    if not 2 <= len(tokens) <= longest:
        raise InputError(
            f"The memory looks up 2 to {longest} tokens in a row, got {len(tokens)} ({ngram!r}); give a "
            "text of so many tokens, or token ids."
        )
    if min(tokens) < 0 or max(tokens) >= model.d_vocab:
        raise InputError(
            f"Token ids want to lie in 0 … {model.d_vocab - 1} for {model.name}, got {min(tokens)} … "
            f"{max(tokens)}."
        )
    assert model.token_map is not None
    return np.asarray(model.token_map[tokens], np.int64)


def load(model: SubjectModel, index: SlotIndex) -> SlotLoad:
    """How the reference text fills the tables: load, collisions, unused rows, norms and rank of rows.

    Args:
        model: A model with the index's addresses.
        index: The index.

    Returns:
        Per memory layer, order and head, beside what n-grams spread evenly over the rows would give.
        Norms and ranks are missing where the memory's table cannot be reached.

    Raises:
        InputError: If the index is of other addresses than the model's.
    """
    index.check(model)
    ngrams, layout = index.ngrams, index.ngrams.layout
    orders = np.arange(2, layout.max_order + 1)
    columns = [(int(order), head) for order in orders for head in range(layout.heads)]
    cells: dict[str, list[list[Any]]] = {}
    for place, layer in enumerate(layout.layer_ids):
        weight = table_of(model, layer)
        table = None if weight is None else weight.float().numpy()
        for column, (order, head) in enumerate(columns):
            offset, size = int(layout.offsets[place, column]), int(layout.primes[place, order - 2, head])
            rows = None if table is None else table[offset : offset + size]
            for name, value in _column(ngrams, layer, order, head, rows).items():
                cells.setdefault(name, [[] for _ in layout.layer_ids])[place].append(value)
    every = [
        [_in_all_heads(ngrams, place, int(order)) for order in orders] for place in range(len(cells["rows"]))
    ]
    names = ("sharing_all", "sharing_all_mass", "sharing_all_null")
    return SlotLoad.from_arrays(
        coords={
            "layer": list(layout.layer_ids),
            "order_index": orders,
            "quantile": list(_QUANTILES),
            "stratum": list(_STRATA),
        },
        variables={
            **{name: np.asarray(values) for name, values in cells.items()},
            **{name: np.asarray(every)[..., i] for i, name in enumerate(names)},
            "order": [order for order, _ in columns],
            "head": [head for _, head in columns],
            "ngrams": [len(ngrams.keys(int(order))) for order in orders],
            "occurrences": [int(ngrams.counts(int(order)).sum()) for order in orders],
        },
        provenance=index.provenance(model),
        missing={
            "norm_by_reads": "no row is read so often, or the memory's table cannot be reached",
            "effective_rank": "no row is used or all are zero, or the memory's table cannot be reached",
        },
    )


def _column(ngrams: NgramIndex, layer: int, order: int, head: int, rows: np.ndarray | None) -> dict[str, Any]:
    """Everything that is told of one head of one order."""
    from scipy import stats  # a third of a second that a look-up need not wait for

    distinct, reads = collisions.loads(ngrams, layer, order, head)
    total, size = int(distinct.sum()), len(distinct)
    company = distinct > 1
    even = stats.binom(total, 1 / size)
    stratum = np.digitize(reads, _EDGES)
    norms = None if rows is None else np.linalg.norm(rows, axis=1)
    return {
        "rows": size,
        "unused": float((distinct == 0).mean()),
        "unused_null": float(even.pmf(0)),
        "sharing": float(distinct[company].sum() / total),
        "sharing_mass": float(reads[company].sum() / reads.sum()),
        "sharing_null": 1 - collisions.expected_alone(total, float(size)),
        "pairs": int((distinct * (distinct - 1) // 2).sum()),
        "load": np.quantile(distinct, _QUANTILES, method="inverted_cdf").astype(float),
        # For the fullest of all rows the median of a maximum: rows are nearly independent.
        "load_null": even.ppf([0.5 ** (1 / size) if q == 1 else q for q in _QUANTILES]),
        "norm_by_reads": [
            np.nan if norms is None or not (stratum == i).any() else float(norms[stratum == i].mean())
            for i in range(len(_STRATA))
        ],
        "rows_by_reads": np.bincount(stratum, minlength=len(_STRATA)),
        "effective_rank": np.nan if rows is None else effective_rank(rows[distinct > 0]),
    }


def effective_rank(rows: np.ndarray) -> float:
    """``exp`` of the entropy of the singular values over their sum (Roy & Vetterli 2007); 1 … d_row."""
    squared = np.linalg.eigvalsh(rows.T.astype(np.float64) @ rows)
    singular = np.sqrt(squared[squared > squared.max(initial=0.0) * 1e-12])
    if not len(singular):
        return float("nan")
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _in_all_heads(ngrams: NgramIndex, place: int, order: int) -> tuple[float, float, float]:
    """Share of n-grams, and of occurrences, with company in all heads; share of n-grams if spread evenly."""
    together = collisions.shared_in_all_heads(ngrams, ngrams.layout.layer_ids[place], order)
    counts = np.asarray(ngrams.counts(order), np.int64)
    cells = float(ngrams.layout.primes[place, order - 2].astype(np.float64).prod())
    company = 1 - collisions.expected_alone(len(counts), cells)
    return float(together.mean()), float(counts[together].sum() / counts.sum()), company
