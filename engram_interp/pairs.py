"""The matched pairs that come with the package: a model with memory and the baseline without."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram_interp.errors import InputError

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel

__all__ = ["Pair", "available", "bundle_path", "examples", "folder", "load", "with_memory"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models trained on the same text in the same order.

    Attributes:
        name: The pair's name.
        engram: The model with memory.
        baseline: The model without.
        training: Per model ("engram", "baseline"), its training.json: recipe, text digests, losses.
    """

    name: str
    engram: "SubjectModel"
    baseline: "SubjectModel"
    training: dict[str, dict[str, Any]]


def _assets() -> Path:
    return Path(str(files("engram_interp") / "assets"))


def available() -> list[str]:
    """Names of the packaged pairs."""
    return sorted(p.parent.parent.name for p in (_assets() / "pairs").glob("*/engram/config.json"))


def folder(name: str = "wiki-nano") -> Path:
    """Where a packaged pair lies: ``engram``, ``baseline`` and examples.json.

    Raises:
        InputError: If there is no such pair; the message lists those there are.
    """
    if name not in available():
        raise InputError(f"No packaged pair {name!r}; there are {', '.join(available()) or 'none'}.")
    return _assets() / "pairs" / name


def with_memory() -> dict[str, Path]:
    """Where the packaged models with a memory lie, by what results call them; read without PyTorch."""
    found = {f"{name}/engram": folder(name) / "engram" for name in available()}
    return found | {file.parent.name: file.parent for file in (_assets() / "models").glob("*/config.json")}


def load(name: str = "wiki-nano") -> Pair:
    """Both models of a packaged pair, on the CPU.

    Raises:
        InputError: If there is no such pair; the message lists those there are.
    """
    from engram_interp.checkpoints import load_model

    place = folder(name)
    models = {part: load_model(place / part, name=f"{name}/{part}") for part in ("engram", "baseline")}
    training = {
        part: json.loads((place / part / "training.json").read_text(encoding="utf-8")) for part in models
    }
    return Pair(name=name, training=training, **models)


def bundle_path(name: str = "wiki-nano") -> Path:
    """The ready-made result bundle of a packaged pair, or of the planted model; opening it needs no torch.

    Raises:
        InputError: If there is no such pair or model.
    """
    if not (_assets() / "models" / name / "config.json").is_file():
        folder(name)
    return _assets() / "bundles" / f"{name}.engram"


def examples(name: str = "wiki-nano") -> list[dict[str, Any]]:
    """Phrases that a pair's training text holds, with how often: `{"text", "phrase", "count"}`.

    Raises:
        InputError: If there is no such pair.
    """
    found: list[dict[str, Any]] = json.loads((folder(name) / "examples.json").read_text(encoding="utf-8"))
    return found
