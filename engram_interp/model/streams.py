"""Several residual streams, mixed on a manifold (mHC, arXiv 2512.24880)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from engram_interp.model.config import ModelConfig


def sinkhorn(logits: Float[Tensor, "*batch row column"], steps: int) -> Float[Tensor, "*batch row column"]:
    """A nearly doubly stochastic matrix: exp(logits), rows and columns normalised in turn."""
    mix = (logits - logits.amax((-2, -1), keepdim=True)).exp()
    for _ in range(steps):
        mix = mix / mix.sum(-1, keepdim=True)
        mix = mix / mix.sum(-2, keepdim=True)
    return mix


class HyperConnection(nn.Module):
    """How one sublayer reads from and writes to M streams.

    From the normalised streams come `pre` (M weights in (0, 1): what the sublayer reads), `post`
    (M weights in (0, 2): where its output goes) and `comb` (M × M, doubly stochastic: how the
    streams mix among themselves).
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        m = cfg.n_streams
        self.n_streams, self.steps, self.eps = m, cfg.sinkhorn_steps, cfg.rms_eps
        self.project = nn.Linear(m * cfg.d_model, 2 * m + m * m, bias=False)
        self.scale = nn.Parameter(torch.full((3,), 0.01))
        neutral_pre = torch.full((m,), math.log(1 / m / (1 - 1 / m)) if m > 1 else 30.0)
        self.base = nn.Parameter(torch.cat([neutral_pre, torch.zeros(m), 5 * torch.eye(m).flatten()]))
        self.hook_pre, self.hook_post, self.hook_comb = HookPoint(), HookPoint(), HookPoint()

    def forward(
        self, streams: Float[Tensor, "batch token stream d_model"]
    ) -> tuple[
        Float[Tensor, "batch token stream"],
        Float[Tensor, "batch token stream"],
        Float[Tensor, "batch token stream source"],
    ]:
        """The weights `pre`, `post` and `comb` for these streams."""
        m, flat = self.n_streams, streams.flatten(-2)
        flat = flat * torch.rsqrt(flat.square().mean(-1, keepdim=True) + self.eps)
        pre, post, comb = self.project(flat).split([m, m, m * m], dim=-1)
        base_pre, base_post, base_comb = self.base.split([m, m, m * m])
        pre = self.hook_pre(torch.sigmoid(self.scale[0] * pre + base_pre))
        post = self.hook_post(2 * torch.sigmoid(self.scale[1] * post + base_post))
        logits = (self.scale[2] * comb + base_comb).unflatten(-1, (m, m))
        return pre, post, self.hook_comb(sinkhorn(logits, self.steps))


def read(
    streams: Float[Tensor, "*batch stream d_model"], pre: Float[Tensor, "*batch stream"]
) -> Float[Tensor, "*batch d_model"]:
    """The weighted sum of the streams that a sublayer sees."""
    return (streams * pre[..., None]).sum(-2)


def write(
    streams: Float[Tensor, "batch token stream d_model"],
    output: Float[Tensor, "batch token d_model"],
    post: Float[Tensor, "batch token stream"],
    comb: Float[Tensor, "batch token stream source"],
) -> Float[Tensor, "batch token stream d_model"]:
    """The streams after mixing among themselves and receiving a sublayer's output."""
    return comb @ streams + post[..., None] * output[..., None, :]


class Readout(nn.Module):
    """The model's own collapse of its streams before the final norm: a learnt sigmoid mix."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        m = cfg.n_streams
        self.eps = cfg.rms_eps
        self.project = nn.Linear(m * cfg.d_model, m, bias=False)
        self.scale = nn.Parameter(torch.tensor(0.01))
        self.base = nn.Parameter(torch.full((m,), math.log(1 / m / (1 - 1 / m)) if m > 1 else 30.0))
        self.hook_pre = HookPoint()

    def forward(self, streams: Float[Tensor, "*batch stream d_model"]) -> Float[Tensor, "*batch d_model"]:
        """One residual vector per token."""
        flat = streams.flatten(-2)
        flat = flat * torch.rsqrt(flat.square().mean(-1, keepdim=True) + self.eps)
        return read(streams, self.hook_pre(torch.sigmoid(self.scale * self.project(flat) + self.base)))
