"""Which n-gram ends at a token: canonical ids looked back on inside a document."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory import hashing

NOTHING = -2
"""No canonical id: the window may not look there."""


def lagged(
    model: SubjectModel,
    tokens: Int64[Tensor, "batch token"],
    mask: Bool[Tensor, "batch token"] | None = None,
    *,
    lags: int | None = None,
) -> Int64[Tensor, "lag batch token"]:
    """Canonical id of every token and of those before it, `NOTHING` where the window may not look.

    Args:
        model: A model whose token map is known.
        tokens: Token ids.
        mask: False at padding; None for none.
        lags: How many, the token itself first; None for the layout's longest order.

    Raises:
        InputError: If the token map, or without `lags` the layout, is not known.
    """
    if model.token_map is None or (lags is None and model.layout is None):
        raise InputError(f"{model.name} does not tell which n-grams it reads; give wrap(…, layout=…).")
    count = lags or (model.layout.max_order if model.layout is not None else 1)
    ids = tokens.cpu()
    canonical = torch.from_numpy(model.token_map)[ids]
    if mask is not None:
        canonical = canonical.masked_fill(~mask.cpu(), hashing.DEAD)
    canonical = canonical.masked_fill(torch.isin(ids, torch.tensor(model.dead_ids).long()), hashing.DEAD)
    segments = hashing.segments(ids, separator_id=model.separator_id, boundary=model.boundary)
    return torch.stack(
        [hashing.lagged_ids(canonical, lag, pad_id=NOTHING, segment_ids=segments) for lag in range(count)]
    )
