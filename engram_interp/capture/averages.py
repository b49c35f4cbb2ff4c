"""What a memory layer gives on average: the mean gate over texts, the mean row of every head."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.capture.memories import table_of
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.prompts import load
from engram_interp.errors import InputError

REFERENCE = 16
"""Packaged passages over which gates are averaged where no texts are given."""


def mean_gates(model: SubjectModel, texts: Any = None) -> dict[int, Float[Tensor, " stream"]]:
    """Mean gate of every memory layer and stream over the tokens of texts, the separator left out.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids; None for the first 16 packaged passages.
    """
    sites = {layer: f"blocks.{layer}.engram.hook_gate" for layer in model.memory_layers}
    given = load("entities").head(REFERENCE) if texts is None else texts
    rec = record(model, given, sites=list(sites.values()), logits=False)
    counted = rec.mask if model.separator_id is None else rec.mask & (rec.tokens != model.separator_id)
    if not bool(counted.any()):
        raise InputError("The mean gate wants reference texts with at least one token.")
    return {layer: rec[site][counted].double().mean(0) for layer, site in sites.items()}


def mean_rows(model: SubjectModel, layer: int) -> Float[Tensor, "column d_row"]:
    """The mean row of every column's head, each row weighted by how often training read it.

    Args:
        model: A model with a memory, its layout and its training hits.
        layer: A memory layer.

    Raises:
        InputError: If the hits, the layout or the table are not known, or a head was never read.
    """
    if layer not in model.hits:
        raise InputError(
            f"The hit-weighted mean row wants the training hits of layer {layer}, which {model.name} does "
            "not tell; give wrap(…, hits=…), or use rows_zero or rows_random."
        )
    if model.layout is None:
        raise InputError(f"{model.name} has no hash layout, so its rows have no heads; pass layout=….")
    table = table_of(model, layer)
    if table is None:
        raise InputError(
            f"The table of layer {layer} of {model.name} was not found, so it has no mean row; use "
            "rows_zero or rows_random."
        )
    index = model.layout.layer_ids.index(layer)
    sizes = model.layout.primes[index].reshape(-1).tolist()
    hits = torch.from_numpy(model.hits[layer]).double()
    means = []
    for column, (rows, weights) in enumerate(
        zip(table.split(sizes), hits[: len(table)].split(sizes), strict=True)
    ):
        total = weights.sum()
        if total == 0:
            raise InputError(
                f"No row of column {column} of layer {layer} was read in training, so it has no mean row; "
                "leave its head out."
            )
        means.append((weights[:, None] * rows.double()).sum(0) / total)
    return torch.stack(means)
