"""One layer after the other, all prompts through each: every weight is read once, used and dropped."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.capture.record import watching
from engram_interp.capture.shards import SiteShape
from engram_interp.capture.sites import AFTER
from engram_interp.capture.streamed.sites import Sink, within
from engram_interp.capture.streamed.state import Batch, State
from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.layout import Stage
from engram_interp.checkpoints.deepseek_v41.weights import Source, forget_stage
from engram_interp.checkpoints.row_reader import fetch, numbers, read_rows
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.model.deepseek_v41 import streams
from engram_interp.model.deepseek_v41.backbone import VOCABULARY_ROWS, DeepSeekV41, unembed
from engram_interp.model.deepseek_v41.block import Block
from engram_interp.model.deepseek_v41.experts import Expert

_ADDRESSES = 1 << 19
"""Addresses whose rows are held at a time: at most 138 MB of a released table."""
_ROWS = 4096
"""Tokens that one expert sees at a time."""


@dataclass(kw_only=True)
class Streaming:
    """A model on the disk and the prompts that go through it.

    Attributes:
        subject: The model without weights.
        source: Its weights.
        batches: The prompts.
        state: What they have come to.
        sites: What is stored of the wanted sites.
        folder: Where that is kept.
    """

    subject: SubjectModel
    source: Source
    batches: Sequence[Batch]
    state: State
    sites: dict[str, SiteShape]
    folder: Path

    @property
    def model(self) -> DeepSeekV41:
        """The module."""
        assert isinstance(self.subject.module, DeepSeekV41)
        return self.subject.module

    @contextmanager
    def _watched(self, layer: int) -> Iterator[Sink]:
        """A sink for what passes the wanted sites of a layer."""
        wanted = within(list(self.sites), layer)
        with (
            Sink(self.folder, {site: self.sites[site] for site in wanted}) as sink,
            watching(self.subject, wanted, sink.keep),
        ):
            yield sink

    def _each(self, sink: Sink) -> Iterator[Batch]:
        for batch in self.batches:
            sink.batch = batch
            yield batch

    @torch.inference_mode()
    def enter(self) -> None:
        """The state before the first layer; of the embedding only the rows of these tokens are read."""
        place = self.source.shards.place("embed.weight")
        ids = np.unique(np.concatenate([batch.tokens[batch.alive].numpy() for batch in self.batches]))
        known = numbers(read_rows(self.source.reader, place, ids), place)
        with self._watched(-1) as sink:
            for batch in self._each(sink):
                rows = torch.from_numpy(np.searchsorted(ids, batch.tokens.numpy()).clip(max=len(ids) - 1))
                embedded = self.model.hook_embed(known[rows])
                self.state.resid[batch.rows] = batch.packed(embedded)[:, None]
                self.state.pre[batch.rows] = 0.0
                self.state.pre[batch.rows, 0] = 1.0

    @torch.inference_mode()
    def pass_layer(self, layer: int) -> None:
        """All prompts through one block."""
        block = self.model.blocks[layer]
        assert isinstance(block, Block)
        with self._watched(layer) as sink:
            if block.engram is not None:
                self._remember(block, layer, sink)
            self._attend(block, layer, sink)
            self._feed(block, layer, sink)
        self.state.layer = layer + 1

    @contextmanager
    def _weights(self, block: Block, layer: int, stage: Stage) -> Iterator[None]:
        self.source.fill_stage(block, layer, stage)
        try:
            yield
        finally:
            forget_stage(block, self.source.cfg, layer, stage)

    def _remember(self, block: Block, layer: int, sink: Sink) -> None:
        """The memory's step, its rows read a few batches ahead of their use."""
        assert block.engram is not None
        whole, stored = block.engram.table, layout.table(self.source.cfg, layer)
        weight, scale = (self.source.shards.place(name) for name in (stored.name, stored.scale))
        with self._weights(block, layer, "engram"):
            for group in _grouped(self.batches, columns=block.engram.config.columns):
                rows = [_addresses(self.model, batch, layer) for batch in group]
                every = np.concatenate([each.numpy().reshape(-1) for each in rows])
                block.engram.register_module("table", fetch(self.source.reader, weight, scale, every))
                for batch, each in zip(group, rows, strict=True):
                    sink.batch = batch
                    seen = self.model.remembered(batch.tokens, batch.alive)
                    resid = block.remember(batch.padded(self.state.resid), each, seen)
                    self.state.resid[batch.rows] = batch.packed(resid)
        block.engram.table = whole

    def _attend(self, block: Block, layer: int, sink: Sink) -> None:
        with self._weights(block, layer, "attn"):
            for batch in self._each(sink):
                resid, pre = batch.padded(self.state.resid), batch.padded(self.state.pre)
                if block.engram is None:
                    resid = block.remember(resid, None, batch.alive)
                shared = self.state.shared[batch.prompts]
                mid, then, shared = block.attend(resid, pre, batch.lengths, shared)
                self.state.resid[batch.rows] = batch.packed(mid)
                self.state.pre[batch.rows] = batch.packed(then)
                self.state.shared[batch.prompts] = shared

    def _feed(self, block: Block, layer: int, sink: Sink) -> None:
        """The feed-forward, its experts one at a time for all prompts."""
        tokens, cfg = len(self.state.resid), self.source.cfg
        read = torch.empty(tokens, cfg.d_model)
        chosen = torch.empty(tokens, cfg.experts_per_token, dtype=torch.int64)
        gains = torch.empty(tokens, cfg.experts_per_token)
        mixes = []
        with self._weights(block, layer, "mlp"):
            for batch in self._each(sink):
                mid, pre = batch.padded(self.state.resid), batch.padded(self.state.pre)
                mixes.append(block.hc_mlp(mid))
                x = block.mlp_norm(streams.read(mid, pre))
                ids, weights = block.mlp.route(x)
                for into, value in ((read, x), (chosen, ids), (gains, weights)):
                    into[batch.rows] = batch.packed(value)
            routed = torch.zeros_like(read)
            for number, expert in _experts(self.source, layer, chosen):
                _add_expert(routed, expert, number, read=read, chosen=chosen, gains=gains)
            for batch, (then, post, comb) in zip(self._each(sink), mixes, strict=True):
                fed = routed[batch.rows] + block.mlp.shared(read[batch.rows])
                mid = batch.padded(self.state.resid)
                resid, pre = block.finish(mid, batch.spread(fed), then, post, comb)
                self.state.resid[batch.rows] = batch.packed(resid)
                self.state.pre[batch.rows] = batch.packed(pre)

    @torch.inference_mode()
    def leave(self) -> None:
        """The final norm and the logits, where they are wanted."""
        cfg, reader = self.source.cfg, self.source.reader
        _, norm, head = layout.outer(cfg)
        self.source.fill(self.model, [norm])
        place = self.source.shards.place(head.name)
        raw = reader.raw(place) if "hook_logits" in self.sites else None
        with self._watched(AFTER) as sink:
            for batch in self._each(sink):
                resid, pre = batch.padded(self.state.resid), batch.padded(self.state.pre)
                normalised = self.model.ln_final(streams.read(resid, pre))
                if raw is not None:
                    starts = range(0, cfg.d_vocab, VOCABULARY_ROWS)
                    parts = (
                        numbers(raw[s : s + VOCABULARY_ROWS].reshape(-1, place.row_bytes), place)
                        for s in starts
                    )
                    self.model.hook_logits(unembed(normalised, parts))


