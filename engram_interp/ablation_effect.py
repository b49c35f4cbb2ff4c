"""What switching the memory off costs over many documents: loss, predictions, rank of the token that comes.

Every cost stands beside that of a change of the same size, beside a matched model that never had a memory
where one is given, and by how often training saw the n-gram that was read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from engram_interp.capture.ablations import (
    KINDS,
    STANDARD,
    Kind,
    beside_control,
    log_probabilities,
    means_for,
    sources,
    target_of,
)
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.hits import STRATA, strata_of
from engram_interp.capture.predictions import batches, moves, next_loss, rank
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import mean_interval
from engram_interp.provenance import describe, too_few
from engram_interp.results import AblationEffect

__all__ = ["effect"]

_ARMS = ("", "control_")
_NAMES = ("delta_loss", "kl", "rank")
_ENDS = ("", "_low", "_high")


def effect(
    model: SubjectModel,
    texts: Any,
    *,
    kinds: Sequence[Kind] = STANDARD,
    baseline: SubjectModel | None = None,
    layers: Sequence[int] | None = None,
    orders: Sequence[int] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
    reference: Any = None,
    swap: Any = None,
) -> AblationEffect:
    """Change of loss and predictions when the memory is switched off, beside a same-size control.

    The control moves the memory's write as far as the ablation did, at the same tokens, in a random
    direction. What is drawn for a prompt depends on the seed and the prompt's place among the texts, not on
    which others share its batch.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids.
        kinds: Ablations to compare; by default those that need neither training hits nor reference texts.
        baseline: A matched model that never had a memory, run on the same tokens.
        layers: Memory layers, counted from 0; None for all.
        orders: N-gram orders, for kinds of rows; None for all.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the controls, the random rows and the bootstrap.
        batch_size: Prompts per forward pass.
        reference: As in `ablation.ablate`.
        swap: As in `ablation.ablate`.

    Returns:
        Per kind the mean change of next-token loss and KL(intact ‖ ablated), nats per token, and the
        geometric mean rank of the token that comes, with intervals, and the same of the control; all of it
        also by how often training saw the n-gram read before it (`capture.hits.strata_of`). With fewer than
        20 documents there are no intervals.
    """
    encoded = encode(model, texts)
    if encoded.tokens.shape[1] < 2:
        raise InputError("An effect on the next-token loss wants prompts of at least two tokens.")
    if isinstance(kinds, str) or not kinds:
        raise InputError(f"kinds wants a list of ablations ({', '.join(KINDS)}), got {kinds!r}.")
    targets = {kind: target_of(model, kind, layers=layers, orders=orders) for kind in kinds}
    sites = [f"blocks.{layer}.hook_engram_out" for layer in model.memory_layers]
    means = means_for(model, kinds, reference=reference, swap=swap)
    found = {(kind, arm): list[np.ndarray]() for kind in kinds for arm in _ARMS}
    intact, documents = list[np.ndarray](), list[np.ndarray]()
    for start, batch in batches(encoded, batch_size=batch_size):
        predicted = batch.mask[:, 1:].cpu()
        before, written = log_probabilities(model, batch, {}, sites)
        intact.append(_judged(before, batch))
        documents.append(predicted.nonzero()[:, 0].numpy() + start)
        for kind, target in targets.items():
            arms = beside_control(model, batch, kind, target, written, seed=seed, first=start, means=means)
            for arm, after in zip(_ARMS, arms, strict=True):
                moved = moves(before, after, batch)[predicted].numpy()
                found[kind, arm].append(np.concatenate([moved, _judged(after, batch)[:, 1:]], axis=1))
    owner, judged = np.concatenate(documents), np.concatenate(intact)
    values = {arm: np.stack([np.concatenate(found[k, arm]) for k in kinds], axis=1) for arm in _ARMS}
    never, unpaired = _never(baseline, encoded, texts, batch_size=batch_size)
    which, counted = _strata(model, encoded)
    drawn: dict[str, Any] = {"n_boot": n_boot, "seed": seed}
    variables = _measured(values, judged, never, owner, **drawn)
    parts = [
        _measured(values, judged, never, owner, inside=which == number, **drawn)
        for number in range(len(STRATA))
    ]
    variables |= {f"stratum_{name}": np.stack([part[name] for part in parts]) for name in variables}
    variables["stratum_tokens"] = np.array([(which == number).sum() for number in range(len(STRATA))])
    facts = (
        describe(model, encoded, seed=seed)
        | {
            "layers": "all" if layers is None else ", ".join(map(str, layers)),
            "orders": "all" if orders is None else ", ".join(map(str, orders)),
            "control": "the memory's write moved as far, at the same tokens, in a random direction",
            "baseline": "none" if baseline is None else baseline.name,
            "strata": counted or "not known",
            "n_boot": n_boot,
        }
        | sources(model, kinds, reference=reference, swap=swap)
    )
    return AblationEffect.from_arrays(
        coords={"kind": list(kinds), "stratum": list(STRATA)},
        variables=variables,
        provenance=facts | {"n_samples": len(owner)},
        missing=_missing(variables, len(np.unique(owner)), unpaired=unpaired),
    )


def _judged(log_p: torch.Tensor, batch: Encoded) -> np.ndarray:
    """Loss in nats and log(1 + rank) of every token that comes `[token, 2]`."""
    both = torch.stack([next_loss(log_p, batch), rank(log_p, batch).log1p()], dim=-1)
    return both[batch.mask[:, 1:].cpu()].double().numpy()


def _never(
    baseline: SubjectModel | None, encoded: Encoded, texts: Any, *, batch_size: int
) -> tuple[np.ndarray | None, str]:
    """What `_judged` gives of the baseline on the same tokens, or why it is not there."""
    if baseline is None:
        return None, "no baseline was given"
    same = encode(baseline, texts)
    if same.digest != encoded.digest:
        return None, f"{baseline.name} cuts these texts into other tokens"
    parts = [
        _judged(log_probabilities(baseline, batch, {})[0], batch)
        for _, batch in batches(same, batch_size=batch_size)
    ]
    return np.concatenate(parts), ""


def _strata(model: SubjectModel, encoded: Encoded) -> tuple[np.ndarray, str]:
    """Stratum of the n-gram read before every predicted token, -1 if unknown, and by which count."""
    sites = [f"blocks.{layer}.engram.hook_rows" for layer in model.memory_layers]
    known = [site for site in sites if site in model.sites]
    if len(known) < len(sites):
        return np.full(int(encoded.mask[:, 1:].sum()), -1), ""
    rec = record(model, encoded, sites=sites, logits=False)
    found, counted = strata_of(model, encoded, [rec[site] for site in sites])
    return found.min(0)[:, :-1][encoded.mask[:, 1:].cpu().numpy()], counted


def _measured(
    values: dict[str, np.ndarray],
    judged: np.ndarray,
    never: np.ndarray | None,
    owner: np.ndarray,
    *,
    inside: np.ndarray | None = None,
    n_boot: int,
    seed: int,
) -> dict[str, Any]:
    """Means with their intervals over the tokens inside, ranks as geometric means."""
    found: dict[str, Any] = {}

    def put(name: str, each: np.ndarray, *, ranks: bool = False) -> None:
        bounds = mean_interval(each, owner, mask=inside, n_boot=n_boot, seed=seed)
        for end, part in zip(_ENDS, (bounds.value, bounds.low, bounds.high), strict=True):
            found[f"{name}{end}"] = np.expm1(part) if ranks else part

    put("intact_loss", judged[:, 0])
    put("intact_rank", judged[:, 1], ranks=True)
    for arm, each in values.items():
        for index, name in enumerate(_NAMES):
            put(f"{arm}{name}", each[..., index], ranks=name == "rank")
    other = np.full_like(judged, np.nan) if never is None else never
    put("baseline_delta_loss", other[:, 0] - judged[:, 0])
    put("baseline_rank", other[:, 1], ranks=True)
    return found


def _missing(variables: dict[str, Any], n_documents: int, *, unpaired: str) -> dict[str, str]:
    bounds = [name for name in variables if name.endswith(_ENDS[1:])]
    empty = [name for name in variables if name.startswith("stratum_") and name != "stratum_tokens"]
    reasons = dict.fromkeys(empty, "no token of this stratum, or for an interval too few documents with one")
    reasons |= too_few(n_documents, bounds)
    if unpaired:
        reasons |= {name: unpaired for name in variables if "baseline" in name}
    return reasons
