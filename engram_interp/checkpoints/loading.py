"""Open a model directory, whichever family it belongs to."""

from collections.abc import Callable
from pathlib import Path

from engram_interp.checkpoints.files import read_json
from engram_interp.checkpoints.native import MODEL_TYPE, load_native
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

FAMILIES: dict[str, Callable[..., SubjectModel]] = {MODEL_TYPE: load_native}
"""Loader by the `model_type` that a config.json names."""


def load_model(path: str | Path, *, name: str | None = None) -> SubjectModel:
    """Open a model directory; its family is found from config.json.

    Args:
        path: A directory with config.json, weights and tokenizer.
        name: What results call the model; by default the directory's name.

    Raises:
        InputError: If there is no such directory, or its family is not one of `FAMILIES`.
        DamagedFileError: If a file is cut short or does not fit the others.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"No model directory at {path}; give a directory that holds config.json and model.safetensors."
        )
    family = read_json(path / "config.json").get("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"{path} is of family {family!r}, which this version does not load; it loads "
            f"{', '.join(sorted(FAMILIES))}. A module already in memory can be given to "
            "engram_interp.checkpoints.wrap."
        )
    return FAMILIES[family](path, name=name)