def _addresses(model: DeepSeekV41, batch: Batch, layer: int) -> Int64[Tensor, "batch token column"]:
    rows = model.rows_of(model.memory_rows(batch.tokens, model.remembered(batch.tokens, batch.alive)), layer)
    assert rows is not None
    return rows


def _experts(
    source: Source, layer: int, chosen: Int64[Tensor, "token choice"]
) -> Iterator[tuple[int, Expert]]:
    """The experts that some token chose, the next one being read while the last is used."""
    used = torch.unique(chosen).tolist()
    with ThreadPoolExecutor(1) as ahead:
        pending: Future[Expert] | None = None
        for place, number in enumerate(used):
            expert = source.expert(layer, number) if pending is None else pending.result()
            after = used[place + 1 : place + 2]
            pending = ahead.submit(source.expert, layer, after[0]) if after else None
            yield number, expert


def _add_expert(
    routed: Float[Tensor, "token d_model"],
    expert: Expert,
    number: int,
    *,
    read: Float[Tensor, "token d_model"],
    chosen: Int64[Tensor, "token choice"],
    gains: Float[Tensor, "token choice"],
) -> None:
    """Add what an expert makes of the tokens that chose it."""
    tokens, choices = (chosen == number).nonzero(as_tuple=True)
    for token, choice in zip(tokens.split(_ROWS), choices.split(_ROWS), strict=True):
        routed.index_add_(0, token, expert(read[token], gains[token, choice]))


def _grouped(batches: Sequence[Batch], *, columns: int) -> Iterator[list[Batch]]:
    """Consecutive batches with about as many addresses as may be held at a time."""
    group, held = list[Batch](), 0
    for batch in batches:
        addresses = batch.tokens.numel() * columns
        if group and held + addresses > _ADDRESSES:
            yield group
            group, held = [], 0
        group.append(batch)
        held += addresses
    yield group
