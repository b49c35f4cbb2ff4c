"""Which tensors a released checkpoint has, how each is stored, and which of our parameters it becomes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engram_interp.checkpoints.decoding import BLOCK
from engram_interp.checkpoints.sharded import Wanted
from engram_interp.model.deepseek_v41.config import V41Config

Kind = Literal["fp8", "fp8_rows", "fp4", "bf16", "f32"]
Stage = Literal["engram", "attn", "mlp"]

IGNORED = ("vision.", "aligner.", "image_", "mtp.")
"""Left out on purpose: the eyes, the delimiters of images, and the draft layers."""
_PLAIN = {"bf16": "BF16", "f32": "F32"}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One parameter as it is stored.

    Attributes:
        name: Released name; of the weight, where there are scales beside it.
        kind: How its numbers are stored.
        shape: Of the numbers.
        paths: Our parameters, within the block (or model), that its rows become in order; none where it is
            not used.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    paths: tuple[str, ...] = ()

    @property
    def scale(self) -> str:
        """Released name of the scales."""
        return self.name.removesuffix("weight") + "scale"

    def tensors(self) -> Wanted:
        """The tensors that hold it, with types and shapes."""
        if self.kind in _PLAIN:
            return {self.name: (_PLAIN[self.kind], self.shape)}
        rows, columns = self.shape
        blocks = -(-columns // BLOCK)
        if self.kind == "fp4":
            return {self.name: ("I8", (rows, columns // 2)), self.scale: ("F8_E8M0", (rows, blocks))}
        row_blocks = -(-rows // BLOCK) if self.kind == "fp8" else rows
        return {self.name: ("F8_E4M3", self.shape), self.scale: ("F8_E8M0", (row_blocks, blocks))}

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def outer(cfg: V41Config) -> list[Stored]:
    """Embedding, final norm and unembedding."""
    vocab = (cfg.d_vocab, cfg.d_model)
    return [
        Stored(name="embed.weight", kind="bf16", shape=vocab, paths=("embed.weight",)),
        Stored(name="norm.weight", kind="bf16", shape=(cfg.d_model,), paths=("ln_final.weight",)),
        Stored(name="head.weight", kind="bf16", shape=vocab, paths=("head.weight",)),
    ]


def block(cfg: V41Config, layer: int, stage: Stage) -> list[Stored]:
    """A stage's parameters but for the table's rows and the routed experts.

    Args:
        cfg: The model.
        layer: The block.
        stage: "engram" (nothing without a memory), "attn" or "mlp".
    """
    start = f"layers.{layer}."
    if stage == "engram":
        return _engram(cfg, start) if layer in cfg.memory_layers else []
    d, m = cfg.d_model, cfg.n_streams
    ours, theirs = ("attn", "attn") if stage == "attn" else ("mlp", "ffn")
    mix = 2 * m + m * m
    found = [
        Stored(name=f"{start}hc_{theirs}_fn", kind="f32", shape=(mix, m * d), paths=(f"hc_{ours}.project",)),
        Stored(name=f"{start}hc_{theirs}_base", kind="f32", shape=(mix,), paths=(f"hc_{ours}.base",)),
        Stored(name=f"{start}hc_{theirs}_scale", kind="f32", shape=(3,), paths=(f"hc_{ours}.scale",)),
        Stored(name=f"{start}{theirs}_norm.weight", kind="bf16", shape=(d,), paths=(f"{ours}_norm.weight",)),
    ]
    return found + (_attention(cfg, layer, start) if stage == "attn" else _feed_forward(cfg, start))


def expert(cfg: V41Config, layer: int, number: int) -> list[Stored]:
    """One routed expert; the paths are within it."""
    start, d, hidden = f"layers.{layer}.ffn.experts.{number}.", cfg.d_model, cfg.d_expert
    return [
        Stored(name=f"{start}w1.weight", kind="fp4", shape=(hidden, d), paths=("gate.weight",)),
        Stored(name=f"{start}w3.weight", kind="fp4", shape=(hidden, d), paths=("into.weight",)),
        Stored(name=f"{start}w2.weight", kind="fp4", shape=(d, hidden), paths=("out.weight",)),
    ]


def table(cfg: V41Config, layer: int) -> Stored:
    """The rows of a memory layer."""
    assert cfg.engram is not None
    rows = cfg.table_rows[cfg.memory_layers.index(layer)]
    shape, path = (rows, cfg.engram.d_row), "engram.table.weight"
    return Stored(name=f"layers.{layer}.engram.embed.weight", kind="fp8_rows", shape=shape, paths=(path,))


def every(cfg: V41Config) -> Iterator[Stored]:
    """All of the text backbone."""
    yield from outer(cfg)
    for layer in range(cfg.n_layers):
        for stage in ("engram", "attn", "mlp"):
            yield from block(cfg, layer, stage)
        if layer in cfg.memory_layers:
            yield table(cfg, layer)
        for number in range(cfg.n_experts):
            yield from expert(cfg, layer, number)


def wanted(cfg: V41Config) -> Wanted:
    """Type and shape of every tensor of the text backbone, by name."""
    return {name: place for stored in every(cfg) for name, place in stored.tensors().items()}


def _engram(cfg: V41Config, start: str) -> list[Stored]:
    assert cfg.engram is not None
    d, m = cfg.d_model, cfg.n_streams
    shape, paths = ((m + 1) * d, cfg.engram.d_memory), ("engram.key.weight", "engram.value.weight")
    return [
        Stored(name=f"{start}engram.wkv.weight", kind="fp8", shape=shape, paths=paths),
        Stored(
            name=f"{start}engram.q_weight", kind="bf16", shape=(m, d), paths=("engram.query_norm.weight",)
        ),
        Stored(name=f"{start}engram.k_weight", kind="bf16", shape=(m, d), paths=("engram.key_norm.weight",)),
    ]


def _attention(cfg: V41Config, layer: int, start: str) -> list[Stored]:
    d, wide = cfg.d_model, cfg.n_heads * cfg.d_head
    low, index = cfg.o_groups * cfg.o_rank, cfg.n_index_heads * cfg.d_index
    names: list[tuple[str, Kind, tuple[int, ...], str]] = [
        ("wq_a.weight", "fp8", (cfg.q_rank, d), "q_down.weight"),
        ("q_norm.weight", "bf16", (cfg.q_rank,), "q_norm.weight"),
        ("wq_b.weight", "fp8", (wide, cfg.q_rank), "q_up.weight"),
        ("wkv.weight", "fp8", (cfg.d_head, d), "kv.weight"),
        ("kv_norm.weight", "bf16", (cfg.d_head,), "kv_norm.weight"),
        ("wo_a.weight", "fp8", (low, wide // cfg.o_groups), "o_down"),
        ("wo_b.weight", "fp8", (d, low), "o_up.weight"),
        ("attn_sink", "f32", (cfg.n_heads,), "sink"),
    ]
    if layer in cfg.kv_sources:
        names += [
            ("compressor.wkv.weight", "bf16", (cfg.d_head, d), "compressor.kv.weight"),
            ("compressor.norm.weight", "bf16", (cfg.d_head,), "compressor.norm.weight"),
        ]
        if cfg.ratios[layer] > 1:
            names.append(("compressor.wgate.weight", "bf16", (cfg.d_head, d), "compressor.gate.weight"))
    if layer in cfg.key_sources:
        names += [
            ("indexer.wk.weight", "bf16", (cfg.d_index, cfg.d_head), "indexer.k.weight"),
            ("indexer.k_norm.weight", "bf16", (cfg.d_index,), "indexer.k_norm.weight"),
        ]
    if layer in cfg.index_sources:
        names += [
            ("indexer.wq_b.weight", "fp8", (index, cfg.q_rank), "indexer.q.weight"),
            ("indexer.weights_proj.weight", "bf16", (cfg.n_index_heads, d), "indexer.head_weights.weight"),
        ]
    return [
        Stored(name=f"{start}attn.{name}", kind=kind, shape=shape, paths=(f"attn.{path}",))
        for name, kind, shape, path in names
    ]


def _feed_forward(cfg: V41Config, start: str) -> list[Stored]:
    d, hidden, n = cfg.d_model, cfg.d_expert, cfg.n_experts
    names: list[tuple[str, Kind, tuple[int, ...], tuple[str, ...]]] = [
        ("gate.weight", "bf16", (n, d), ("mlp.router.weight",)),
        ("gate.bias", "f32", (n,), ("mlp.bias",)),
        ("gate.bias_vl", "f32", (n,), ()),  # for tokens of images
        ("shared_experts.w1.weight", "fp8", (hidden, d), ("mlp.shared.gate.weight",)),
        ("shared_experts.w3.weight", "fp8", (hidden, d), ("mlp.shared.into.weight",)),
        ("shared_experts.w2.weight", "fp8", (d, hidden), ("mlp.shared.out.weight",)),
    ]
    return [
        Stored(name=f"{start}ffn.{name}", kind=kind, shape=shape, paths=paths)
        for name, kind, shape, paths in names
    ]
