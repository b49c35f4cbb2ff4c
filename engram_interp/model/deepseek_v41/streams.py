"""Lagged hyper-connections: how a sublayer writes to M streams, and how the next one reads them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.rows import each, row_linear


class LaggedHyperConnection(nn.Module):
    """From the streams before a sublayer: where its output goes, and what the *next* sublayer reads.

    `hook_pre` (M weights in (0, 1)) is used by the next sublayer, `hook_post` (M weights in (0, 2)) and
    `hook_comb` (M × M, nearly doubly stochastic, `[source, target]`) by this one.
    """

    def __init__(self, cfg: V41Config) -> None:
        super().__init__()
        m = cfg.n_streams
        self.n_streams, self.steps = m, cfg.sinkhorn_steps
        self.rms_eps, self.eps = cfg.rms_eps, cfg.hc_eps
        self.project = nn.Parameter(torch.empty(2 * m + m * m, m * cfg.d_model))
        self.base = nn.Parameter(torch.empty(2 * m + m * m))
        self.scale = nn.Parameter(torch.empty(3))
        self.hook_pre, self.hook_post, self.hook_comb = HookPoint(), HookPoint(), HookPoint()

    def forward(
        self, streams: Float[Tensor, "batch token stream d_model"]
    ) -> tuple[
        Float[Tensor, "batch token stream"],
        Float[Tensor, "batch token stream"],
        Float[Tensor, "batch token source stream"],
    ]:
        """The weights `pre`, `post` and `comb`."""
        m, flat = self.n_streams, streams.flatten(-2)
        flat = flat * torch.rsqrt(flat.square().mean(-1, keepdim=True) + self.rms_eps)
        pre, post, comb = row_linear(flat, self.project).split([m, m, m * m], dim=-1)
        base_pre, base_post, base_comb = self.base.split([m, m, m * m])
        pre = each(torch.sigmoid, pre * self.scale[0] + base_pre) + self.eps
        post = 2 * each(torch.sigmoid, post * self.scale[1] + base_post)
        mix = self._balanced((comb * self.scale[2] + base_comb).unflatten(-1, (m, m)))
        return self.hook_pre(pre), self.hook_post(post), self.hook_comb(mix)

    def _balanced(
        self, logits: Float[Tensor, "*batch source stream"]
    ) -> Float[Tensor, "*batch source stream"]:
        mix = torch.softmax(logits, dim=-1) + self.eps
        mix = mix / (mix.sum(-2, keepdim=True) + self.eps)
        for _ in range(self.steps - 1):
            mix = mix / (mix.sum(-1, keepdim=True) + self.eps)
            mix = mix / (mix.sum(-2, keepdim=True) + self.eps)
        return mix


def read(
    streams: Float[Tensor, "*batch stream d_model"], pre: Float[Tensor, "*batch stream"]
) -> Float[Tensor, "*batch d_model"]:
    """The weighted sum of the streams that a sublayer sees, added in their order."""
    out = pre[..., 0, None] * streams[..., 0, :]
    for m in range(1, streams.shape[-2]):
        out = out + pre[..., m, None] * streams[..., m, :]
    return out


def write(
    streams: Float[Tensor, "*batch stream d_model"],
    output: Float[Tensor, "*batch d_model"],
    post: Float[Tensor, "*batch stream"],
    comb: Float[Tensor, "*batch source stream"],
) -> Float[Tensor, "*batch stream d_model"]:
    """The streams after mixing among themselves and receiving a sublayer's output."""
    mixed = [post[..., m, None] * output + read(streams, comb[..., m]) for m in range(streams.shape[-2])]
    return torch.stack(mixed, dim=-2)
