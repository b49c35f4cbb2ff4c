"""How far back does attention look? Distance, spread and local share by layer, with a memory and without.

If look-ups take over what the last few tokens alone decide, attention is free to look farther (Engram paper
section 5). Its pattern says where it looks, not what it does there.
"""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.intervene import intervene
from engram_interp.capture.predictions import batches
from engram_interp.capture.record import run_batches
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import mean_interval, named
from engram_interp.provenance import describe, unmeasured
from engram_interp.results.attention import STATISTICS, AttentionReach

__all__ = ["reach", "statistics_of"]

NEAR = 4
"""Keys that count as near: the token itself and the three before it."""


def statistics_of(
    pattern: Float[Tensor, "batch head query key"],
) -> Float[Tensor, "batch query head statistic"]:
    """Of every query and head: mean distance, entropy, near share, and share of the first position.

    The first position takes what attention has to put somewhere (a sink), so distance, entropy and near share
    are those of the rest, made to sum to 1 again; NaN for the first query, which has no rest.

    Returns:
        Distance in tokens, entropy in nats, near share and sink share in [0, 1] (see
        `results.attention.STATISTICS`).
    """
    queries = torch.arange(pattern.shape[-2], device=pattern.device)
    distance = (queries[:, None] - torch.arange(pattern.shape[-1], device=pattern.device)).clamp_min(0)
    sink = pattern[..., 0]
    rest = pattern[..., 1:].double()
    share = rest / rest.sum(-1, keepdim=True).clamp_min(1e-30)
    share = share.masked_fill(queries[:, None] == 0, torch.nan)
    back = distance[:, 1:]
    found = [
        (share * back).sum(-1),
        -(share * share.clamp_min(1e-30).log()).sum(-1),
        (share * (back < NEAR)).sum(-1),
        sink.double(),
    ]
    return torch.stack(found, dim=-1).movedim(1, 2)


def reach(
    model: SubjectModel,
    texts: Any,
    *,
    baseline: SubjectModel | None = None,
    from_position: int = 32,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 4,
) -> AttentionReach:
    """How far attention looks by layer: the model, the same with its gates shut, and the baseline.

    Args:
        model: A model whose attention pattern is a site, ``blocks.*.attn.hook_pattern``.
        texts: Texts, a `PromptSet`, or token ids; long ones, since nothing can be far in a short text.
        baseline: A matched model without memory, run on the same tokens.
        from_position: First query that counts, so that there is something to look back on.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the bootstrap.
        batch_size: Prompts per forward pass.

    Returns:
        By condition, layer and statistic the mean over queries and heads with its interval, and the same
        paired by token against the baseline, of the model and with its gates shut (off its training
        distribution).

    Raises:
        InputError: If the pattern is no site, no prompt is long enough, or the models cut the texts
            differently.
    """
    encoded = encode(model, texts)
    if encoded.tokens.shape[1] <= from_position:
        raise InputError(
            f"No prompt has a token at position {from_position}; give longer texts or a smaller "
            "from_position."
        )
    conditions = {"engram": _patterns(model, encoded, from_position, batch_size=batch_size)}
    if model.memory_layers:
        shut = {f"blocks.{layer}.engram.hook_gate": torch.zeros_like for layer in model.memory_layers}
        conditions["gates shut"] = _patterns(
            model, encoded, from_position, changes=shut, batch_size=batch_size
        )
    if baseline is not None:
        same = encode(baseline, texts)
        if same.digest != encoded.digest:
            raise InputError(f"{baseline.name} cuts these texts into other tokens than {model.name}.")
        conditions["baseline"] = _patterns(baseline, same, from_position, batch_size=batch_size)
    deepest = max(each.shape[1] for each in conditions.values())
    padded = [
        np.pad(each, ((0, 0), (0, deepest - each.shape[1]), (0, 0)), constant_values=np.nan)
        for each in conditions.values()
    ]
    values = np.stack(padded, axis=1)
    documents = _documents(encoded, from_position)
    drawn: dict[str, Any] = {"n_boot": n_boot, "seed": seed}
    variables = named("mean", mean_interval(values, documents, **drawn))
    apart = values - values[:, -1:] if baseline is not None else np.full_like(values, np.nan)
    variables |= named("difference", mean_interval(apart, documents, **drawn))
    facts = describe(model, encoded, seed=seed) | {
        "n_boot": n_boot,
        "n_samples": len(documents),
        "from_position": from_position,
        "near": f"the token itself and the {NEAR - 1} before it",
        "baseline": "none" if baseline is None else baseline.name,
    }
    return AttentionReach.from_arrays(
        coords={"condition": list(conditions), "layer": np.arange(deepest), "statistic": list(STATISTICS)},
        variables=variables,
        provenance=facts,
        missing=unmeasured(
            variables,
            len(np.unique(documents)),
            paired=baseline is not None,
            why="the model of this condition has fewer layers",
        ),
    )


def _counts(encoded: Encoded, from_position: int) -> Tensor:
    mask = encoded.mask.cpu().clone()
    mask[:, :from_position] = False
    return mask


def _documents(encoded: Encoded, from_position: int) -> np.ndarray:
    return np.asarray(_counts(encoded, from_position).nonzero()[:, 0].numpy())


def _patterns(
    model: SubjectModel,
    encoded: Encoded,
    from_position: int,
    *,
    changes: dict[str, Any] | None = None,
    batch_size: int,
) -> Float[np.ndarray, "sample layer statistic"]:
    """Statistics of every counted query, mean over heads."""
    sites = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.n_layers)]
    lacking = [site for site in sites if site not in model.sites]
    if lacking:
        raise InputError(f"{model.name} has no site {lacking[0]}, so nobody sees where its attention looks.")
    found = list[np.ndarray]()
    with intervene(model, changes) if changes else nullcontext():
        for _, batch in batches(encoded, batch_size=batch_size):
            inside = _counts(batch, from_position)
            for _, seen in run_batches(model, batch, sites, batch_size=len(batch)):
                each = [statistics_of(seen[site].cpu())[inside].mean(1) for site in sites]
                found.append(torch.stack(each, dim=1).numpy())
    return np.concatenate(found)
