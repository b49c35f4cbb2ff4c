"""The types that a native checkpoint's tensors are stored in, and the float tensors they stand for."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from engram_interp.errors import DamagedFileError
from engram_interp.memory.quantise import dequantise_rows, quantise_rows

Dtype = Literal["float32", "bfloat16", "int8"]
Tables = Literal["float32", "bfloat16", "float8_e4m3"]

BLOCK = 32
"""Neighbours in a row of an int8 tensor that share one scale."""

_FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.bfloat16}
_LARGEST = 127
_TABLE, _TABLE_SCALE = "engram.table.weight", "engram.table.scale"
_SCALE = ".int8_scale"


def stored(tensors: Mapping[str, Tensor], *, dtype: Dtype, tables: Tables) -> dict[str, Tensor]:
    """Tensors as they go to the file; what has two parts there is two tensors.

    Args:
        tensors: A module's state.
        dtype: Of everything but the tables. With "int8", whatever is no matrix of rows that `BLOCK`
            divides stays bfloat16.
        tables: Of the table rows.

    Raises:
        InputError: If rows of a table cannot be stored in eight bits (`quantise_rows`).
    """
    kept: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name.endswith(_TABLE) and tables == "float8_e4m3":
            kept[name], kept[name.replace(_TABLE, _TABLE_SCALE)] = quantise_rows(value)
        elif name.endswith(_TABLE):
            kept[name] = value.to(_FLOATS[tables])
        elif dtype == "int8" and value.is_floating_point() and value.ndim > 1 and not value.shape[-1] % BLOCK:
            kept[name], kept[name + _SCALE] = to_int8(value)
        else:
            kept[name] = value.to(_FLOATS[dtype]) if value.is_floating_point() else value
    return kept


def restored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `stored` was given, but for rounding; tensors in one part come back as they are.

    Raises:
        DamagedFileError: If an int8 tensor's scales are missing or of another shape.
        InputError: If a table's are of another shape (`dequantise_rows`).
    """
    back = dict(tensors)
    for name in [k for k in tensors if k.endswith(_TABLE_SCALE)]:
        weight = name.replace(_TABLE_SCALE, _TABLE)
        if weight in back:
            back[weight] = dequantise_rows(back[weight], back.pop(name))
    for name in [k for k, value in tensors.items() if value.dtype == torch.int8]:
        back[name] = from_int8(back[name], back.pop(name + _SCALE, None), name=name)
    return back


def to_int8(
    weight: Float[Tensor, "... width"],
) -> tuple[Int8[Tensor, "... width"], Float[Tensor, "... block"]]:
    """Whole numbers from -127 to 127 and a bfloat16 scale for each 32 neighbours of the last dimension.

    A value's error is at most half its block's scale, which is the block's largest value / 127; the scale
    is rounded up, so that nothing is cut off.
    """
    blocks = weight.float().unflatten(-1, (-1, BLOCK))
    exact = blocks.abs().amax(-1) / _LARGEST
    near = exact.bfloat16()
    scale = torch.where(near.float() < exact, torch.nextafter(near, torch.tensor(torch.inf).bfloat16()), near)
    whole = (blocks / scale.float().clamp_min(torch.finfo(torch.float32).tiny)[..., None]).round()
    return whole.flatten(-2).to(torch.int8), scale


def from_int8(
    whole: Int8[Tensor, "... width"], scale: Float[Tensor, "... block"] | None, *, name: str = "weight"
) -> Float[Tensor, "... width"]:
    """The float32 values that `to_int8` stands for.

    Raises:
        DamagedFileError: If the scales are missing, or not one for each block; names the tensor.
    """
    wanted = [*whole.shape[:-1], whole.shape[-1] // BLOCK]
    if scale is None or list(scale.shape) != wanted or whole.shape[-1] % BLOCK:
        raise DamagedFileError(
            f"{name} is stored in eight bits and wants scales {wanted}, got "
            f"{'none' if scale is None else list(scale.shape)}; fetch the file again."
        )
    blocks: Tensor = whole.float().unflatten(-1, (-1, BLOCK))
    return (blocks * scale.float()[..., None]).flatten(-2)
