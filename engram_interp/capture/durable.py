"""Files that are whole on the disk once they have their name, by one writer at a time."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from engram_interp.checkpoints.files import replacing
from engram_interp.errors import InputError

try:
    import fcntl
except ImportError:  # no such lock on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def durably(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; at a clean end that file is on the disk under the name `path`."""
    with replacing(path) as temporary:
        yield temporary
        _sync(temporary)
    _sync(path.parent)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder so that no other process writes to it; where the system has no such lock, only trust.

    Raises:
        InputError: Another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise InputError(
                f"Another process is writing to {folder}; wait for it, or give another --out."
            ) from cause
        yield
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """xxh3 of a file, 64 bits, hexadecimal."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return xxhash.xxh3_64_hexdigest(content)
