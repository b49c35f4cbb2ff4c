"""How often training saw an n-gram: by its own count where it is kept, else as far as rows can tell."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from engram_interp.capture.encode import Encoded
from engram_interp.capture.windows import lagged
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.counts import UNKNOWN

STRATA = ("0", "1–4", "5–49", "≥ 50")
"""How often training saw an n-gram, in four classes."""
_EDGES = (1, 5, 50)
BY_COUNT = "the n-gram's own count in the training text"
BY_ROWS = "training hits of its rows, an upper bound: the smallest over the heads"
NO_NGRAM = -2
"""Stands for the count where no n-gram ends: at the first token of a document."""


def ngram_hits(
    model: SubjectModel, layer: int, rows: Int64[Tensor, "*axes column"]
) -> Int64[np.ndarray, "*axes"]:
    """Training hits of the longest n-gram read: the smallest count over the heads of the highest order.

    A row counts every n-gram that lives in it, so each head's count is the n-gram's own or more, and the
    smallest is the closest bound from above (a count-min sketch).

    Args:
        model: A model whose training hits are known.
        layer: A memory layer.
        rows: Addresses that it read.

    Raises:
        InputError: If the hits or the layout are not known.
    """
    if layer not in model.hits or model.layout is None:
        raise InputError(
            f"{model.name} does not tell the training hits of layer {layer}, so nothing can be sorted by "
            "them; give wrap(…, layout=…, hits=…)."
        )
    counts: np.ndarray = model.hits[layer][rows[..., -model.layout.heads :].numpy()]
    return np.asarray(counts.min(axis=-1), np.int64)


def own_counts(
    model: SubjectModel, encoded: Encoded, *, order: int | None = None
) -> Int64[np.ndarray, "batch token"]:
    """How often training saw the n-gram that ends at each token: the n-gram itself, whoever shares its rows.

    Args:
        model: A model that may keep such counts (`SubjectModel.counts`).
        encoded: Prompts.
        order: Tokens of the n-gram, from 1; None for the longest, up to the layout's longest order, that
            lies whole in its document.

    Returns:
        Counts; `NO_NGRAM` where none ends or at padding, `UNKNOWN` where it was not counted.
    """
    found = np.full(encoded.tokens.shape, NO_NGRAM, np.int64)
    if model.token_map is None or model.layout is None:
        return np.where(encoded.mask.cpu().numpy(), UNKNOWN, found)
    orders = range(2, model.layout.max_order + 1) if order is None else (order,)
    seen = lagged(model, encoded.tokens, encoded.mask, lags=max(orders)).flip(0).numpy()
    for length in orders:
        ids = np.moveaxis(seen[-length:], 0, -1)
        whole = (ids >= 0).all(-1)
        kept = ids[whole]
        found[whole] = UNKNOWN if model.counts is None else model.counts.of(kept)
    return found


def strata_of(
    model: SubjectModel, encoded: Encoded, rows: Sequence[Int64[Tensor, "batch token column"]]
) -> tuple[Int64[np.ndarray, "layer batch token"], str]:
    """Index into `STRATA` of every token, and by which count; -1 where it has none.

    The n-gram's own count decides where every n-gram of the prompts was counted (it is then the same in
    every layer); otherwise its rows' training hits, for all of them alike.

    Args:
        model: The model.
        encoded: Prompts.
        rows: By memory layer, what they read.

    Returns:
        The strata, and what was counted in words: empty where neither is known (then all are -1).
    """
    own = own_counts(model, encoded)
    if not (own == UNKNOWN).any() and (own >= 0).any():
        return np.stack([np.where(own < 0, -1, stratum(own))] * len(rows)), BY_COUNT
    if model.layout is None or not all(layer in model.hits for layer in model.memory_layers):
        return np.full((len(rows), *own.shape), -1), ""
    each = zip(model.memory_layers, rows, strict=True)
    found = np.stack([stratum(ngram_hits(model, layer, read)) for layer, read in each])
    return np.where(encoded.mask.cpu().numpy(), found, -1), BY_ROWS


def stratum(hits: Int64[np.ndarray, "*axes"]) -> Int64[np.ndarray, "*axes"]:
    """Index into `STRATA`."""
    return np.asarray(np.digitize(hits, _EDGES), np.int64)
