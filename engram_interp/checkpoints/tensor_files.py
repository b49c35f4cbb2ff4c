"""A safetensors file byte by byte: its header checked, its tensors and single rows read by `pread`.

A mapped file would stay out of the I/O counters and swell resident memory, and a damaged one would end the
process; here every read is asked for, counted, and complete or an error.

The format: eight bytes with the header's length (little-endian), the header as JSON, padded with spaces,
then the tensors' bytes. `data_offsets` of the header count from the header's end.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from engram_interp.errors import DamagedFileError, InputError

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The types we read, as safetensors names them."""
_LARGEST_HEADER = 100_000_000
"""Bytes; safetensors itself refuses longer ones."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a tensor lies.

    Attributes:
        name: The tensor's name.
        path: Its file.
        dtype: Its type, as safetensors names it.
        shape: Its shape.
        start: Its first byte, counted from the start of the file.
    """

    name: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        """What it takes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def row_bytes(self) -> int:
        """What one row (one index of the first axis) takes."""
        return math.prod(self.shape[1:]) * DTYPES[self.dtype].itemsize

    def row_starts(self, rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        """First byte of each row; the row ends `row_bytes` later.

        Raises:
            InputError: If a row lies outside the tensor.
        """
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= self.shape[0]):
            raise InputError(
                f"{self.name} has {self.shape[0]:,} rows, and rows {int(rows.min()):,} … "
                f"{int(rows.max()):,} were asked for; the addresses come from another hash layout."
            )
        return self.start + rows.astype(np.int64) * self.row_bytes


def header_length(first: bytes, path: Path) -> int:
    """Bytes of the header, from the first eight of the file.

    Raises:
        DamagedFileError: If there are fewer, or they give no possible length.
    """
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or not 2 <= length <= _LARGEST_HEADER:
        raise DamagedFileError(
            f"{path} is no safetensors file, or cut short: it begins with {first[:8]!r}; fetch it again."
        )
    return length


def parse_header(header: bytes, path: Path) -> dict[str, Place]:
    """The tensors that a header lists, by name.

    Args:
        header: The JSON, without the eight bytes before it.
        path: The file, for errors and in the places.

    Raises:
        DamagedFileError: If it is not such JSON, or a tensor's bytes are not those of its shape.
        InputError: If a tensor is of a type that we do not read.
    """
    try:
        entries: dict[str, Any] = json.loads(header)
        entries.pop("__metadata__", None)
        found = {name: (str(e["dtype"]), tuple(e["shape"]), e["data_offsets"]) for name, e in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise DamagedFileError(
            f"The header of {path} is no safetensors header ({cause}); fetch it again."
        ) from cause
    unknown = sorted({dtype for dtype, _, _ in found.values()} - set(DTYPES))
    if unknown:
        raise InputError(f"{path} holds tensors of type {', '.join(unknown)}; we read {', '.join(DTYPES)}.")
    first = 8 + len(header)
    places = {}
    for name, (dtype, shape, (start, end)) in found.items():
        place = Place(name=name, path=path, dtype=dtype, shape=shape, start=first + start)
        if place.bytes != end - start or start < 0:
            raise DamagedFileError(
                f"{path} says that {name} {list(shape)} {dtype} takes bytes {start} to {end}, and it would "
                f"take {place.bytes:,}; fetch the file again."
            )
        places[name] = place
    return places


def read_header(path: Path) -> dict[str, Place]:
    """The tensors of a file, by name, after checking that all their bytes are there.

    Raises:
        InputError: If there is no such file.
        DamagedFileError: If it is cut short or no safetensors file.
    """
    if not path.is_file():
        raise InputError(f"No weights at {path}; the directory wants {path.name}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = header_length(file.read(8), path)
        if 8 + length > size:
            raise DamagedFileError(f"{path} is cut short within its header ({size:,} bytes); fetch it again.")
        places = parse_header(file.read(length), path)
    end = max((place.start + place.bytes for place in places.values()), default=8 + length)
    if end != size:
        what = "is cut short" if size < end else "is longer than its header says"
        raise DamagedFileError(f"{path} {what}: {size:,} bytes for {end:,}; fetch it again.")
    return places


@dataclass(eq=False)
class Reader:
    """Reads tensors by `pread`, opening each file once; a context manager that closes them.

    Attributes:
        done: Bytes read so far.
    """

    done: int = 0
    _handles: dict[Path, int] = field(default_factory=dict)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def handle(self, path: Path) -> int:
        """The open file's descriptor."""
        if path not in self._handles:
            self._handles[path] = os.open(path, os.O_RDONLY)
        return self._handles[path]

    def fill(self, buffer: memoryview, *, path: Path, start: int) -> None:
        """Read into the whole buffer.

        Raises:
            DamagedFileError: If the file ends before.
        """
        handle, got = self.handle(path), 0
        while got < len(buffer):
            count = os.preadv(handle, [buffer[got:]], start + got)
            if not count:
                raise DamagedFileError(f"{path} ended while it was read; was it changed? Fetch it again.")
            got += count
        self.done += got

    def raw(self, place: Place) -> Shaped[np.ndarray, "..."]:
        """A tensor's bytes, uint8 in the tensor's shape with the bytes of each number last."""
        size = DTYPES[place.dtype].itemsize
        out = torch.empty((*place.shape, size), dtype=torch.uint8).numpy()  # aligned, as torch wants it
        if out.size:
            self.fill(out.data.cast("B"), path=place.path, start=place.start)
        return out

    def tensor(self, place: Place) -> Shaped[Tensor, "..."]:
        """A tensor in the type in which it is stored."""
        return torch.from_numpy(self.raw(place).reshape(-1)).view(DTYPES[place.dtype]).view(place.shape)


def header_of(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The first bytes of a file that holds tensors of these types and shapes one after the other."""
    entries, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * DTYPES[dtype].itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as they are, without a second copy in memory."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    shapes = {name: (names[value.dtype], tuple(value.shape)) for name, value in tensors.items()}
    with path.open("wb") as file:
        file.write(header_of(shapes))
        for value in tensors.values():
            flat = value.detach().contiguous().view(-1)
            file.write(flat.view(torch.uint8).numpy().data)
