"""Rows of DeepSeek-V4.1's tables, read one by one: 264 bytes each, whatever the table's size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.checkpoints.address_book import AddressBook
from engram_interp.checkpoints.repository import (
    Directory,
    Matrix,
    Repository,
    files_of,
    matrices,
    open_repository,
    read_object,
)
from engram_interp.checkpoints.sharded import INDEX
from engram_interp.errors import InputError
from engram_interp.memory.quantise import dequantise_rows, n_scales

_PARTS = ("weight", "scale")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The tables at hand, of which rows can be read.

    Attributes:
        name: Where they lie.
        values: By layer, where the e4m3 values lie.
        scales: By layer, where the power-of-two scales lie, one for 32 channels of a row.
        absent: By layer whose table is not at hand, the shard that holds it.
    """

    name: str
    values: Mapping[int, Matrix]
    scales: Mapping[int, Matrix]
    absent: Mapping[int, str] = field(default_factory=dict)

    def read(self, layer: int, rows: Int64[np.ndarray, " row"]) -> Float[Tensor, "row d_row"]:
        """Rows of one layer's table, dequantised to float32; each distinct one is read once, in file order.

        Raises:
            InputError: If the table is not at hand (names its shard), a row lies outside it, or the files
                cannot be read.
        """
        if layer in self.absent:
            raise InputError(
                f"{self.name} lacks {self.absent[layer]}, which holds the table of layer {layer}; "
                "download it."
            )
        distinct, back = np.unique(rows, return_inverse=True)
        values = self.values[layer].rows(distinct).view(torch.float8_e4m3fn)
        scales = self.scales[layer].rows(distinct).view(torch.float8_e8m0fnu)
        return dequantise_rows(values, scales)[torch.from_numpy(back)]


def row_bytes(d_row: int) -> int:
    """Bytes of one row with its scales."""
    return d_row + n_scales(d_row)


def open_tables(book: AddressBook, place: str | Path | None = None) -> Tables:
    """The tables of a model whose addresses are known; only headers are read.

    In a directory one shard is enough: the tables in others are named as absent.

    Args:
        book: The addresses.
        place: Where the shards with ``layers.N.engram.*`` and the index lie; by default where the book's
            files do.

    Raises:
        InputError: If all shards are missing, or one behind an address (names it and its tensors), or a
            table has other rows or another type than the configuration says.
        DamagedFileError: If a shard is cut short.
    """
    repository = book.repository if place is None else open_repository(place)
    absent = _absent(repository, book.model.memory_layers)
    layers = [layer for layer in book.model.memory_layers if layer not in absent]
    names = {(layer, part): _tensor(layer, part) for layer in layers for part in _PARTS}
    found = matrices(repository, list(names.values()))
    assert book.model.layout is not None
    for layer, rows in zip(book.model.memory_layers, book.model.layout.rows.tolist(), strict=True):
        if layer in absent:
            continue
        for part, dtype, width in (
            ("weight", "F8_E4M3", book.d_row),
            ("scale", "F8_E8M0", n_scales(book.d_row)),
        ):
            name = names[layer, part]
            got = found[name].place
            if (got.dtype, got.shape) != (dtype, (rows, width)):
                raise InputError(
                    f"{name} of {repository.name} is {got.dtype} {list(got.shape)} and the configuration of "
                    f"{book.model.name} wants {dtype} {[rows, width]}; the two belong to different models."
                )
    return Tables(
        name=repository.name,
        values={layer: found[names[layer, "weight"]] for layer in layers},
        scales={layer: found[names[layer, "scale"]] for layer in layers},
        absent=absent,
    )


def _tensor(layer: int, part: str) -> str:
    return f"layers.{layer}.engram.embed.{part}"


def _absent(repository: Repository, layers: Iterable[int]) -> dict[int, str]:
    """The shard of each table that a directory lacks; none where it lacks them all."""
    if not isinstance(repository, Directory):
        return {}
    names = {layer: [_tensor(layer, part) for part in _PARTS] for layer in layers}
    files = files_of(repository, [name for both in names.values() for name in both])
    absent = {
        layer: files[name]
        for layer, both in names.items()
        for name in both
        if not (repository.path / files[name]).is_file()
    }
    return absent if len(absent) < len(names) else {}


def has_tables(book: AddressBook) -> bool:
    """Whether a shard with a table lies beside the book; behind an address that is taken for granted."""
    folder = book.model.folder
    if folder is None:
        return True
    if not (folder / INDEX).is_file():
        return False
    listed = read_object(book.repository, INDEX).get("weight_map")
    if not isinstance(listed, dict):
        return False
    shards = {listed.get(_tensor(layer, "weight")) for layer in book.model.memory_layers}
    return any((folder / shard).is_file() for shard in shards if isinstance(shard, str))
