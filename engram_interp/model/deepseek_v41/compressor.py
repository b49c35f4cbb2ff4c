"""Several tokens' keys pooled into one entry."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.rows import RMSNorm, RowLinear


class Compressor(nn.Module):
    """One latent for each group of `ratio` consecutive tokens, weighted by a softmax gate per channel.

    The latents are not yet rotated: the index keys are made of them as they are. With a ratio of 1 each token
    is a group and there is no gate.
    """

    def __init__(self, cfg: V41Config, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.kv = RowLinear(cfg.d_model, cfg.d_head)
        self.gate = RowLinear(cfg.d_model, cfg.d_head) if ratio > 1 else None
        self.norm = RMSNorm(cfg.d_head, cfg.rms_eps)

    def forward(self, x: Float[Tensor, "token d_model"]) -> Float[Tensor, "entry d_head"]:
        """Latents of the groups that are complete; none for a text shorter than a group."""
        whole = len(x) // self.ratio * self.ratio
        kv: Tensor = self.kv(x[:whole])
        if self.gate is not None:
            groups = kv.unflatten(0, (-1, self.ratio)) if whole else kv[:, None]
            gate = self.gate(x[:whole]).view_as(groups)
            kv = (groups * torch.softmax(gate, dim=1)).sum(1)
        latent: Tensor = self.norm(kv)
        return latent
