"""Open a model directory, whichever family it belongs to."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from engram_interp.checkpoints.baseline import is_causal, load_baseline
from engram_interp.checkpoints.deepseek_v41.config import MODEL_TYPE as DEEPSEEK_V41
from engram_interp.checkpoints.deepseek_v41.loading import Weights, load_deepseek_v41
from engram_interp.checkpoints.files import read_json
from engram_interp.checkpoints.native import MODEL_TYPE, load_native
from engram_interp.checkpoints.qwen4_exp import MODEL_TYPES, load_qwen4_exp
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

FAMILIES: dict[str, Callable[..., SubjectModel]] = {
    MODEL_TYPE: load_native,
    DEEPSEEK_V41: load_deepseek_v41,
    **dict.fromkeys(MODEL_TYPES, load_qwen4_exp),
}
"""Loader by the `model_type` that a config.json names."""


def packaged() -> dict[str, Path]:
    """Packaged models by name: ``wiki-nano`` (the one with memory), ``wiki-nano/baseline``, ``planted``."""
    assets = Path(str(files("engram_interp") / "assets"))
    parts = {
        f"{p.parent.parent.name}/{p.parent.name}": p.parent
        for p in sorted((assets / "pairs").glob("*/*/config.json"))
    }
    short = {name.removesuffix("/engram"): path for name, path in parts.items() if name.endswith("/engram")}
    alone = {p.parent.name: p.parent for p in sorted((assets / "models").glob("*/config.json"))}
    return parts | short | alone


def load_model(path: str | Path, *, name: str | None = None, weights: Weights = "auto") -> SubjectModel:
    """Open a model directory, or a packaged model by name; the family is found from config.json.

    Args:
        path: A directory with config.json, weights and tokenizer; or a name that `packaged` lists.
        name: What results call the model; by default the directory's name, or the packaged one.
        weights: Whether to read them into "memory" or leave them on the "disk" for a streamed capture; "auto"
            leaves those of a DeepSeek-V4.1 model that do not fit the memory.

    Raises:
        InputError: If there is no such directory, its family is not one of `FAMILIES`, or weights of
            another family are to be left on the disk.
        DamagedFileError: If a file is cut short or does not fit the others.
    """
    path, known = Path(path), packaged()
    if not path.is_dir() and str(path) in known:
        folder = known[str(path)]
        alone = folder.parent.name == "models"
        return load_model(
            folder, name=name or (folder.name if alone else f"{folder.parent.name}/{folder.name}")
        )
    if not path.is_dir():
        raise InputError(
            f"No model directory at {path}; give a directory that holds config.json and model.safetensors, "
            f"or a packaged model ({', '.join(known) or 'there are none'})."
        )
    family = read_json(path / "config.json").get("model_type")
    if family == DEEPSEEK_V41:
        return load_deepseek_v41(path, name=name, weights=weights)
    load = _loader(path, family)
    if weights == "disk":
        raise InputError(f"Only models of family {DEEPSEEK_V41} can be streamed from the disk, got {family}.")
    return load(path, name=name)


def _loader(path: Path, family: Any) -> Callable[..., SubjectModel]:
    """What opens a family: ours by name, and every other causal language model of transformers."""
    if isinstance(family, str) and family in FAMILIES:
        return FAMILIES[family]
    if isinstance(family, str) and is_causal(family):
        return load_baseline
    raise InputError(
        f"{path} is of family {family!r}, which this version does not load; it loads "
        f"{', '.join(sorted(FAMILIES))} and causal language models of transformers. A module already in "
        "memory can be given to engram_interp.checkpoints.wrap."
    )
