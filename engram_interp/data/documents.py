"""Documents from text files, plain or xz-compressed."""

import hashlib
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from engram_interp.errors import DamagedFileError, InputError

SEPARATOR = "<|endoftext|>"
"""A line of its own that ends a document in a text file; the token of that name opens one."""


def check_text(path: str | Path) -> Path:
    """The path of a text file that is there.

    Raises:
        InputError: If it is missing or a directory.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No text file at {path}; give the path of a UTF-8 text file, plain or .xz.")
    return path


def read_text(path: str | Path) -> str:
    """The whole text of a .txt or .xz file.

    Raises:
        InputError: If the file is missing or a directory.
        DamagedFileError: If it is not UTF-8, or the compressed stream is cut short.
    """
    path = check_text(path)
    try:
        raw = path.read_bytes()
        return (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")
    except (lzma.LZMAError, EOFError) as cause:
        raise DamagedFileError(f"{path} is not a whole .xz file ({cause}); fetch it again.") from cause
    except UnicodeDecodeError as cause:
        raise DamagedFileError(
            f"{path} is not UTF-8 text (byte {cause.start}: {cause.reason}); convert it first."
        ) from cause


def documents(paths: Iterable[str | Path]) -> Iterator[str]:
    """The documents of several files in order, stripped, without empty ones.

    A line ``<|endoftext|>`` ends a document; a file without such a line is one document.
    """
    for path in paths:
        for part in f"\n{read_text(path)}\n".split(f"\n{SEPARATOR}\n"):
            if part.strip():
                yield part.strip()


def text_digest(paths: Iterable[str | Path]) -> str:
    """SHA-256 over the decoded contents of the files in order, for provenance."""
    return text_digests(paths)[0]


def text_digests(paths: Iterable[str | Path]) -> tuple[str, list[str]]:
    """`text_digest` of the files, and of each alone."""
    whole, each = hashlib.sha256(), list[str]()
    for path in paths:
        content = read_text(path).encode()
        whole.update(content)
        each.append(hashlib.sha256(content).hexdigest())
    return whole.hexdigest(), each
