"""Which slot did a token read? Addresses, the n-grams behind them, and what each read contributes."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.capture import windows
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.hits import own_counts
from engram_interp.capture.memories import memory_of
from engram_interp.capture.record import record
from engram_interp.capture.windows import NOTHING
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.provenance import describe
from engram_interp.results import SlotLookup
from engram_interp.slots_addresses import addresses
from engram_interp.slots_index import canonical_names, index, name_of, open_index, refuse_without_memory
from engram_interp.slots_occupancy import census, colliders, load, occupants
from engram_interp.slots_rows import trained_rows

__all__ = [
    "addresses",
    "census",
    "colliders",
    "index",
    "load",
    "lookup",
    "occupants",
    "open_index",
    "trained_rows",
    "value_shares",
]


def value_shares(
    memory: Float[Tensor, "*token column d_row"],
    weight: Float[Tensor, "d_model d_memory"],
    bias: Float[Tensor, " d_model"] | None,
) -> tuple[Float[np.ndarray, "*token column"], Float[np.ndarray, " *token"]]:
    """Exact share of each column, and of the bias, in the memory's value vector.

    The value is linear in the rows, v = Σ_c W_c e_c + b, so the share ⟨W_c e_c, v⟩ / |v|² of a column is
    exact; shares are signed and sum to 1 with the bias's. Computed in float64.

    Args:
        memory: Rows read.
        weight: Value projection, its input the columns' rows side by side.
        bias: Its bias, or None.

    Returns:
        Shares of the columns, and of the bias (0 without one); NaN where the value is zero.
    """
    columns, d_row = memory.shape[-2:]
    blocks = weight.double().unflatten(-1, (columns, d_row))
    parts = torch.einsum("...cr,mcr->...cm", memory.double(), blocks)
    value = parts.sum(-2) if bias is None else parts.sum(-2) + bias.double()
    square = value.square().sum(-1)
    shares = torch.einsum("...cm,...m->...c", parts, value) / square[..., None]
    constant = torch.zeros_like(value) if bias is None else value * bias.double()
    constant = constant.sum(-1) / square
    return shares.numpy(), constant.numpy()


def lookup(model: SubjectModel, text: Any) -> SlotLookup:
    """For every token of a text: the canonical n-grams, their table addresses, and what they gave.

    Args:
        model: A model with a memory.
        text: One prompt, or token ids.

    Returns:
        Per token, memory layer and column: the address (absolute row, offsets included), the row's
        norm, its signed share of the value vector, and its hits in training where the checkpoint tells;
        per token and order how often training saw the n-gram itself, where that was counted.

    Raises:
        InputError: If the model has no memory, no hash layout is known, or the rows it read are not those
            that the layout, token map and boundary give.
    """
    layout = refuse_without_memory(model)
    encoded = encode(model, text)
    if len(encoded) != 1:
        raise InputError(f"lookup reads one prompt at a time, got {len(encoded)}; call it for each.")
    sites = [
        f"blocks.{layer}.engram.hook_{s}" for layer in model.memory_layers for s in ("rows", "memory", "gate")
    ]
    rec = record(model, encoded, sites=sites, logits=False)

    def stacked(name: str) -> Tensor:
        return torch.stack(
            [rec[f"blocks.{layer}.engram.hook_{name}"][0] for layer in model.memory_layers], dim=1
        )

    rows, memory, gate = stacked("rows"), stacked("memory"), stacked("gate")
    shares, constants = zip(
        *(_shares(model, layer, memory[:, i]) for i, layer in enumerate(model.memory_layers)), strict=True
    )
    lagged = windows.lagged(model, rec.encoded.tokens)[:, 0]
    _check_addresses(model, lagged, rows)
    hits = _hits(model, rows.numpy())
    return SlotLookup.from_arrays(
        coords={"layer": list(model.memory_layers), "order_index": np.arange(2, layout.max_order + 1)},
        variables={
            "address": rows.numpy(),
            "row_norm": memory.double().norm(dim=-1).numpy(),
            "share": np.stack(shares, axis=1),
            "share_bias": np.stack(constants, axis=1),
            "hits": hits,
            "gate": gate.double().numpy(),
            "order": np.repeat(np.arange(2, layout.max_order + 1), layout.heads),
            "head": np.tile(np.arange(layout.heads), layout.max_order - 1),
            "ngram": _ngrams(model, lagged),
            "count": _counts(model, rec.encoded),
            "token_id": rec.tokens[0].numpy(),
            "token_text": np.asarray([model.token_text(int(i)) for i in rec.tokens[0]], dtype=object),
        },
        provenance=describe(model, rec.encoded),
        missing=_reasons(model, hits, np.stack(constants)),
    )


def _counts(model: SubjectModel, encoded: Encoded) -> np.ndarray:
    """How often training saw the n-gram of each order that ends at each token, NaN where not known."""
    assert model.layout is not None
    orders = range(2, model.layout.max_order + 1)
    found = np.stack([own_counts(model, encoded, order=order)[0] for order in orders], axis=1)
    return np.where(found < 0, np.nan, found)


def _reasons(model: SubjectModel, hits: np.ndarray, share_bias: np.ndarray) -> dict[str, str]:
    reasons = {"hits": "the checkpoint does not tell them"} if np.isnan(hits).any() else {}
    if np.isnan(share_bias).any():
        foreign = not all(hasattr(memory_of(model, layer), "value") for layer in model.memory_layers)
        why = (
            "the memory has no linear `value`" if foreign else "the value is zero: nothing has a share in it"
        )
        reasons |= dict.fromkeys(("share", "share_bias"), why)
    return reasons


def _shares(model: SubjectModel, layer: int, memory: Tensor) -> tuple[np.ndarray, np.ndarray]:
    value = getattr(memory_of(model, layer), "value", None)
    if value is None:
        return np.full(memory.shape[:-1], np.nan), np.full(memory.shape[:-2], np.nan)
    bias = None if value.bias is None else value.bias.detach().cpu()
    return value_shares(memory, value.weight.detach().cpu(), bias)


def _hits(model: SubjectModel, rows: np.ndarray) -> np.ndarray:
    out = np.full(rows.shape, np.nan)
    for place, layer in enumerate(model.memory_layers):
        if layer in model.hits:
            out[:, place] = model.hits[layer][rows[:, place]]
    return out


def _check_addresses(model: SubjectModel, lagged: Tensor, rows: Tensor) -> None:
    """Refuse to name n-grams that the model did not look up.

    Only windows that reach no boundary are compared: what stands for "nothing there" is not known of
    every model.
    """
    assert model.layout is not None
    whole = (lagged != NOTHING).all(0)
    expected = hashing.addresses(lagged.flip(0).T.clamp_min(0), model.layout, pad_id=0)[:, -1]
    layers = [model.layout.layer_ids.index(layer) for layer in model.memory_layers]
    if not bool((expected[:, layers] == rows)[whole].all()):
        raise InputError(
            f"{model.name} did not read the rows that its layout, token map and boundary give for this text, "
            "so n-grams shown beside them would be false. Perhaps an ablation of rows is active: leave its "
            "block. Otherwise give wrap the layout=, token_map= and boundary= it has."
        )


def _ngrams(model: SubjectModel, lagged: Tensor) -> np.ndarray:
    names, oldest_first = canonical_names(model), lagged.flip(0).T.tolist()
    orders = range(2, len(lagged) + 1)
    return np.asarray([[name_of(ids[-order:], names) for order in orders] for ids in oldest_first], object)
