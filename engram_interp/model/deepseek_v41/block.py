"""One block: memory, attention, feed-forward, each reading what the sublayer before it left to read."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from engram_interp.memory.config import EngramConfig
from engram_interp.memory.module import Engram
from engram_interp.model.deepseek_v41 import streams
from engram_interp.model.deepseek_v41.attention import LatentAttention, _hooked
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.experts import MixtureOfExperts
from engram_interp.model.deepseek_v41.rows import RMSNorm, RowLinear, each
from engram_interp.model.deepseek_v41.shared import Shared
from engram_interp.model.deepseek_v41.streams import LaggedHyperConnection


class RowEngram(Engram):
    """Our memory as V4.1 has it, each token by itself (see `rows`)."""

    def __init__(self, engram: EngramConfig, *, d_model: int, n_streams: int, n_rows: int) -> None:
        super().__init__(engram, d_model=d_model, n_streams=n_streams, n_rows=n_rows)
        self.key = RowLinear(engram.d_memory, n_streams * d_model)
        self.value = RowLinear(engram.d_memory, d_model)

    def _opened(self, logit: Float[Tensor, "batch token stream"]) -> Float[Tensor, "batch token stream"]:
        return each(torch.sigmoid, logit)


class Block(nn.Module):
    """Reads and writes M streams, in three steps that can be run one after the other for many batches.

    `hook_resid_read` is the residual after the block as the next sublayer will read it: the mix of the
    streams that this block's feed-forward computed.
    """

    def __init__(self, cfg: V41Config, layer: int) -> None:
        super().__init__()
        self.hook_out_is_single_residual_stream = False
        self.hook_resid_pre = HookPoint()
        self.engram: Engram | None = None
        if cfg.engram is not None and layer in cfg.memory_layers:
            rows = cfg.table_rows[cfg.memory_layers.index(layer)]
            self.engram = RowEngram(cfg.engram, d_model=cfg.d_model, n_streams=cfg.n_streams, n_rows=rows)
            self.hook_engram_out = HookPoint()
        self.hc_attn, self.attn_norm = LaggedHyperConnection(cfg), RMSNorm(cfg.d_model, cfg.rms_eps)
        self.attn = LatentAttention(cfg, layer)
        self.hook_attn_out, self.hook_resid_mid = HookPoint(), HookPoint()
        self.hc_mlp, self.mlp_norm = LaggedHyperConnection(cfg), RMSNorm(cfg.d_model, cfg.rms_eps)
        self.mlp = MixtureOfExperts(cfg)
        self.hook_mlp_out, self.hook_resid_post, self.hook_resid_read = HookPoint(), HookPoint(), HookPoint()

    def remember(
        self,
        resid: Float[Tensor, "batch token stream d_model"],
        rows: Int64[Tensor, "batch token column"] | None,
        seen: Bool[Tensor, "batch token"],
    ) -> Float[Tensor, "batch token stream d_model"]:
        """The residual after what the memory writes: nothing at tokens that it does not see."""
        resid = self.hook_resid_pre(resid)
        if self.engram is None or rows is None:
            return resid
        written: Tensor = self.hook_engram_out(self.engram(resid, rows, torch.logical_not(seen)))
        return resid + written

    def attend(
        self,
        resid: Float[Tensor, "batch token stream d_model"],
        pre: Float[Tensor, "batch token stream"],
        lengths: Sequence[int],
        shared: Sequence[Shared],
    ) -> tuple[
        Float[Tensor, "batch token stream d_model"], Float[Tensor, "batch token stream"], list[Shared]
    ]:
        """The residual after attention, the mix that the feed-forward reads, and what layers share.

        Args:
            resid: The residual after the memory.
            pre: The mix that the sublayer before computed.
            lengths: Tokens of each prompt.
            shared: Of each prompt.
        """
        then, post, comb = self.hc_attn(resid)
        attended, after = self.attn(self.attn_norm(streams.read(resid, pre)), lengths, shared)
        mid = self.hook_resid_mid(streams.write(resid, self.hook_attn_out(attended), post, comb))
        return mid, then, after

    def feed(
        self,
        mid: Float[Tensor, "batch token stream d_model"],
        pre: Float[Tensor, "batch token stream"],
        alive: Bool[Tensor, "batch token"],
    ) -> tuple[Float[Tensor, "batch token stream d_model"], Float[Tensor, "batch token stream"]]:
        """The residual after the block, and the mix that the next one reads."""
        then, post, comb = self.hc_mlp(mid)
        return self.finish(mid, self.mlp(self.mlp_norm(streams.read(mid, pre)), alive), then, post, comb)

    def finish(
        self, mid: Tensor, fed: Tensor, then: Tensor, post: Tensor, comb: Tensor
    ) -> tuple[Float[Tensor, "batch token stream d_model"], Float[Tensor, "batch token stream"]]:
        """The residual after the feed-forward's output is written, and the mix that the next block reads."""
        resid = self.hook_resid_post(streams.write(mid, self.hook_mlp_out(fed), post, comb))
        if _hooked(self.hook_resid_read):
            self.hook_resid_read(streams.read(resid, then))
        return resid, then
