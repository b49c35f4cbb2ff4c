"""What a streamed capture will read, compute, hold and write, before any of it is done."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from engram_interp.capture.shards import shown_bytes as _size
from engram_interp.capture.sites import AFTER
from engram_interp.capture.streamed.state import state_bytes
from engram_interp.checkpoints import decoding
from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.layout import Stage, Stored
from engram_interp.checkpoints.tensor_files import DTYPES
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.rows import TILE

MOST_TOKENS = 512
"""Tokens that are run together, unless one prompt is longer."""
_STAGES: tuple[Stage, ...] = ("engram", "attn", "mlp")
_COPIES = 8
"""Tensors of the streams' size that one batch needs at a time, at most (measured: 5 to 7)."""
_SCORES = 256 << 20
"""Bytes for attention scores and their softmax."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How fast this machine is.

    Attributes:
        read: Bytes a second from the disk.
        decode: Numbers a second from fp4 or fp8 to float32.
        multiply: Floating-point operations a second in matrix products.
    """

    read: float
    decode: float
    multiply: float

    @classmethod
    def measured(cls, path: Path) -> "Rates":
        """Measure on a file of the checkpoint and in memory; takes about a second."""
        raw = np.random.default_rng(0).integers(0, 256, (512, 4096), dtype=np.uint8)
        scale = np.full((512, 256), 127, np.uint8)
        left, right = torch.ones(2048, 2048), torch.ones(64, 2048)
        return cls(
            read=_read_rate(path),
            decode=2 * raw.size / _seconds(lambda: decoding.fp4(raw, scale)),
            multiply=2 * left.numel() * len(right) / _seconds(lambda: left @ right.mT),
        )


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """The cost of a streamed capture.

    Attributes:
        last_layer: The last block that is run.
        tokens: Of all prompts.
        prompts: How many.
        weight_bytes: Read from the disk, each once; experts that no token chooses are left out later.
        row_bytes: Of table rows and embeddings, at most.
        decoded: Numbers that are turned into float32.
        flops: Floating-point operations.
        state_bytes: Held in memory for all prompts.
        working_bytes: Held besides, at most: one layer's weights, two experts, one batch.
        output_bytes: What the capture takes on the disk.
        scratch_bytes: Taken on the disk besides until the end: the sites' rows and the state, twice while it
            is replaced.
        seconds: Expected; None where no rates were measured.
    """

    last_layer: int
    tokens: int
    prompts: int
    weight_bytes: int
    row_bytes: int
    decoded: int
    flops: int
    state_bytes: int
    working_bytes: int
    output_bytes: int
    scratch_bytes: int
    seconds: float | None = None

    def lines(self) -> list[str]:
        """For a reader."""
        speed = "not measured" if self.seconds is None else f"about {self.seconds / 60:,.1f} minutes"
        return [
            f"layers   0 to {self.last_layer}, {self.tokens:,} tokens of {self.prompts:,} prompts",
            f"read     {_size(self.weight_bytes)} of weights, once; at most {_size(self.row_bytes)} of rows",
            f"compute  {self.flops / 1e12:,.2f} TFLOP, and {self.decoded / 1e9:,.1f} G numbers decoded",
            f"time     {speed}, at the speed measured now",
            f"memory   {_size(self.state_bytes)} for the prompts' state, {_size(self.working_bytes)} besides",
            f"disk     {_size(self.output_bytes)} of output, {_size(self.scratch_bytes)} more until the end",
        ]


