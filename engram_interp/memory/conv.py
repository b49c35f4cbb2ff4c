"""The short causal convolution after the gate (paper section 2.3)."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram_interp.memory.config import EngramConfig
from engram_interp.memory.norm import StreamRMSNorm


class ShortConv(nn.Module):
    """Depthwise dilated causal convolution: ``silu(conv(rms_norm(x)))``.

    A read at token t reaches t, t + δ, t + 2δ, … (δ the dilation), which is why turning one token's
    memory off moves later positions too. It starts at zero: an untrained memory writes the gated
    value only.
    """

    def __init__(self, config: EngramConfig, *, d_model: int, n_streams: int) -> None:
        super().__init__()
        channels = n_streams * d_model
        self.reach = config.reach
        self.norm = StreamRMSNorm(n_streams, d_model, eps=config.conv_norm_eps, kind=config.norm)
        self.conv = nn.Conv1d(
            channels,
            channels,
            config.conv_kernel,
            groups=channels,
            dilation=config.dilation,
            bias=False,
        )
        nn.init.zeros_(self.conv.weight)

    def forward(
        self, gated: Float[Tensor, "batch token stream d_model"]
    ) -> Float[Tensor, "batch token stream d_model"]:
        """What the convolution adds to the gated value, same shape."""
        x = rearrange(self.norm(gated), "batch token stream d_model -> batch (stream d_model) token")
        x = functional.silu(self._depthwise(functional.pad(x, (self.reach, 0))))
        return rearrange(
            x, "batch (stream d_model) token -> batch token stream d_model", stream=gated.shape[2]
        )

    def _depthwise(self, x: Float[Tensor, "batch channel padded"]) -> Float[Tensor, "batch channel token"]:
        # A sum of shifted copies: on CPU many times faster than torch's grouped conv1d, equal to rounding.
        if x.is_cuda:
            out: Tensor = self.conv(x)
            return out
        step, length = self.conv.dilation[0], x.shape[-1] - self.reach
        taps = self.conv.weight[:, 0].unbind(-1)
        parts = [tap[:, None] * x[..., i * step : i * step + length] for i, tap in enumerate(taps)]
        return torch.stack(parts).sum(0)
