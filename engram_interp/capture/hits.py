"""How often training saw an n-gram, as far as the rows it reads can tell."""

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

STRATA = ("0", "1–4", "5–49", "≥ 50")
"""Training hits of an n-gram, in four classes."""
_EDGES = (1, 5, 50)


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


def stratum(hits: Int64[np.ndarray, "*axes"]) -> Int64[np.ndarray, "*axes"]:
    """Index into `STRATA`."""
    return np.asarray(np.digitize(hits, _EDGES), np.int64)
