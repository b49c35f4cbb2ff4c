"""Single rows of a table many times larger than memory, read from a cold disk at the speed of its queue.

A mapped file faults in one page after the other, each waiting for the disk. Here the kernel is told about
thousands of rows ahead (`posix_fadvise`), so that the disk serves many at once, and rows come in file order.
"""

import os

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from engram_interp.checkpoints import decoding
from engram_interp.checkpoints.tensor_files import DTYPES, Place, Reader
from engram_interp.errors import DamagedFileError, InputError

_AHEAD = 2048
"""Runs of rows that the kernel is told about before they are read."""


def read_rows(reader: Reader, place: Place, rows: Int64[np.ndarray, " row"]) -> UInt8[np.ndarray, "row byte"]:
    """The bytes of rows of a tensor.

    Args:
        reader: Its counter is advanced.
        place: The tensor.
        rows: Distinct and rising; neighbours are read together.

    Raises:
        InputError: If they do not rise, or lie outside the tensor.
        DamagedFileError: If the file ends before a row does.
    """
    if len(rows) and (np.diff(rows) < 1).any():
        raise InputError("read_rows wants distinct rows in rising order; give np.unique(rows).")
    width, out = place.row_bytes, np.empty((len(rows), place.row_bytes), np.uint8)
    if not len(rows):
        return out
    starts = place.row_starts(rows)
    firsts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    runs = list(zip(starts[firsts].tolist(), firsts.tolist(), [*firsts[1:].tolist(), len(rows)], strict=True))
    buffer = out.reshape(-1).data
    handle = os.open(place.path, os.O_RDONLY)
    try:
        _expect_random(handle)
        for number, (start, first, last) in enumerate(runs):
            if number % _AHEAD == 0:
                _announce(
                    handle, runs[number if number == 0 else number + _AHEAD : number + 2 * _AHEAD], width
                )
            want, got = buffer[first * width : last * width], 0
            while got < len(want):
                count = os.preadv(handle, [want[got:]], start + got)
                if not count:
                    raise DamagedFileError(
                        f"{place.path} ended within rows of {place.name}; was it changed? Fetch it again."
                    )
                got += count
    finally:
        os.close(handle)
    reader.done += len(buffer)
    return out


def _expect_random(handle: int) -> None:
    """No reading ahead of what is asked for; where the system has no such advice, without."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)


def _announce(handle: int, runs: list[tuple[int, int, int]], width: int) -> None:
    if hasattr(os, "posix_fadvise"):
        for start, first, last in runs:
            os.posix_fadvise(handle, start, (last - first) * width, os.POSIX_FADV_WILLNEED)


class FetchedRows(nn.Module):
    """Some rows of a table in the place of the whole: an embedding that knows only those.

    Args:
        rows: Their addresses, rising.
        values: Their fp8 codes.
        scale: Their scale codes.
        of: Rows of the whole table.
    """

    def __init__(
        self,
        rows: Int64[np.ndarray, " row"],
        *,
        values: UInt8[np.ndarray, "row d_row"],
        scale: UInt8[np.ndarray, "row block"],
        of: int,
    ) -> None:
        super().__init__()
        self.rows, self.values, self.scale, self.num_embeddings = rows, values, scale, of

    def forward(self, rows: Int64[Tensor, "batch token column"]) -> Float[Tensor, "batch token column d_row"]:
        """The rows at these addresses, float32.

        Raises:
            IndexError: If one was not fetched.
        """
        wanted = rows.numpy().reshape(-1)
        found = np.searchsorted(self.rows, wanted).clip(max=len(self.rows) - 1)
        if not np.array_equal(self.rows[found], wanted):
            raise IndexError("a row was not fetched")
        values: Tensor = decoding.fp8_rows(self.values[found], self.scale[found])
        return values.view(*rows.shape, -1)


def fetch(reader: Reader, weight: Place, scale: Place, addresses: Int64[np.ndarray, "..."]) -> FetchedRows:
    """The distinct rows at these addresses, read once each, in file order.

    Args:
        reader: Its counter is advanced.
        weight: The table's codes.
        scale: Its scales.
        addresses: In any order and number.
    """
    rows = np.unique(addresses)
    values, scales = (read_rows(reader, place, rows) for place in (weight, scale))
    return FetchedRows(rows, values=values, scale=scales, of=weight.shape[0])


def numbers(raw: UInt8[np.ndarray, "row byte"], place: Place) -> Float[Tensor, "row column"]:
    """Rows of a plain tensor that `read_rows` gave, float32."""
    return torch.from_numpy(raw).view(DTYPES[place.dtype]).float()
