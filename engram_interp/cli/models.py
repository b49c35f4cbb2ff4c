"""Which model or text an argument means."""

from pathlib import Path
from typing import TYPE_CHECKING

from engram_interp import pairs
from engram_interp.errors import InputError

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel


def find_model(path_or_name: str) -> "SubjectModel":
    """The model in a directory, or of a packaged pair: ``wiki-nano`` (with memory), ``wiki-nano/baseline``.

    Raises:
        InputError: If it is neither.
    """
    if Path(path_or_name).is_dir():
        from engram_interp.checkpoints import load_model

        return load_model(path_or_name)
    name, _, part = path_or_name.partition("/")
    if name in pairs.available() and part in ("", "engram", "baseline"):
        pair = pairs.load(name)
        return pair.baseline if part == "baseline" else pair.engram
    raise InputError(
        f"No model {path_or_name!r}: it is neither a model directory nor a packaged pair "
        f"({', '.join(pairs.available()) or 'none is packaged'})."
    )
