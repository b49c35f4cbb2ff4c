"""RMSNorm without a gain, with the hook points TransformerLens's residual tools read."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint


class RMSNormPre(nn.Module):
    """``x / sqrt(mean(x²) + eps)`` over d_model.

    `hook_scale` is the divisor `[batch token 1]`, `hook_normalized` the result.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Normalised input, same shape."""
        scale = self.hook_scale(torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps))
        normalised: Tensor = self.hook_normalized(x / scale)
        return normalised
