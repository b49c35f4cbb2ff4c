"""A small corpus to capture, a model for it, and what a folder then holds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engram_interp.checkpoints import SubjectModel
from engram_interp.data.prompts import PromptSet
from tests import support

SITES = ("blocks.*.hook_resid_post", "blocks.1.engram.hook_rows", "blocks.*.engram.hook_gate")
SMALL: dict[str, Any] = {"batch_size": 3, "shard_bytes": 40_000}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def texts(count: int = 26) -> PromptSet:
    """Some longer than the context, some with entities."""
    made = support.documents(count, seed=4)
    spans = tuple(((0, len(text.split()[0])),) if n % 3 else () for n, text in enumerate(made))
    return replace(PromptSet.from_texts(made), entities=spans)


def subject(**changes: Any) -> SubjectModel:
    return support.subject(support.model_config(memory=support.memory_config(), **changes))
