"""Pieces of Python source, from the library of the Python that runs: a kind of text that is not prose."""

import sysconfig
from pathlib import Path

import numpy as np

from engram_interp.data.prompts import PromptSet
from engram_interp.errors import InputError

__all__ = ["load"]


def load(count: int, *, seed: int = 0, characters: int = 800, folder: str | Path | None = None) -> PromptSet:
    """One piece from the middle of each of so many modules, drawn by the seed.

    A piece begins at a line; the middle is taken since modules open with prose (docstrings, licences). Which
    text it is depends on the Python that runs.

    Args:
        count: Modules.
        seed: Of the draw.
        characters: Length of a piece; shorter modules than twice that are left out.
        folder: Where modules (``*.py``) are looked for, not deeper; None for the standard library.

    Raises:
        InputError: If there are not so many modules.
    """
    place = Path(sysconfig.get_path("stdlib") if folder is None else folder)
    modules = {path.name: _read(path) for path in sorted(place.glob("*.py"))}
    long = [name for name, text in modules.items() if len(text) >= 2 * characters]
    if not 1 <= count <= len(long):
        raise InputError(
            f"source_code.load wants 1 … {len(long)} modules, as many as {place.name} has of "
            f"{2 * characters:,} characters or more; got {count}."
        )
    chosen = sorted(np.random.default_rng(seed).permutation(len(long))[:count].tolist())
    names = [long[i] for i in chosen]
    pieces = [_middle(modules[name], characters) for name in names]
    return PromptSet(
        name="python-source",
        ids=tuple(names),
        texts=tuple(pieces),
        entities=((),) * len(pieces),
        source="the library of the running Python" if folder is None else str(folder),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # a few test modules are in other encodings on purpose
        return ""


def _middle(text: str, characters: int) -> str:
    start = text.rfind("\n", 0, len(text) // 2) + 1
    return text[start : start + characters]
