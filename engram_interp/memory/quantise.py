"""Table rows in eight bits, stored as DeepSeek-V4.1 stores them: e4m3 with a power-of-two scale."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from engram_interp.errors import InputError

BLOCK = 32
"""Channels of a row that share one scale."""
_LARGEST = 448.0
"""Largest finite e4m3 value."""


def n_scales(d_row: int) -> int:
    """Scales of a row; the last may be of fewer than 32 channels."""
    return -(-d_row // BLOCK)


def quantise_rows(
    weight: Float[Tensor, "row d_row"],
) -> tuple[Float[Tensor, "row d_row"], Shaped[Tensor, "row block"]]:
    """Rows as float8_e4m3fn and one float8_e8m0fnu scale per 32 channels.

    The scale is the least power of two that brings the block's largest value to 448 or below. A block
    of zeros gets scale 1. Relative error of a value is at most 2⁻⁴ (e4m3 has three mantissa bits)
    unless it is smaller than 2⁻⁶ of the scale.

    Raises:
        InputError: If rows wider than 32 channels do not split into blocks of 32.
    """
    if weight.shape[-1] > BLOCK and weight.shape[-1] % BLOCK:
        raise InputError(
            f"Eight-bit rows share a scale per {BLOCK} channels, so a row wants a width that {BLOCK} "
            f"divides, got {weight.shape[-1]}; store the tables in bfloat16."
        )
    blocks = weight.float().unflatten(-1, (-1, min(BLOCK, weight.shape[-1])))
    largest = blocks.abs().amax(-1)
    exponent = torch.where(largest > 0, (largest / _LARGEST).log2().ceil(), 0.0).clamp(-127, 127)
    scale = torch.exp2(exponent)
    values = (blocks / scale[..., None]).clamp(-_LARGEST, _LARGEST)
    return values.flatten(-2).to(torch.float8_e4m3fn), scale.to(torch.float8_e8m0fnu)


def dequantise_rows(
    values: Float[Tensor, "row d_row"], scale: Shaped[Tensor, "row block"]
) -> Float[Tensor, "row d_row"]:
    """The float32 rows that `quantise_rows` (or a V4.1 table) stands for.

    Raises:
        InputError: If there is not one row of scales a row, or not one for each of its blocks.
    """
    if scale.shape[:-1] != values.shape[:-1] or scale.shape[-1] != n_scales(values.shape[-1]):
        raise InputError(
            f"Eight-bit rows {list(values.shape)} want scales for the same rows and blocks of "
            f"{BLOCK} channels, got {list(scale.shape)}."
        )
    by_channel = scale.float().repeat_interleave(BLOCK, dim=-1)[..., : values.shape[-1]]
    return values.float() * by_channel
