"""Rotary positions on the trailing channels, adjacent channels paired."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.model.deepseek_v41.config import V41Config, Yarn


def frequencies(cfg: V41Config, *, compressed: bool) -> Float[Tensor, " pair"]:
    """Radians per token of each pair of channels.

    Args:
        cfg: The model.
        compressed: Whether the layer reads compressed entries: those have a base of their own, and YaRN.
    """
    theta = cfg.compress_theta if compressed else cfg.rope_theta
    plain = 1.0 / (theta ** (torch.arange(0, cfg.d_rope, 2, dtype=torch.float32) / cfg.d_rope))
    return _stretched(plain, cfg.yarn, theta) if compressed and cfg.yarn is not None else plain


def _stretched(plain: Float[Tensor, " pair"], yarn: Yarn, theta: float) -> Float[Tensor, " pair"]:
    """YaRN (arXiv 2309.00071): slow pairs divided by the factor, fast ones kept, a ramp between."""
    width = 2 * len(plain)

    def pair_turning(turns: float) -> float:
        """The pair that turns so often within the original context."""
        return width * math.log(yarn.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_turning(yarn.beta_fast)), 0)
    high = min(math.ceil(pair_turning(yarn.beta_slow)), width - 1)
    ramp = (torch.arange(len(plain)) - low) / (high - low if high > low else 0.001)
    slow = ramp.clamp(0, 1)
    return plain / yarn.factor * slow + plain * (1 - slow)


def rotate(
    x: Float[Tensor, "*batch token channel"],
    frequency: Float[Tensor, " pair"],
    positions: Int64[Tensor, " token"],
    *,
    back: bool = False,
) -> Float[Tensor, "*batch token channel"]:
    """Each pair of the trailing channels turned by position times frequency; the others pass.

    Args:
        x: The token axis is the last but one.
        frequency: Radians per token.
        positions: Of the tokens.
        back: Turn the other way.
    """
    angle = positions.float()[:, None] * frequency
    cos, sin = angle.cos(), -angle.sin() if back else angle.sin()
    still, turned = x[..., : -2 * len(frequency)], x[..., -2 * len(frequency) :]
    even, odd = turned[..., 0::2], turned[..., 1::2]
    pairs = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return torch.cat([still, pairs.flatten(-2)], dim=-1)
