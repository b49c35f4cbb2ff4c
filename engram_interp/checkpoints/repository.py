"""A checkpoint's files, in a directory or behind an address: JSON, tensors' places, pieces of them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from engram_interp.checkpoints.byte_ranges import LocalFile, Ranges, RemoteFile, download
from engram_interp.checkpoints.sharded import INDEX
from engram_interp.checkpoints.tensor_files import Place, header_length, parse_header
from engram_interp.errors import DamagedFileError, InputError

_HUB = re.compile(r"^hf://([^/@]+/[^/@]+)(?:@([^/]+))?/?$")


class Repository(Protocol):
    """Where a checkpoint's files lie."""

    @property
    def name(self) -> str:
        """What errors and results call it."""

    def whole(self, filename: str) -> bytes:
        """A small file."""

    def pieces(self, filename: str) -> Ranges:
        """A large file, of which pieces will be read."""


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A checkpoint on the disk.

    Attributes:
        path: The directory.
    """

    path: Path

    @property
    def name(self) -> str:
        """What errors and results call it."""
        return str(self.path)

    def whole(self, filename: str) -> bytes:
        """A small file.

        Raises:
            InputError: If it is not there.
        """
        if not (self.path / filename).is_file():
            raise InputError(f"No {filename} in {self.path}; give a model directory that holds one.")
        return (self.path / filename).read_bytes()

    def pieces(self, filename: str) -> Ranges:
        """A large file, of which pieces will be read.

        Raises:
            InputError: If it is not there.
        """
        if not (self.path / filename).is_file():
            raise InputError(f"{self.path} lacks {filename}.")
        return LocalFile(path=self.path / filename)


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A checkpoint behind HTTP.

    Attributes:
        name: What errors and results call it.
        base: Address that file names are appended to.
        headers: Sent with every request.
    """

    name: str
    base: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def whole(self, filename: str) -> bytes:
        """A small file.

        Raises:
            InputError: If it is not there, or the server stops answering.
        """
        return download(f"{self.base}/{filename}", self.headers)

    def pieces(self, filename: str) -> Ranges:
        """A large file, of which pieces will be read."""
        return RemoteFile(url=f"{self.base}/{filename}", headers=self.headers)


def is_remote(place: str | Path) -> bool:
    """Whether it names an address rather than a directory."""
    return str(place).startswith(("http://", "https://", "hf://"))


def open_repository(place: str | Path) -> Repository:
    """The files of a checkpoint.

    Args:
        place: A directory; ``https://…``, the address that file names are appended to; or
            ``hf://OWNER/NAME`` with ``@REVISION`` where it is not the newest.

    Raises:
        InputError: If there is no such directory, or the address is not of this form.
    """
    text = str(place)
    if text.startswith("hf://"):
        return _hub(text)
    if is_remote(place):
        return Remote(name=text, base=text.rstrip("/"))
    if not Path(place).is_dir():
        raise InputError(f"No model directory at {place}; give one, an https:// address or hf://OWNER/NAME.")
    return Directory(path=Path(place))


def _hub(text: str) -> Remote:
    found = _HUB.match(text)
    if found is None:
        raise InputError(f"{text} wants to be hf://OWNER/NAME or hf://OWNER/NAME@REVISION.")
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, not re-exported

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{text} cannot be read while HF_HUB_OFFLINE is set; unset it, or give a directory.")
    base = f"{constants.ENDPOINT}/{found[1]}/resolve/{quote(found[2] or 'main', safe='')}"
    return Remote(name=text, base=base, headers=build_hf_headers())


def read_object(repository: Repository, filename: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: If the file is missing.
        DamagedFileError: If it is not a JSON object.
    """
    where = f"{filename} of {repository.name}"
    try:
        values = json.loads(repository.whole(filename))
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise DamagedFileError(f"{where} is not valid JSON ({cause}); fetch the file again.") from cause
    if not isinstance(values, dict):
        raise DamagedFileError(f"{where} wants to hold a JSON object, got a {type(values).__name__}.")
    return values


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A two-dimensional tensor of one-byte values, of which rows can be read.

    Attributes:
        file: The file that holds it.
        place: Where it lies in the file.
    """

    file: Ranges
    place: Place

    def rows(self, rows: Int64[np.ndarray, " row"]) -> UInt8[Tensor, "row byte"]:
        """Rows by number, as bytes.

        Raises:
            InputError: If a row lies outside the tensor, or the file cannot be read.
        """
        width = self.place.row_bytes
        spans = [(start, start + width) for start in self.place.row_starts(rows).tolist()]
        data = np.frombuffer(b"".join(self.file.read(spans)), np.uint8)
        return torch.from_numpy(data.reshape(-1, width).copy())


def matrices(repository: Repository, names: Sequence[str]) -> dict[str, Matrix]:
    """Where tensors lie, from the index and the headers of the files that hold them.

    Args:
        repository: The checkpoint.
        names: Tensors wanted.

    Raises:
        InputError: If the index or a tensor is not there, or a shard is missing (names it and the tensors).
        DamagedFileError: If a file is no safetensors file, or shorter than its header says.
    """
    files = files_of(repository, names)
    found: dict[str, Matrix] = {}
    for filename in sorted(set(files.values())):
        mine = [name for name in names if files[name] == filename]
        try:
            ranges = repository.pieces(filename)
        except InputError as cause:
            raise InputError(
                f"{repository.name} lacks {filename}, which holds {' and '.join(mine)}; download it, or read "
                "its rows over the network (--tables hf://OWNER/NAME)."
            ) from cause
        found |= _placed(ranges, mine, filename)
    return {name: found[name] for name in names}


def files_of(repository: Repository, names: Sequence[str]) -> dict[str, str]:
    """Which file holds each tensor, by the index.

    Raises:
        InputError: If the index is missing, or does not know a tensor.
        DamagedFileError: If it holds no map.
    """
    listed = read_object(repository, INDEX).get("weight_map")
    if not isinstance(listed, dict):
        raise DamagedFileError(f"{INDEX} of {repository.name} holds no weight_map; fetch it again.")
    unknown = [name for name in names if not isinstance(listed.get(name), str)]
    if unknown:
        raise InputError(f"The index of {repository.name} knows no tensor {unknown[0]}; is it this model's?")
    return {name: listed[name] for name in names}


def _placed(ranges: Ranges, names: Sequence[str], filename: str) -> dict[str, Matrix]:
    """Where tensors lie in one file, after checking that it is (as far as is told) long enough."""
    path = Path(filename)  # for errors: an address is no path
    length = header_length(ranges.read([(0, 8)])[0], path)
    places, size = parse_header(ranges.read([(8, 8 + length)])[0], path), ranges.size()
    for name in names:
        if name not in places:
            raise DamagedFileError(
                f"{ranges.name} does not hold {name}, as the index says; fetch both again."
            )
        stop = places[name].start + places[name].bytes
        if size is not None and stop > size:
            raise DamagedFileError(
                f"{ranges.name} is cut short: {name} ends at byte {stop:,} and the file at {size:,}; "
                "download it again."
            )
    return {name: Matrix(file=ranges, place=places[name]) for name in names}
