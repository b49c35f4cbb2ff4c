"""Rounding to few bits and back, which is part of V4.1's forward pass even in float32.

The window's keys go through fp8, the compressed ones and the indexer's operands through fp4. The scales are
powers of two (E8M0), or e4m3 numbers for the compressed keys.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_FP8_LARGEST = 448.0
_FP4_LARGEST = 6.0


def _power_above(x: Float[Tensor, "*block"]) -> Float[Tensor, "*block"]:
    """The least power of two that is at least x, for x > 0."""
    mantissa, exponent = torch.frexp(x)
    power: Tensor = torch.ldexp(torch.ones_like(x), exponent - (mantissa == 0.5).int())
    return power


def _to_e2m1(x: Float[Tensor, "*value"]) -> Float[Tensor, "*value"]:
    """The nearest of 0, .5, 1, 1.5, 2, 3, 4, 6 with x's sign, ties to the even code; |x| is at most 6."""
    size = x.abs()
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return torch.round(x / step) * step + 0.0  # no negative zeros


def fp8(x: Float[Tensor, "*row width"], *, block: int = 32) -> Float[Tensor, "*row width"]:
    """Through e4m3 with a power-of-two scale per block; widths without whole blocks pass as they are."""
    if x.shape[-1] % block:
        return x
    blocks = x.unflatten(-1, (-1, block))
    largest = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-4)
    scale = _power_above(largest * (1 / _FP8_LARGEST))
    small = (blocks / scale).clamp(-_FP8_LARGEST, _FP8_LARGEST).to(torch.float8_e4m3fn)
    back: Tensor = (small.float() * scale).flatten(-2)
    return back


def fp4(x: Float[Tensor, "*row width"], *, block: int = 32) -> Float[Tensor, "*row width"]:
    """Through e2m1 with a power-of-two scale per block; widths without whole blocks pass as they are."""
    if x.shape[-1] % block:
        return x
    blocks = x.unflatten(-1, (-1, block))
    largest = blocks.abs().amax(-1, keepdim=True).clamp_min(_FP4_LARGEST * 2.0**-126)
    return _through_fp4(blocks, _power_above(largest * (1 / _FP4_LARGEST)))


def fp4_e4m3(x: Float[Tensor, "*row width"], *, block: int = 16) -> Float[Tensor, "*row width"]:
    """Through e2m1 with an e4m3 scale per block; widths without whole blocks pass as they are."""
    if x.shape[-1] % block:
        return x
    blocks = x.unflatten(-1, (-1, block))
    largest = blocks.abs().amax(-1, keepdim=True).clamp_min(_FP4_LARGEST * 2.0**-9)
    scale = (largest / _FP4_LARGEST).clamp_max(_FP8_LARGEST).to(torch.float8_e4m3fn).float()
    return _through_fp4(blocks, scale)


def _through_fp4(
    blocks: Float[Tensor, "*row block width"], scale: Float[Tensor, "*row block 1"]
) -> Float[Tensor, "*row channel"]:
    small = _to_e2m1((blocks / scale).clamp(-_FP4_LARGEST, _FP4_LARGEST))
    back: Tensor = (small * scale).flatten(-2)
    return back
