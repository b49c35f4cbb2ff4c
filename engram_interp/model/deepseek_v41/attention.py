"""Latent attention over a sliding window and over chosen compressed entries, with a sink.

One latent a token is key and value of all heads at once. Every prompt is attended by itself, in chunks of
queries that depend on its own length only, so that its numbers do not depend on the batch it is in.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformer_lens.hook_points import HookPoint

from engram_interp.model.deepseek_v41 import fake_quantise
from engram_interp.model.deepseek_v41.compressor import Compressor
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.indexer import Indexer
from engram_interp.model.deepseek_v41.rope import frequencies, rotate
from engram_interp.model.deepseek_v41.rows import RMSNorm, RowLinear, aligned, row_linear
from engram_interp.model.deepseek_v41.shared import Shared

_CHUNK = 128
_SCORES = 1 << 24
"""Attention scores held at a time, about: 64 MB."""


def _hooked(point: HookPoint) -> bool:
    return bool(point._forward_hooks or point._backward_hooks)


class LatentAttention(nn.Module):
    """Attention of one layer; `hook_index_selected` and `hook_index_candidates` are `[batch token entry]`.

    Those two are uint8, 1 at entries that the token attends to (that later choices may be among); they exist
    on layers that choose.
    """

    def __init__(self, cfg: V41Config, layer: int) -> None:
        super().__init__()
        self.cfg, self.ratio = cfg, cfg.ratios[layer]
        self.q_down, self.q_norm = RowLinear(cfg.d_model, cfg.q_rank), RMSNorm(cfg.q_rank, cfg.rms_eps)
        self.q_up = RowLinear(cfg.q_rank, cfg.n_heads * cfg.d_head)
        self.kv, self.kv_norm = RowLinear(cfg.d_model, cfg.d_head), RMSNorm(cfg.d_head, cfg.rms_eps)
        self.o_down = nn.Parameter(
            torch.empty(cfg.o_groups * cfg.o_rank, cfg.n_heads * cfg.d_head // cfg.o_groups)
        )
        self.o_up = RowLinear(cfg.o_groups * cfg.o_rank, cfg.d_model)
        self.sink = nn.Parameter(torch.empty(cfg.n_heads))
        self.compressor = Compressor(cfg, self.ratio) if layer in cfg.kv_sources else None
        self.indexer = Indexer(cfg, layer) if layer in cfg.index_sources else None
        if layer == cfg.candidate_source:
            self.hook_index_candidates = HookPoint()
        if self.indexer is not None:
            self.hook_index_selected = HookPoint()

    def forward(
        self, x: Float[Tensor, "batch token d_model"], lengths: Sequence[int], shared: Sequence[Shared]
    ) -> tuple[Float[Tensor, "batch token d_model"], list[Shared]]:
        """Attention output, zero at padding, and what later layers share.

        Args:
            x: Normalised input.
            lengths: Tokens of each prompt; the rest is padding.
            shared: Of each prompt, from the layers before.
        """
        frequency = frequencies(self.cfg, compressed=self.ratio > 0).to(x.device)
        prompts = [aligned(row[:length]) for row, length in zip(x, lengths, strict=True)]
        queries = [self.q_norm(self.q_down(prompt)) for prompt in prompts]
        after = [self._share(*each, frequency) for each in zip(prompts, queries, shared, strict=True)]
        after = self._shown(after, x.shape[1])
        out = torch.zeros_like(x)
        for row, (prompt, query, given) in enumerate(zip(prompts, queries, after, strict=True)):
            out[row, : len(prompt)] = self._attended(prompt, query, given, frequency)
        return out, after

    def _chunk(self, length: int) -> int:
        """Queries at a time, for a prompt of that length."""
        keys = self.cfg.window + _CHUNK + (length // self.ratio if self.ratio else 0)
        heads = max(self.cfg.n_heads, self.cfg.n_index_heads)
        return min(_CHUNK, max(8, _SCORES // (heads * keys)))

    def _share(self, x: Tensor, query: Tensor, shared: Shared, frequency: Tensor) -> Shared:
        """What is shared after this layer's own compressing and choosing."""
        latent = None if self.compressor is None else self.compressor(x)
        if self.indexer is not None:
            chunk = self._chunk(len(x))
            shared = self.indexer(x, query, latent, shared, frequency, chunk=chunk)
        if latent is None:
            return shared
        positions = torch.arange(len(latent), device=x.device) * self.ratio
        return replace(shared, entries=fake_quantise.fp4_e4m3(rotate(latent, frequency, positions)))

    def _shown(self, shared: list[Shared], width: int) -> list[Shared]:
        """The choices as they come out of their hook points, where those are hooked."""
        for name in ("candidates", "selected"):
            point = getattr(self, f"hook_index_{name}", None)
            if point is None or not _hooked(point):
                continue
            each = [getattr(given, name).byte() for given in shared]
            entries = width // self.ratio
            wide = [nn.functional.pad(one, (0, entries - one.shape[1])) for one in each]
            padded = pad_sequence([*wide, wide[0].new_zeros(width, entries)], batch_first=True)[:-1]
            passed = [
                one[: old.shape[0], : old.shape[1]].bool()
                for one, old in zip(point(padded), each, strict=True)
            ]
            shared = [replace(given, **{name: one}) for given, one in zip(shared, passed, strict=True)]
        return shared

    def _attended(self, x: Tensor, query: Tensor, shared: Shared, frequency: Tensor) -> Tensor:
        every = torch.arange(len(x), device=x.device)
        kv = fake_quantise.fp8(rotate(self.kv_norm(self.kv(x)), frequency, every))
        outputs, chunk = [], self._chunk(len(x))
        for start in range(0, len(x), chunk):
            stop = min(start + chunk, len(x))
            keys, mask = self._keys(kv, shared, start, stop)
            q = rearrange(
                self.q_up(query[start:stop]), "token (head d) -> head token d", head=self.cfg.n_heads
            )
            z = self._mixed(rotate(q, frequency, every[start:stop]), keys, mask)
            z = rotate(z, frequency, every[start:stop], back=True)
            outputs.append(self._projected(rearrange(z, "head token d -> token (head d)")))
        return torch.cat(outputs)

    def _keys(
        self, kv: Tensor, shared: Shared, start: int, stop: int
    ) -> tuple[Float[Tensor, "key d_head"], Bool[Tensor, "token key"]]:
        """The keys that queries start … stop - 1 may see, and which of them each does."""
        first = max(0, start - self.cfg.window + 1)
        ago = torch.arange(start, stop, device=kv.device)[:, None] - torch.arange(
            first, stop, device=kv.device
        )
        near = (ago >= 0) & (ago < self.cfg.window)
        if not self.ratio or shared.entries is None or shared.selected is None:
            return kv[first:stop], near
        seen = stop // self.ratio
        return (
            torch.cat([kv[first:stop], shared.entries[:seen]]),
            torch.cat([near, shared.selected[start:stop, :seen]], dim=1),
        )

    def _mixed(
        self,
        q: Float[Tensor, "head token d_head"],
        keys: Float[Tensor, "key d_head"],
        mask: Bool[Tensor, "token key"],
    ) -> Float[Tensor, "head token d_head"]:
        """Values weighted by attention; the sink takes its share of the weight and gives nothing."""
        scores = (q.flatten(0, 1) @ keys.mT).unflatten(0, q.shape[:2]) * self.cfg.d_head**-0.5
        scores = scores.masked_fill(~mask, -torch.inf)
        sink = self.sink[:, None, None].expand(-1, q.shape[1], 1)
        weights = torch.softmax(torch.cat([scores, sink], dim=-1), dim=-1)[..., :-1]
        mixed: Tensor = (weights.flatten(0, 1) @ keys).unflatten(0, q.shape[:2])
        return mixed

    def _projected(self, z: Float[Tensor, "token channel"]) -> Float[Tensor, "token d_model"]:
        """The heads in groups, each through its own low-rank map, then all through one."""
        groups = self.cfg.o_groups
        parts = zip(z.chunk(groups, dim=1), self.o_down.chunk(groups), strict=True)
        output: Tensor = self.o_up(torch.cat([row_linear(part, weight) for part, weight in parts], dim=1))
        return output
