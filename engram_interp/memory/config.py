"""What an Engram is made of, so that one module can be the paper's, the demo's, V4.1's or Qwen's."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from engram_interp.errors import InputError
from engram_interp.memory.hashing import Boundary, Layout

HashRule = Literal["deepseek", "qwen4_exp", "explicit"]
GateKind = Literal["signed_sqrt", "plain", "open"]
NormKind = Literal["rms", "zero_centred"]


@dataclass(frozen=True, kw_only=True)
class EngramConfig:
    """Shape and rules of the memory, the same for all its layers.

    Attributes:
        layer_ids: Layers with a memory, counted from 0 (the paper counts from 1).
        max_order: Longest n-gram; orders run from 2.
        heads: Hash heads per order.
        d_row: Width of one table row.
        rows: Least rows a head, one number or one per order (the hash rule turns them into primes).
        hash_rule: "deepseek" (paper, demo, V4.1), "qwen4_exp", or "explicit" (a Layout is given).
        compression: "canonical" hashes normalised token ids, "none" raw ones.
        pad_token: Token id standing for "nothing there"; its canonical id is what is hashed.
        boundary: Where n-gram windows stop: nowhere; before each separator token, which opens a
            document; or after it, as Qwen's windows restart after every EOS.
        seed: Seed of the multipliers.
        bias: Whether the key and value projections have one (demo: yes, V4.1 and Qwen: no).
        conv_kernel: Taps of the depthwise causal convolution, 0 for none (V4.1).
        conv_dilation: Tokens between taps; None means max_order, as in the paper.
        norm: "rms" scales by the weight, "zero_centred" by 1 + weight (Qwen).
        norm_eps: Added to the mean square of key and query.
        conv_norm_eps: The same in the convolution's norm.
        gate: "signed_sqrt" (all released models), "plain" (paper eq. 4 as printed), or "open"
            (fixed at 1: an ungated memory).
        reads: "own" n-grams; or "shuffled" ones: every position reads the rows of a fixed earlier one, drawn
            by the seed. That is a control with the same parameters, work and rows, which is told nothing of
            the n-gram at hand (but something of the text before it).
    """

    layer_ids: tuple[int, ...]
    max_order: int = 3
    heads: int = 4
    d_row: int = 32
    rows: int | tuple[int, ...] = 8192
    hash_rule: HashRule = "deepseek"
    compression: Literal["canonical", "none"] = "canonical"
    pad_token: int = 0
    boundary: Boundary = "separator_starts"
    seed: int = 0
    bias: bool = False
    conv_kernel: int = 4
    conv_dilation: int | None = None
    norm: NormKind = "rms"
    norm_eps: float = 1e-6
    conv_norm_eps: float = 1e-5
    gate: GateKind = "signed_sqrt"
    reads: Literal["own", "shuffled"] = "own"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_ids", tuple(self.layer_ids))
        rows = self.rows  # numpy's integers become Python's, which JSON takes
        plain = int(rows) if isinstance(rows, int | np.integer) else tuple(int(r) for r in rows)
        object.__setattr__(self, "rows", plain)
        if list(self.layer_ids) != sorted(set(self.layer_ids)) or any(i < 0 for i in self.layer_ids):
            raise InputError(
                f"Memory layers want distinct layer numbers from 0 in rising order, got {self.layer_ids}."
            )
        if self.max_order < 2 or self.heads < 1 or self.d_row < 1 or self.conv_kernel < 0:
            raise InputError(
                "A memory wants max_order ≥ 2, heads ≥ 1, d_row ≥ 1 and conv_kernel ≥ 0, got "
                f"{self.max_order}, {self.heads}, {self.d_row} and {self.conv_kernel}."
            )

    @property
    def orders(self) -> tuple[int, ...]:
        """N-gram orders read: 2 … max_order."""
        return tuple(range(2, self.max_order + 1))

    @property
    def columns(self) -> int:
        """Rows read per token and layer, order-major."""
        return (self.max_order - 1) * self.heads

    @property
    def d_memory(self) -> int:
        """Width of the retrieved vector: all rows of a token side by side."""
        return self.columns * self.d_row

    @property
    def dilation(self) -> int:
        """Tokens between taps of the convolution."""
        return self.max_order if self.conv_dilation is None else self.conv_dilation

    @property
    def reach(self) -> int:
        """How many later positions one read spreads to through the convolution."""
        return max(self.conv_kernel - 1, 0) * self.dilation

    def sources(self, length: int) -> Int64[np.ndarray, " token"]:
        """The position whose rows each of the first `length` positions reads: an earlier one if shuffled.

        The first positions are the same for every length. Position 0 has none before it and reads its own.
        """
        own = np.arange(length, dtype=np.int64)
        if self.reads == "own":
            return own
        return np.asarray(np.random.default_rng(self.seed).random(length) * own, np.int64)

    def layout(self, *, n_ids: int) -> Layout:
        """The hash layout that the rule prescribes.

        Args:
            n_ids: Number of distinct ids hashed: canonical ids, or the vocabulary size where raw ids
                are hashed.

        Raises:
            InputError: If the rule is "explicit": then primes and multipliers must be given.
        """
        if self.hash_rule == "deepseek":
            return Layout.deepseek(
                layer_ids=self.layer_ids,
                budget=self.rows,
                max_order=self.max_order,
                heads=self.heads,
                n_canonical=n_ids,
                seed=self.seed,
            )
        if self.hash_rule == "qwen4_exp" and isinstance(self.rows, int):
            return Layout.qwen4_exp(
                layer_ids=self.layer_ids,
                base=self.rows,
                max_order=self.max_order,
                heads=self.heads,
                d_vocab=n_ids,
                seed=self.seed,
            )
        raise InputError(
            f"Hash rule {self.hash_rule!r} with rows {self.rows} has no primes of its own; pass "
            "layout=Layout(primes=…, multipliers=…)."
        )

    def column_orders(self) -> Int64[np.ndarray, " column"]:
        """N-gram order of every column."""
        return np.repeat(np.asarray(self.orders, np.int64), self.heads)

    def column_heads(self) -> Int64[np.ndarray, " column"]:
        """Head number of every column."""
        return np.tile(np.arange(self.heads, dtype=np.int64), len(self.orders))
