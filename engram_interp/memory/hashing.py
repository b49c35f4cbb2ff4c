"""Where an n-gram lives: hash layouts and the addresses they give (paper section 2.2, eq. 1).

For order n and head k the row is ``(xor over lags i < n of id[t-i] * multiplier[i]) mod prime[n, k]``
plus the head's offset. Products wrap around in int64 and the modulus is the non-negative one, which
is what numpy's and torch's ``%`` give. Every function here is exact: a wrong hash loads cleanly and
reads garbage, so nothing is approximated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.memory.compression import identity_map, token_map
from engram_interp.memory.primes import nth_prime_after, primes_from

__all__ = ["DEAD", "Boundary", "Layout", "addresses", "identity_map", "lagged_ids", "segments", "token_map"]

Boundary = Literal["none", "separator_starts", "separator_ends"]
"""Where n-gram windows stop (see `segments`)."""

DEAD = -1
"""Canonical id of a position the memory must not see: padding, or a masked token."""

_LARGEST = 2**63 - 1
_LAYER_STRIDE = 10_007
_SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK64 = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The tables' address book: prime row counts, offsets and multipliers of every memory layer.

    Attributes:
        primes: Rows of each head, int64 `[layer, order, head]`; orders run 2, 3, … max_order.
        multipliers: Odd factors by lag, int64 `[layer, lag]` with at least max_order lags.
        layer_ids: The model layers (counted from 0) the rows of the arrays belong to.

    Raises:
        InputError: If the arrays do not fit together.
    """

    primes: Int64[np.ndarray, "layer order head"]
    multipliers: Int64[np.ndarray, "layer lag"]
    layer_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        primes, multipliers = (np.asarray(a, np.int64) for a in (self.primes, self.multipliers))
        object.__setattr__(self, "primes", primes)
        object.__setattr__(self, "multipliers", multipliers)
        object.__setattr__(self, "layer_ids", tuple(self.layer_ids) or tuple(range(len(primes))))
        if primes.ndim != 3 or multipliers.ndim != 2 or len(primes) != len(multipliers):
            raise InputError(
                "A hash layout wants primes [layer, order, head] and multipliers [layer, lag] for the same "
                f"layers, got shapes {primes.shape} and {multipliers.shape}."
            )
        if len(self.layer_ids) != len(primes) or multipliers.shape[1] < self.max_order:
            raise InputError(
                f"A hash layout of {len(primes)} layers up to order {self.max_order} wants as many layer "
                f"ids and at least {self.max_order} multipliers a layer, got layer ids {self.layer_ids} "
                f"and {multipliers.shape[1]} multipliers."
            )
        if (primes < 1).any():
            raise InputError("Every head of a hash layout needs at least one row.")

    @property
    def max_order(self) -> int:
        """Longest n-gram hashed."""
        return int(self.primes.shape[1]) + 1

    @property
    def heads(self) -> int:
        """Hash heads per order."""
        return int(self.primes.shape[2])

    @property
    def columns(self) -> int:
        """Rows read per token and layer: orders × heads, order-major."""
        return int(self.primes.shape[1] * self.primes.shape[2])

    @property
    def rows(self) -> Int64[np.ndarray, " layer"]:
        """Rows of each layer's table, int64 `[layer]`."""
        return np.asarray(self.primes.reshape(len(self.primes), -1).sum(axis=1), np.int64)

    @property
    def offsets(self) -> Int64[np.ndarray, "layer column"]:
        """First row of each column in its layer's table: exclusive prefix sums, int64."""
        sizes = self.primes.reshape(len(self.primes), -1)
        return np.asarray(np.cumsum(sizes, axis=1) - sizes, np.int64)

    @classmethod
    def deepseek(
        cls,
        *,
        layer_ids: Sequence[int],
        budget: int | Sequence[int],
        max_order: int,
        heads: int,
        n_canonical: int,
        seed: int = 0,
    ) -> "Layout":
        """The rule of the paper's demo and of DeepSeek-V4.1.

        Head sizes are the next primes at or above the order's budget that no head of any layer has
        taken yet; multipliers are odd numbers from numpy's PCG64 seeded with seed + 10007 · layer.

        Args:
            layer_ids: Memory layers, counted from 0 as the model counts them (the seed depends on it).
            budget: Least rows a head, one number or one per order 2 … max_order.
            max_order: Longest n-gram hashed, at least 2.
            heads: Heads per order.
            n_canonical: Number of canonical ids, which bounds the multipliers.
            seed: The model's engram seed.

        Raises:
            InputError: If the numbers of orders and budgets disagree, or there are no ids.
        """
        orders = max_order - 1
        each = [budget] * orders if isinstance(budget, int | np.integer) else budget
        budgets = [int(b) for b in each]  # numpy's integers would overflow in the search for primes
        if orders < 1 or len(budgets) != orders or heads < 1:
            raise InputError(
                f"Orders 2 to {max_order} want {max(orders, 1)} budgets and at least one head, got "
                f"{len(budgets)} budgets and {heads} heads."
            )
        if n_canonical < 1:
            raise InputError(f"A hash layout wants at least one canonical id, got n_canonical={n_canonical}.")
        taken: set[int] = set()
        primes = [[primes_from(b, heads, taken) for b in budgets] for _ in layer_ids]
        bound = max(1, _LARGEST // n_canonical // 2)
        multipliers = [
            np.random.default_rng(seed + _LAYER_STRIDE * layer).integers(0, bound, size=max_order) * 2 + 1
            for layer in layer_ids
        ]
        return cls(
            primes=np.asarray(primes, np.int64),
            multipliers=np.asarray(multipliers, np.int64),
            layer_ids=tuple(layer_ids),
        )

    @classmethod
    def qwen4_exp(
        cls, *, layer_ids: Sequence[int], base: int, max_order: int, heads: int, d_vocab: int, seed: int
    ) -> "Layout":
        """The rule of Qwen's `qwen4_exp`: consecutive primes over all heads, splitmix64 multipliers.

        Args:
            layer_ids: Memory layers, counted from 0 (the checkpoint's `ple_layer_ids` count from 1).
            base: `ngram_vocab_size_base`: the first head has the least prime at or above it.
            max_order: `ngram_size`.
            heads: `heads_per_ngram`.
            d_vocab: Vocabulary size; raw token ids are hashed.
            seed: The checkpoint's seed.
        """
        orders, layers = max_order - 1, len(layer_ids)
        primes, current = [], int(base) - 1
        for _ in range(layers * orders * heads):
            current = nth_prime_after(current, 1)
            primes.append(current)
        multipliers = [_splitmix_multipliers(seed, i, max_order, d_vocab) for i in range(layers)]
        return cls(
            primes=np.asarray(primes, np.int64).reshape(layers, orders, heads),
            multipliers=np.asarray(multipliers, np.int64),
            layer_ids=tuple(layer_ids),
        )


def _splitmix_multipliers(seed: int, layer_index: int, count: int, d_vocab: int) -> list[int]:
    bound = max(1, _LARGEST // max(d_vocab, 1) // 2)
    gamma, first, second = _SPLITMIX
    out = []
    for lag in range(count):
        # The state is advanced once for the lag and once more inside splitmix64 itself.
        z = (seed + _LAYER_STRIDE * layer_index + gamma * (lag + 2)) & _MASK64
        z = ((z ^ (z >> 30)) * first) & _MASK64
        z = ((z ^ (z >> 27)) * second) & _MASK64
        out.append(2 * ((z ^ (z >> 31)) % bound) + 1)
    return out


def lagged_ids(
    canonical_ids: Int64[Tensor, "batch token"],
    lag: int,
    *,
    pad_id: int,
    segment_ids: Int64[Tensor, "batch token"] | None = None,
) -> Int64[Tensor, "batch token"]:
    """The canonical id `lag` tokens back, or `pad_id` where the window may not look there.

    A window does not reach before the first token, across a segment boundary, nor to or past a dead
    token (canonical id -1); the window of a dead token is all padding.

    Args:
        canonical_ids: Canonical ids, -1 for dead positions.
        lag: Tokens to look back, at least 0.
        pad_id: Canonical id that stands for "nothing there".
        segment_ids: Windows stay inside runs of one segment id; None for one segment.

    Returns:
        int64 ids, same shape.
    """
    dead = canonical_ids == DEAD
    ids = canonical_ids.masked_fill(dead, pad_id)
    if lag == 0:
        return ids
    length = ids.shape[1]
    if lag >= length:
        return torch.full_like(ids, pad_id)
    reachable = torch.zeros_like(dead)
    reachable[:, lag:] = True
    for step in range(lag + 1):
        between = slice(lag - step, length - step)
        reachable[:, lag:] &= ~dead[:, between]
        if segment_ids is not None:
            reachable[:, lag:] &= segment_ids[:, lag:] == segment_ids[:, between]
    shifted = torch.full_like(ids, pad_id)
    shifted[:, lag:] = ids[:, : length - lag]
    return torch.where(reachable, shifted, pad_id)


def segments(
    tokens: Int64[Tensor, "batch token"], *, separator_id: int | None, boundary: Boundary
) -> Int64[Tensor, "batch token"] | None:
    """Segment ids that keep n-gram windows inside documents; None where nothing stops them.

    Args:
        tokens: Token ids, not canonical ones.
        separator_id: The token that separates documents; None if there is none.
        boundary: "separator_starts": the separator belongs to the document it opens; "separator_ends":
            to the one it closes (Qwen's EOS); "none": windows run on.
    """
    if boundary == "none" or separator_id is None:
        return None
    separator = (tokens == separator_id).long()
    opened = separator.cumsum(-1)
    return opened if boundary == "separator_starts" else opened - separator


def addresses(
    canonical_ids: Integer[Tensor, "batch token"] | Integer[np.ndarray, "batch token"],
    layout: Layout,
    *,
    pad_id: int,
    segment_ids: Integer[Tensor, "batch token"] | Integer[np.ndarray, "batch token"] | None = None,
) -> Int64[Tensor, "batch token layer column"]:
    """Absolute table rows read at every token, offsets included.

    Args:
        canonical_ids: Canonical ids (see `token_map`), -1 for dead positions.
        layout: Primes, offsets and multipliers.
        pad_id: Canonical id used where a window looks before the start or past a boundary.
        segment_ids: Windows stay inside runs of one segment id; None for one segment.

    Returns:
        int64 `[batch, token, layer, column]` on the device of the ids; columns are order-major. A dead
        position gets the rows of `pad_id` there: its gate must be shut by the caller.

    Raises:
        InputError: If the ids are not a two-dimensional integer array, or the segment ids of another shape.
    """
    ids = _tensor(canonical_ids)
    if ids.ndim != 2 or ids.is_floating_point():
        raise InputError(
            f"addresses wants integer canonical ids [batch, token], got {ids.dtype} of shape "
            f"{tuple(ids.shape)}; add a batch axis with ids[None]."
        )
    ids = ids.to(torch.int64)
    segments = None if segment_ids is None else _tensor(segment_ids).to(ids.device).long()
    if segments is not None and segments.shape != ids.shape:
        raise InputError(
            f"addresses wants a segment id for every id, [batch, token] of shape {tuple(ids.shape)}, got "
            f"{tuple(segments.shape)}; a batch axis is added with segment_ids[None]."
        )
    lagged = [
        lagged_ids(ids, lag, pad_id=pad_id, segment_ids=segments)[..., None]
        for lag in range(layout.max_order)
    ]
    multipliers, primes, offsets = (
        _tensor(a).to(ids.device) for a in (layout.multipliers, layout.primes, layout.offsets)
    )
    mixed = lagged[0] * multipliers[:, 0]
    columns = []
    for lag in range(1, layout.max_order):
        mixed = mixed ^ (lagged[lag] * multipliers[:, lag])
        columns.append(mixed[..., None] % primes[:, lag - 1])
    return torch.cat(columns, dim=-1) + offsets


def _tensor(values: Tensor | np.ndarray) -> Tensor:
    """The values as a tensor; torch warns of memory it may not write to, so that is copied."""
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()
    return torch.as_tensor(values)
