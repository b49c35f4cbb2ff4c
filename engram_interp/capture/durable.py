"""Files that are whole on the disk once they have their name, by one writer at a time."""

import errno
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash
from safetensors import SafetensorError

from engram_interp.checkpoints.files import replacing
from engram_interp.errors import InputError

try:
    import fcntl
except ImportError:  # no such lock on Windows
    fcntl = None  # type: ignore[assignment]


_FULL = {
    number: what
    for name, what in (
        ("ENOSPC", "the disk is full"),
        ("EDQUOT", "the quota is used up"),
        ("EFBIG", "a file may not be so large there"),
    )
    if (number := getattr(errno, name, None)) is not None  # not every system has quotas
}


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

    What safetensors left of a file when a process that held the folder was killed is removed.

    Raises:
        InputError: Another process holds it.
    """
    if fcntl is None:
        _sweep(folder)
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
        _sweep(folder)
        yield
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    for left in folder.glob(".tmp??????"):
        left.unlink()


@contextmanager
def roomy(folder: Path) -> Iterator[None]:
    """Say what to do where a capture's folder has no room left.

    Raises:
        InputError: In the place of the system's error, or safetensors' account of it.
    """
    try:
        yield
    except (OSError, SafetensorError) as cause:
        told = re.search(r"os error (\d+)", str(cause))
        number = cause.errno if isinstance(cause, OSError) else int(told[1]) if told else None
        if number not in _FULL:
            raise
        raise InputError(
            f"{folder} could not be written to: {_FULL[number]}. Make room there and go on with --resume "
            "(resume=True); what is whole is kept."
        ) from cause


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
