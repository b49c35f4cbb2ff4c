"""Tensors spread over shards with an index, as large checkpoints are released; shards may be absent.

Nobody needs all of a 510 GB checkpoint for a question about its first layers: an absent shard is an error
only where one of its tensors is asked for, and then it is named.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engram_interp.checkpoints.files import read_json
from engram_interp.checkpoints.tensor_files import Place, header_length, read_header
from engram_interp.errors import DamagedFileError, InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

Wanted = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type (as safetensors names it) and shape of tensors by name."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The tensors of a directory.

    Attributes:
        folder: The directory.
        files: By tensor, the file that the index says it is in.
        places: By tensor, where it lies; only those whose file is there.
    """

    folder: Path
    files: Mapping[str, str]
    places: Mapping[str, Place]

    @property
    def absent(self) -> dict[str, list[str]]:
        """The tensors of each file that is not there."""
        out: dict[str, list[str]] = {}
        for name, file in self.files.items():
            if name not in self.places:
                out.setdefault(file, []).append(name)
        return out

    def place(self, name: str) -> Place:
        """Where a tensor lies.

        Raises:
            InputError: If its shard is not there, or the checkpoint has no such tensor.
        """
        self.require([name])
        return self.places[name]

    def require(self, names: Iterable[str]) -> None:
        """Raise unless all of these can be read.

        Raises:
            InputError: Names the shard that is missing and its tensors.
        """
        missing = [name for name in names if name not in self.places]
        if not missing:
            return
        unknown = [name for name in missing if name not in self.files]
        if unknown:
            raise InputError(
                f"The checkpoint in {self.folder} has no {_few(unknown)}, which its config wants."
            )
        file = self.files[missing[0]]
        wanted = [name for name in missing if self.files[name] == file]
        others = sorted({self.files[name] for name in missing} - {file})
        more = f" Also missing: {_few(others)}." if others else ""
        raise InputError(
            f"{self.folder / file} is missing; it holds {_few(wanted)}. Fetch it, or ask for layers that do "
            f"without.{more}"
        )


def _few(names: Sequence[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def open_shards(folder: Path) -> Shards:
    """Read the index of a directory and the header of every shard that is there.

    Raises:
        InputError: If there is neither an index nor a single file.
        DamagedFileError: If a shard is cut short, or does not hold what the index says.
    """
    if not (folder / INDEX).is_file() and (folder / SINGLE).is_file():
        places = read_header(folder / SINGLE)
        return Shards(folder=folder, files=dict.fromkeys(places, SINGLE), places=places)
    files = read_json(folder / INDEX).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise DamagedFileError(f"{folder / INDEX} has no weight_map; fetch it again.")
    places = dict[str, Place]()
    for file in sorted(set(files.values())):
        if not (folder / file).is_file():
            continue
        found = read_header(folder / file)
        listed = {name for name, where in files.items() if where == file}
        if listed != set(found):
            apart = _few(sorted(listed ^ set(found)))
            raise DamagedFileError(
                f"{folder / file} does not hold what the index says, they differ in {apart}; the two are of "
                "different checkpoints."
            )
        places |= found
    return Shards(folder=folder, files=files, places=places)


def marks(shards: Shards, names: Iterable[str]) -> dict[str, str]:
    """What tells whether the files of these tensors were changed, without reading them whole.

    Args:
        shards: The checkpoint.
        names: The tensors.

    Returns:
        By file, its header's digest, its size in bytes and when it was last written, in nanoseconds.

    Raises:
        InputError: If one is not there.
        DamagedFileError: If one is no safetensors file.
    """
    found = dict[str, str]()
    for path in sorted({shards.place(name).path for name in names}):
        status = path.stat()
        with path.open("rb") as file:
            header = file.read(header_length(file.read(8), path))
        found[path.name] = f"{hashlib.sha256(header).hexdigest()} {status.st_size} {status.st_mtime_ns}"
    return found


def check_against(shards: Shards, wanted: Wanted, *, ignored: Sequence[str]) -> tuple[str, ...]:
    """Refuse a checkpoint that holds other tensors than its config wants.

    Args:
        shards: The checkpoint.
        wanted: What the config wants.
        ignored: Beginnings of names that are left out on purpose.

    Returns:
        The beginnings among `ignored` that the checkpoint has.

    Raises:
        InputError: Names tensors that are missing from the index, or that we do not know.
        DamagedFileError: Names a tensor of another type or shape.
    """
    unknown = sorted(n for n in shards.files if n not in wanted and not n.startswith(tuple(ignored)))
    if unknown:
        raise InputError(
            f"{shards.folder} holds tensors that we do not know: {_few(unknown)}. They may change what the "
            "model computes, so it is not opened."
        )
    missing = sorted(name for name in wanted if name not in shards.files)
    if missing:
        raise InputError(
            f"{shards.folder} lacks {_few(missing)}, which its config.json wants; the two are of different "
            "models, or the index is incomplete."
        )
    for name, place in shards.places.items():
        if name in wanted and (place.dtype, place.shape) != wanted[name]:
            dtype, shape = wanted[name]
            kind = "table rows" if ".engram.embed." in name and place.shape[1:] == shape[1:] else "shape"
            raise DamagedFileError(
                f"{name} in {place.path.name} has another {kind} than the config gives: {list(place.shape)} "
                f"{place.dtype} for {list(shape)} {dtype}; shard and config are of different models."
            )
    return tuple(start for start in ignored if any(name.startswith(start) for name in shards.files))
