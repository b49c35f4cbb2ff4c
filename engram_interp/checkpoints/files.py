"""Reading the files of a checkpoint, with errors that say which and why, and writing them whole."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from engram_interp.errors import DamagedFileError, InputError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: If the file is missing.
        DamagedFileError: If it is not a JSON object.
    """
    if not path.is_file():
        raise InputError(f"No {path.name} in {path.parent}; give a model directory that holds one.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise DamagedFileError(f"{path} is not valid JSON ({cause}); fetch the file again.") from cause
    if not isinstance(values, dict):
        raise DamagedFileError(f"{path} wants to hold a JSON object, got a {type(values).__name__}.")
    return values


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        InputError: If the file is missing.
        DamagedFileError: If it is cut short or no safetensors file.
    """
    if not path.is_file():
        raise InputError(f"No weights at {path}; the directory wants the model's {path.name}.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as cause:
        raise DamagedFileError(
            f"{path} cannot be read as safetensors ({cause}; {path.stat().st_size:,} bytes); it may be cut "
            "short: copy or download it again."
        ) from cause


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json.

    Raises:
        InputError: If the file is missing.
        DamagedFileError: If it cannot be read as a tokenizer.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No tokenizer at {path}; a model directory holds its tokenizer.json.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as cause:  # tokenizers raises bare Exception
        raise DamagedFileError(f"{path} is not a tokenizer file ({cause}); fetch it again.") from cause


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; at a clean end that file becomes `path`.

    Interrupted before, `path` is what it was.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    write_text(path, json.dumps(values, indent=1))


def save_tokenizer(path: Path, tokenizer: Tokenizer) -> None:
    """Write a tokenizer.json, whole or not at all."""
    with replacing(path) as temporary:
        tokenizer.save(str(temporary), pretty=False)
