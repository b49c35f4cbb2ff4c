"""Shape of a DeepSeek-V4.1 text backbone, under our names."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from engram_interp.errors import InputError
from engram_interp.memory.config import EngramConfig
from engram_interp.memory.hashing import Layout

_SIZES = (
    *("d_model", "n_ctx", "n_heads", "d_head", "q_rank", "o_rank", "o_groups", "n_index_heads", "d_index"),
    *("n_experts", "d_expert", "sinkhorn_steps"),
)
"""Settings that are at least 1 in every such model."""


@dataclass(frozen=True, kw_only=True)
class Yarn:
    """How the rotary frequencies of the compressed layers are stretched (YaRN, without its mscale).

    Attributes:
        factor: By how much the context was extended.
        beta_fast: Turns within the original context above which a frequency is kept.
        beta_slow: Turns below which it is divided by the factor.
        original: The original context, in tokens.
    """

    factor: float
    beta_fast: float
    beta_slow: float
    original: int


@dataclass(frozen=True, kw_only=True)
class V41Config:
    """A DeepSeek-V4.1 text backbone. Layers count from 0.

    Attributes:
        n_layers: Blocks.
        d_model: Width of a residual stream.
        n_streams: Residual streams.
        d_vocab: Token ids.
        n_ctx: Longest input in tokens.
        n_heads: Attention heads, which share one latent as key and value.
        d_head: Width of a head and of the latent.
        d_rope: Trailing channels of a head (and of an index head) that are rotated.
        q_rank: Rank of the query projection.
        o_rank: Rank of each group of the output projection.
        o_groups: Groups of heads in the output projection.
        window: Tokens of the sliding window, the query's own included.
        ratios: Of every layer, tokens per compressed entry; 0 where it only sees the window.
        kv_sources: Layers that compress; the layers after one read its entries.
        index_sources: Layers that choose entries; the layers after one reuse its choice.
        n_index_heads: Heads of the indexer.
        d_index: Width of one.
        index_top_k: Entries a query attends to.
        candidate_source: The layer whose blocks limit all later choices; None for no such limit.
        candidate_blocks: How many blocks it keeps a query.
        candidate_block_size: Entries a block.
        n_experts: Routed experts.
        experts_per_token: Of which each token uses so many.
        d_expert: Hidden width of an expert, routed or shared.
        expert_limit: Bound of an expert's hidden values; 0 for none.
        route_scale: Factor of the routed experts' weights.
        route_temperature: The router's logits are divided by it.
        normalise_weights: Whether the chosen experts' weights are made to sum to 1 first.
        sinkhorn_steps: Of the streams' mix.
        hc_eps: Added in the hyper-connections.
        rms_eps: Added to the mean square in every norm.
        rope_theta: Base of the rotary frequencies where there are no compressed entries.
        compress_theta: Base where there are.
        yarn: Stretches the latter; None for none.
        separator_id: Token id that opens a text; None for none.
        image_id: Token id that stands for an image and that the memory does not see; None for none.
        engram: The memory; None without one.
        table_rows: Rows of each memory layer's table.
        n_canonical: Canonical token ids.
    """

    n_layers: int
    d_model: int
    n_streams: int
    d_vocab: int
    n_ctx: int
    n_heads: int
    d_head: int
    d_rope: int
    q_rank: int
    o_rank: int
    o_groups: int
    window: int
    ratios: tuple[int, ...]
    kv_sources: tuple[int, ...]
    index_sources: tuple[int, ...]
    n_index_heads: int
    d_index: int
    index_top_k: int
    candidate_source: int | None
    candidate_blocks: int
    candidate_block_size: int
    n_experts: int
    experts_per_token: int
    d_expert: int
    expert_limit: float
    route_scale: float
    route_temperature: float
    normalise_weights: bool
    sinkhorn_steps: int
    hc_eps: float
    rms_eps: float
    rope_theta: float
    compress_theta: float
    yarn: Yarn | None
    separator_id: int | None
    engram: EngramConfig | None
    image_id: int | None = None
    table_rows: tuple[int, ...] = ()
    n_canonical: int = 0

    model_name: ClassVar[str] = "deepseek-v4.1"
    device: ClassVar[None] = None

    def __post_init__(self) -> None:
        if len(self.ratios) != self.n_layers or min(self.ratios, default=0) < 0:
            raise InputError(
                f"{self.n_layers} layers want as many compress ratios of at least 0, got {list(self.ratios)}."
            )
        if self.n_streams < 2 or min(self.n_layers, self.d_vocab, self.window, self.index_top_k) < 1:
            raise InputError(
                "A V4.1 backbone wants at least 2 streams, a layer, a token id and a window of 1."
            )
        self._check_sizes()
        if (self.n_heads * self.d_head) % self.o_groups or self.d_rope % 2:
            raise InputError(
                f"{self.n_heads} heads of {self.d_head} want to split into {self.o_groups} groups, and the "
                f"{self.d_rope} rotated channels into pairs."
            )
        if self.d_rope > min(self.d_head, self.d_index):
            raise InputError(
                f"{self.d_rope} rotated channels do not fit heads of {self.d_head}, {self.d_index}."
            )
        if not 1 <= self.experts_per_token <= self.n_experts:
            raise InputError(f"experts_per_token wants to lie in 1 … {self.n_experts}.")
        self._check_memory()
        self._check_sources()
        self._check_candidates()

    def _check_sizes(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise InputError(f"A V4.1 backbone wants {name} of at least 1, got {getattr(self, name)}.")
        if self.separator_id is not None and not 0 <= self.separator_id < self.d_vocab:
            raise InputError(
                f"The token that opens a text wants to lie in 0 … {self.d_vocab - 1}, got "
                f"{self.separator_id}."
            )

    def _check_candidates(self) -> None:
        if self.candidate_source is None:
            return
        if self.candidate_source not in self.index_sources:
            raise InputError(
                f"The candidate source wants to be one of the layers that choose entries, "
                f"{list(self.index_sources)}, or -1 for none, got {self.candidate_source}."
            )
        if min(self.candidate_blocks, self.candidate_block_size) < 1:
            raise InputError(
                "Candidates want at least 1 block of at least 1 entry, got "
                f"{self.candidate_blocks} of {self.candidate_block_size}."
            )

    def _check_memory(self) -> None:
        if any(layer >= self.n_layers for layer in self.memory_layers):
            raise InputError(f"Memory layers {self.memory_layers} want to lie in 0 … {self.n_layers - 1}.")
        if len(self.table_rows) != len(self.memory_layers) or min(self.table_rows, default=1) < 1:
            raise InputError(
                f"Memory layers {self.memory_layers} want a table of at least 1 row each, the config has "
                f"{list(self.table_rows)} (engram_num_embeddings)."
            )
        if self.engram is None:
            return
        if not 0 <= self.engram.pad_token < self.d_vocab or self.n_canonical < 1:
            raise InputError(
                f"The memory's padding token wants to lie in 0 … {self.d_vocab - 1}, got "
                f"{self.engram.pad_token}, and its canonical ids to be at least 1, got {self.n_canonical}."
            )

    def _check_sources(self) -> None:
        """Every layer reads entries, a choice, keys and candidate blocks of its own ratio."""
        limiting = (self.candidate_source,) if self.candidate_source in self.index_sources else ()
        for layer, ratio in enumerate(self.ratios):
            if not ratio:
                if layer in (*self.kv_sources, *self.index_sources):
                    raise InputError(f"Layer {layer} is a source and has compress ratio 0.")
                continue
            made = {"entries": self.kv_sources, "a choice": self.index_sources, "keys": self.key_sources}
            for what, sources in (made | {"candidate blocks": limiting}).items():
                before = [source for source in sources if source <= layer]
                needed = what != "candidate blocks"
                if needed and not before:
                    raise InputError(
                        f"Layer {layer} reads {what} of {ratio} tokens and no layer before it makes any; "
                        "kv_source_layer_ids, index_source_layer_ids and compress_ratios disagree."
                    )
                if before and self.ratios[before[-1]] != ratio and (needed or layer in self.index_sources):
                    raise InputError(
                        f"Layer {layer} reads {what} of {ratio} tokens and layer {before[-1]}, the last that "
                        f"makes any, makes them of {self.ratios[before[-1]]}; we know no such model."
                    )

    @property
    def key_sources(self) -> tuple[int, ...]:
        """Layers that make index keys: those that compress and choose."""
        return tuple(layer for layer in self.kv_sources if layer in self.index_sources)

    @cached_property
    def memory_layers(self) -> tuple[int, ...]:
        """Layers with a memory."""
        return () if self.engram is None else self.engram.layer_ids

    @cached_property
    def layout(self) -> Layout | None:
        """The tables' address book, checked against the tables' rows.

        Raises:
            InputError: If the hash rule gives tables of other sizes than the checkpoint has.
        """
        if self.engram is None:
            return None
        layout = self.engram.layout(n_ids=self.n_canonical)
        if not np.array_equal(layout.rows, self.table_rows):
            raise InputError(
                f"The hash rule gives tables of {layout.rows.tolist()} rows, the config has "
                f"{list(self.table_rows)}; the checkpoint was made by another rule."
            )
        return layout
