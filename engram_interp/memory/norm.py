"""Root-mean-square normalisation with one weight vector per residual stream."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram_interp.memory.config import NormKind


class StreamRMSNorm(nn.Module):
    """``x / sqrt(mean(x²) + eps)`` over d_model, times a weight per stream.

    Args:
        n_streams: Residual streams, each with its own weight.
        d_model: Width that is normalised.
        eps: Added to the mean square.
        kind: "rms" multiplies by the weight (starts at 1), "zero_centred" by 1 + weight (starts at 0).
    """

    def __init__(self, n_streams: int, d_model: int, *, eps: float, kind: NormKind) -> None:
        super().__init__()
        self.eps = eps
        self.zero_centred = kind == "zero_centred"
        start = torch.zeros if self.zero_centred else torch.ones
        self.weight = nn.Parameter(start(n_streams, d_model))

    @property
    def gain(self) -> Float[Tensor, "stream d_model"]:
        """What the normalised input is multiplied by."""
        return 1 + self.weight if self.zero_centred else self.weight

    def forward(
        self, x: Float[Tensor, "batch token stream d_model"]
    ) -> Float[Tensor, "batch token stream d_model"]:
        """Normalised and scaled input, same shape."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.gain
