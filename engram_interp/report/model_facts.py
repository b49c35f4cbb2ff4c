"""What a report says of a model beside its results."""

from collections.abc import Mapping
from typing import Any

from engram_interp.checkpoints.subject import SubjectModel


def model_facts(model: SubjectModel, training: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of a model, and what its training.json says, as JSON values."""
    recipe = training.get("recipe") or {}
    return {
        "name": model.name,
        "family": model.family,
        "digest": model.digest or None,
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "table_parameters": _table_parameters(model),
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "n_streams": model.n_streams,
        "memory_layers": list(model.memory_layers),
        "context": model.n_ctx,
        "held_out_loss": training.get("valid_loss"),
        "held_out_tokens": training.get("valid_tokens"),
        "trained_tokens": training.get("trained_tokens"),
        "training_finished": training.get("finished"),
        "recipe": recipe or None,
        "text_sha256": training.get("text_sha256"),
    }


def _table_parameters(model: SubjectModel) -> int | None:
    """Numbers in the memory's tables; None where the module does not say which these are."""
    if not model.memory_layers:
        return 0
    found = [p.numel() for name, p in model.module.named_parameters() if ".table." in name]
    return sum(found) or None
