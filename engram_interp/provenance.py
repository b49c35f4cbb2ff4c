"""Where a number comes from: the facts every result carries about its models and prompts."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from engram_interp.capture.captured import Capture
from engram_interp.capture.encode import Encoded
from engram_interp.capture.source import Source
from engram_interp.metrics.bootstrap import MIN_GROUPS


def describe(model: Source, encoded: Encoded, *, seed: int | None = None) -> dict[str, Any]:
    """Flat facts for a result's attributes: model, weights, prompts, seed.

    Args:
        model: The model, or a capture of it.
        encoded: What it was run on.
        seed: Seed of whatever was random; None if nothing was.
    """
    facts: dict[str, Any] = {
        "model": model.name,
        "model_family": model.family,
        "model_digest": model.digest or "unknown",
        "memory_layers": ", ".join(map(str, model.memory_layers)),
        "n_streams": model.n_streams,
        "n_documents": len(encoded),
        "n_samples": int(encoded.mask.sum()),
        "text_digest": encoded.digest,
        "torch": str(torch.__version__),
        "dtype": model.weights_dtype,
        "notes": " ".join((*model.notes, *encoded.notes)),
    }
    if isinstance(model, Capture):
        kept = sorted({site.dtype for site in model.sites.values()})
        facts["captured"] = f"activations from disk, {', '.join(kept)}"
    return facts if seed is None else facts | {"seed": seed}


def too_few(n_documents: int, names: Iterable[str]) -> dict[str, str]:
    """By variable, why it has no interval, where there are too few documents for one."""
    if n_documents >= MIN_GROUPS:
        return {}
    reason = f"an interval wants at least {MIN_GROUPS} documents to resample, got {n_documents}"
    return dict.fromkeys(names, reason)


def unmeasured(variables: Mapping[str, Any], n_documents: int, *, paired: bool, why: str) -> dict[str, str]:
    """By variable with undefined values, why: too few documents, no baseline, or else the reason given.

    Args:
        variables: What an analysis measured, intervals as ``name_low`` and ``name_high``.
        n_documents: Documents to resample.
        paired: Whether a baseline was given; without one every ``difference…`` is missing.
        why: Any other value's reason.
    """
    undefined = [name for name, values in variables.items() if np.isnan(values).any()]
    reasons = dict.fromkeys(undefined, why)
    if not paired:
        reasons |= {name: "no baseline was given" for name in undefined if name.startswith("difference")}
    return reasons | too_few(n_documents, [n for n in undefined if n.endswith(("_low", "_high"))])