def plan_of(
    cfg: V41Config,
    lengths: Sequence[int],
    *,
    last_layer: int,
    output_bytes: int,
    logits: bool = False,
    rates: Rates | None = None,
) -> StreamPlan:
    """The cost of running prompts through the first layers; needs no files.

    Args:
        cfg: The model.
        lengths: Tokens of each prompt.
        last_layer: The last block that is wanted; `AFTER` for what follows the last.
        output_bytes: Of the capture.
        logits: Whether the unembedding is read.
        rates: Of this machine.
    """
    last = min(last_layer, cfg.n_layers - 1)
    weights = [s for layer in range(last + 1) for s in _layer(cfg, layer)]
    if last_layer == AFTER:
        weights += layout.outer(cfg)[1 : 3 if logits else 2]
    tokens, memories = sum(lengths), sum(layer <= last for layer in cfg.memory_layers)
    d_memory = 0 if cfg.engram is None else cfg.engram.d_memory
    columns = 0 if cfg.engram is None else cfg.engram.columns
    row = d_memory + columns * -(-d_memory // max(columns, 1) // decoding.BLOCK)
    state = state_bytes(cfg, lengths)
    plan = StreamPlan(
        last_layer=last,
        tokens=tokens,
        prompts=len(lengths),
        weight_bytes=sum(_bytes(stored) for stored in weights),
        row_bytes=tokens * memories * row + min(tokens, cfg.d_vocab) * 2 * cfg.d_model,
        decoded=sum(s.numbers for s in weights if s.kind in ("fp8", "fp4")) + tokens * memories * d_memory,
        flops=sum(_flops(cfg, layer, lengths) for layer in range(last + 1)),
        state_bytes=state,
        working_bytes=_working(cfg, lengths, last, logits=logits),
        output_bytes=output_bytes,
        scratch_bytes=output_bytes + 2 * state,
    )
    if rates is None:
        return plan
    return _timed(plan, rates)


def _timed(plan: StreamPlan, rates: Rates) -> StreamPlan:
    moved = (
        plan.weight_bytes + plan.row_bytes + 2 * plan.output_bytes + plan.state_bytes * (plan.last_layer + 2)
    )
    seconds = moved / rates.read + plan.decoded / rates.decode + plan.flops / rates.multiply
    return replace(plan, seconds=seconds)


def _layer(cfg: V41Config, layer: int) -> list[Stored]:
    """A layer's parameters but for the rows and what is not used."""
    found = [stored for stage in _STAGES for stored in layout.block(cfg, layer, stage) if stored.paths]
    return found + [s for number in range(cfg.n_experts) for s in layout.expert(cfg, layer, number)]


def _bytes(stored: Stored) -> int:
    return sum(int(np.prod(shape)) * DTYPES[kind].itemsize for kind, shape in stored.tensors().values())


def _flops(cfg: V41Config, layer: int, lengths: Sequence[int]) -> int:
    """Two a weight that a token passes, and attention over the window and the entries before it.

    An expert's tokens are filled up to whole tiles: half a tile each, on average.
    """
    each = sum(s.numbers for stage in _STAGES for s in layout.block(cfg, layer, stage) if s.paths)
    passed = sum(lengths) * cfg.experts_per_token
    filled = passed + min(passed, cfg.n_experts) * TILE // 2
    total = 2 * filled * sum(s.numbers for s in layout.expert(cfg, layer, 0))
    ratio = cfg.ratios[layer]
    for length in lengths:
        entries = length // ratio // 2 if ratio else 0
        keys = min(length, cfg.window) + entries
        index = cfg.n_index_heads * cfg.d_index * entries if layer in cfg.index_sources else 0
        total += length * 2 * (each + 2 * cfg.n_heads * cfg.d_head * keys + index)
    return total


def _working(cfg: V41Config, lengths: Sequence[int], last: int, *, logits: bool) -> int:
    """Memory besides the state: the largest stage's weights, two experts, one batch."""
    largest = 0
    for layer in range(last + 1):
        for stage in _STAGES:
            found = layout.block(cfg, layer, stage)
            held = sum(4 * s.numbers for s in found) + max((_bytes(s) for s in found), default=0)
            if stage == "mlp":
                held += 2 * sum(4 * s.numbers + _bytes(s) for s in layout.expert(cfg, layer, 0))
            largest = max(largest, held)
    batch = max(MOST_TOKENS, max(lengths, default=0))
    streams = 4 * batch * cfg.n_streams * cfg.d_model * _COPIES
    return largest + streams + _SCORES + (2 * cfg.d_vocab * cfg.d_model if logits else 0)


def _seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The quickest of several calls."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def _read_rate(path: Path, most: int = 16 << 20) -> float:
    """Bytes a second of a piece from the middle of a file, which is forgotten by the cache first."""
    size = path.stat().st_size
    count = min(most, size)
    start = (size - count) // 2
    handle = os.open(path, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, start, count, os.POSIX_FADV_DONTNEED)
        began, got = time.perf_counter(), 0
        while got < count:
            got += len(os.pread(handle, min(8 << 20, count - got), start + got))
        return count / (time.perf_counter() - began)
    finally:
        os.close(handle)
