"""One transformer block: memory, attention, feed-forward."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from engram_interp.memory.module import Engram
from engram_interp.model.attention import Attention
from engram_interp.model.config import ModelConfig
from engram_interp.model.feedforward import MixtureOfExperts, SwiGLU
from engram_interp.model.norm import RMSNormPre
from engram_interp.model.streams import HyperConnection, read, write


class Block(nn.Module):
    """Reads and writes the residual stream: ``+ engram``, ``+ attn(norm)``, ``+ mlp(norm)``.

    With one stream the residual sites are `[batch token d_model]`; with M they are
    `[batch token stream d_model]` and hyper-connections do the reading and writing.
    """

    def __init__(self, cfg: ModelConfig, *, n_rows: int | None) -> None:
        super().__init__()
        self.n_streams = cfg.n_streams
        # TransformerLens's logit lens asks every block.
        self.hook_out_is_single_residual_stream = cfg.n_streams == 1
        self.engram = (
            None
            if cfg.engram is None or n_rows is None
            else Engram(cfg.engram, d_model=cfg.d_model, n_streams=cfg.n_streams, n_rows=n_rows)
        )
        self.ln1, self.ln2 = RMSNormPre(cfg.rms_eps), RMSNormPre(cfg.rms_eps)
        self.attn = Attention(cfg)
        self.mlp = MixtureOfExperts(cfg) if cfg.n_experts else SwiGLU(cfg.d_model, cfg.d_mlp)
        if cfg.n_streams > 1:
            self.hc_attn, self.hc_mlp = HyperConnection(cfg), HyperConnection(cfg)
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out, self.hook_mlp_out = HookPoint(), HookPoint()
        if self.engram is not None:
            self.hook_engram_out = HookPoint()

    def forward(
        self,
        resid: Float[Tensor, "batch token *stream d_model"],
        rows: Int64[Tensor, "batch token column"] | None,
        alive: Bool[Tensor, "batch token"] | None,
    ) -> Float[Tensor, "batch token *stream d_model"]:
        """The residual after this block.

        Args:
            resid: Residual before it.
            rows: Table addresses where this layer has a memory.
            alive: False at padding; None if there is none.
        """
        resid = self.hook_resid_pre(resid)
        if self.engram is not None and rows is not None:
            resid = resid + self.hook_engram_out(self._memory(resid, rows, alive))
        if self.n_streams == 1:
            mid = resid + self.hook_attn_out(self.attn(self.ln1(resid), alive))
            mid = self.hook_resid_mid(mid)
            post: Tensor = self.hook_resid_post(mid + self.hook_mlp_out(self.mlp(self.ln2(mid))))
            return post
        pre, out, comb = self.hc_attn(resid)
        attended = self.hook_attn_out(self.attn(self.ln1(read(resid, pre)), alive))
        mid = self.hook_resid_mid(write(resid, attended, out, comb))
        pre, out, comb = self.hc_mlp(mid)
        fed = self.hook_mlp_out(self.mlp(self.ln2(read(mid, pre))))
        streams: Tensor = self.hook_resid_post(write(mid, fed, out, comb))
        return streams

    def _memory(self, resid: Tensor, rows: Tensor, alive: Tensor | None) -> Tensor:
        dead = None if alive is None else torch.logical_not(alive)
        streams = resid if self.n_streams > 1 else resid[..., None, :]
        assert self.engram is not None
        written: Tensor = self.engram(streams, rows, dead)
        return written if self.n_streams > 1 else written.squeeze(-2)
