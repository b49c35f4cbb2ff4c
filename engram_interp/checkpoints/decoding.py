"""Numbers stored in eight and four bits, looked up in tables: exact, and faster than torch's conversions.

fp8 is e4m3 (four exponent bits, three of mantissa, no infinity), fp4 is e2m1, two values a byte with the low
nibble first. Each block of 32 shares a scale 2^(byte - 127) (E8M0, byte 255 is NaN).
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from engram_interp.errors import DamagedFileError

BLOCK = 32
"""Numbers along an axis that share a scale."""
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""Values of the sixteen fp4 codes."""

_CHUNK = 1 << 19
"""Pairs of bytes that are looked up at a time: numpy makes their indices eight bytes wide."""


@cache
def e4m3_values() -> Float[np.ndarray, " code"]:
    """Value of every fp8 code, float32."""
    return _all_codes().view(torch.float8_e4m3fn).float().numpy()


@cache
def e8m0_values() -> Float[np.ndarray, " code"]:
    """Value of every scale code, float32; the smallest, 2⁻¹²⁷, is subnormal."""
    return _all_codes().view(torch.float8_e8m0fnu).float().numpy()


def _all_codes() -> UInt8[Tensor, " code"]:
    return torch.arange(256, dtype=torch.uint8)


@cache
def _e4m3_pairs() -> np.ndarray:
    """Of two bytes read as one uint16 (the first is the low one), both values as one item."""
    code = np.arange(1 << 16)
    values = e4m3_values()
    return np.stack([values[code & 255], values[code >> 8]], axis=-1).view(np.uint64)[:, 0]


@cache
def _e2m1_quads() -> np.ndarray:
    """Of two bytes read as one uint16, all four values as one item of 16 bytes."""
    code = np.arange(1 << 16)
    table = np.asarray(E2M1, np.float32)
    values = np.stack([table[(code >> shift) & 15] for shift in (0, 4, 8, 12)], axis=-1)
    return values.view(np.complex128)[:, 0]


def _looked_up(
    raw: UInt8[np.ndarray, "..."], table: np.ndarray, per_byte: int
) -> Float[np.ndarray, " value"]:
    """Values of all bytes in order, two bytes at a time."""
    flat = np.ascontiguousarray(raw).reshape(-1)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    codes = flat.view(np.uint16)
    out = torch.empty(flat.size * per_byte).numpy()  # torch's memory is aligned for its products
    items = out.view(table.dtype)
    for start in range(0, len(codes), _CHUNK):
        part = slice(start, start + _CHUNK)
        np.take(table, codes[part], out=items[part], mode="clip")  # "raise" would copy the output
    return out[: raw.size * per_byte]


def fp8(raw: UInt8[np.ndarray, "row column"], scale: UInt8[np.ndarray, "row_block column_block"]) -> Tensor:
    """A weight stored as fp8 with one scale per 32 × 32 block, float32.

    Args:
        raw: The codes.
        scale: Scale codes; blocks at the edges may be smaller.

    Raises:
        DamagedFileError: If the scales are not those of the weight's blocks.
    """
    _check(scale.shape, tuple(-(-n // BLOCK) for n in raw.shape))
    values = _looked_up(raw, _e4m3_pairs(), 1).reshape(raw.shape)
    by_row = np.repeat(e8m0_values()[scale], BLOCK, axis=0)[: len(raw)]
    return _scaled(values, by_row)


def fp8_rows(raw: UInt8[np.ndarray, "row column"], scale: UInt8[np.ndarray, "row column_block"]) -> Tensor:
    """Rows stored as fp8 with one scale per row and 32 columns, float32.

    Raises:
        DamagedFileError: If the scales are not those of the rows.
    """
    _check(scale.shape, (len(raw), -(-raw.shape[1] // BLOCK)))
    return _scaled(_looked_up(raw, _e4m3_pairs(), 1).reshape(raw.shape), e8m0_values()[scale])


def fp4(raw: UInt8[np.ndarray, "row byte"], scale: UInt8[np.ndarray, "row column_block"]) -> Tensor:
    """A weight stored as fp4 with one scale per row and 32 columns, float32 `[row, 2 · byte]`.

    Raises:
        DamagedFileError: If the scales are not those of the rows.
    """
    _check(scale.shape, (len(raw), -(-2 * raw.shape[1] // BLOCK)))
    values = _looked_up(raw, _e2m1_quads(), 2).reshape(len(raw), -1)
    return _scaled(values, e8m0_values()[scale])


def _check(found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        raise DamagedFileError(
            f"A weight in blocks of {BLOCK} wants scales {list(wanted)}, got {list(found)}; the file is of "
            "another layout."
        )


def _scaled(
    values: Float[np.ndarray, "row column"], scale: Float[np.ndarray, "row column_block"]
) -> Float[Tensor, "row column"]:
    """The values times the scale of their 32 columns, in place; the last block may be narrower."""
    whole = values.shape[1] // BLOCK * BLOCK
    out, factor = torch.from_numpy(values), torch.from_numpy(scale)
    out[:, :whole].unflatten(1, (-1, BLOCK)).mul_(factor[:, : whole // BLOCK, None])
    if whole < values.shape[1]:
        out[:, whole:].mul_(factor[:, -1:])
    return out
