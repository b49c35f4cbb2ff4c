"""Does the memory matter? Switch parts of it off, beside controls of the same size.

Zeroing is off-distribution: a model may do worse without its memory than one that never had any. So
every effect stands beside a random control that moves the memory's write just as far, and no verdict
follows from one kind of ablation alone (SCIENCE section 5 lists the kinds).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.ablations import (
    KINDS,
    MEANING,
    Kind,
    Target,
    changes,
    same_size_changes,
    target_of,
)
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.intervene import intervene
from engram_interp.capture.record import run_batches
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import mean_interval
from engram_interp.provenance import describe, too_few
from engram_interp.results import AblationComparison, AblationEffect

__all__ = ["KINDS", "MEANING", "ablate", "compare", "effect"]

_ARMS = ("", "control_")
_CONDITIONS = ("intact", "ablated", "random rows", "random direction")


@contextmanager
def ablate(
    model: SubjectModel,
    kind: Kind,
    *,
    layers: Sequence[int] | None = None,
    orders: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    streams: Sequence[int] | None = None,
    tokens: Sequence[int] | None = None,
    seed: int = 0,
) -> Iterator[SubjectModel]:
    """Switch part of the memory off inside a `with` block; afterwards outputs are bit-identical again.

    Args:
        model: A model with a memory.
        kind: "output_off", "gate_zero", "rows_zero" or "rows_random" (see `MEANING`).
        layers: Memory layers, counted from 0; None for all.
        orders: N-gram orders (rows kinds only).
        heads: Heads within each order (rows kinds only).
        streams: Residual streams (output and gate kinds only).
        tokens: Positions, the separator at 0; None for all. The short convolution still spreads what
            other tokens read to these.
        seed: Of the random rows.

    Raises:
        InputError: If the model has no memory there, or a part does not apply to the kind.

    Example:
        >>> with ablate(model, "gate_zero", layers=[1]):  # doctest: +SKIP
        ...     rec = record(model, "Only Alexander the Great could tame the horse")
    """
    target = target_of(model, kind, layers=layers, orders=orders, heads=heads, streams=streams, tokens=tokens)
    with intervene(model, changes(model, kind, target, seed=seed)):
        yield model


def _write_sites(model: SubjectModel, target: Target) -> list[str]:
    layers = model.memory_layers if target.layers is None else target.layers
    return [f"blocks.{layer}.hook_engram_out" for layer in layers]


def _log_p(
    model: SubjectModel, batch: Encoded, changed: dict[str, Any], sites: list[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    with intervene(model, changed):
        [(output, seen)] = run_batches(model, batch, sites, batch_size=len(batch))
    # On the CPU, where the numbers end up: the changes themselves ran on the model's device.
    return output.float().cpu().log_softmax(-1), seen


def _moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[int, Tensor]:
    return {
        int(site.split(".")[1]): (after[site].float() - before[site].float()).norm(dim=-1, keepdim=True)
        for site in before
    }


def effect(
    model: SubjectModel,
    texts: Any,
    *,
    kinds: Sequence[Kind] = KINDS,
    layers: Sequence[int] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
) -> AblationEffect:
    """Change of loss and predictions when the memory is switched off, beside a same-size control.

    The control moves the memory's write as far as the ablation did, at the same tokens, in a random
    direction.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids.
        kinds: Ablations to compare.
        layers: Memory layers, counted from 0; None for all.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the controls, the random rows and the bootstrap.
        batch_size: Prompts per forward pass.

    Returns:
        Per kind the mean change of next-token loss and KL(intact ‖ ablated), nats per token, with
        intervals, and the same of the control. With fewer than 20 documents there are no intervals.
    """
    encoded = encode(model, texts)
    if encoded.tokens.shape[1] < 2:
        raise InputError("An effect on the next-token loss wants prompts of at least two tokens.")
    if isinstance(kinds, str) or not kinds:
        raise InputError(f"kinds wants a list of ablations ({', '.join(KINDS)}), got {kinds!r}.")
    targets = {kind: target_of(model, kind, layers=layers) for kind in kinds}
    sites = [f"blocks.{layer}.hook_engram_out" for layer in model.memory_layers]
    found = {(kind, arm): list[np.ndarray]() for kind in kinds for arm in _ARMS}
    intact, documents = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, len(encoded), batch_size):
        batch = _rows(encoded, slice(start, start + batch_size))
        before, written = _log_p(model, batch, {}, sites)
        intact.append(_loss(before, batch)[batch.mask[:, 1:].cpu()].double().numpy())
        documents.append(batch.mask[:, 1:].nonzero()[:, 0].cpu().numpy() + start)
        for kind, target in targets.items():
            chosen = _write_sites(model, target)
            after, moved = _log_p(model, batch, changes(model, kind, target, seed=seed + start), chosen)
            found[kind, ""].append(_moves(before, after, batch))
            sizes = _moved({s: written[s] for s in chosen}, moved)
            control = same_size_changes(model, target, sizes, seed=seed + start)
            found[kind, "control_"].append(_moves(before, _log_p(model, batch, control, [])[0], batch))
    owner = np.concatenate(documents)
    variables: dict[str, Any] = {"intact_loss": float(np.concatenate(intact).mean())}
    for arm in _ARMS:
        values = np.stack([np.concatenate(found[kind, arm]) for kind in kinds], axis=1)
        bounds = mean_interval(values, owner, n_boot=n_boot, seed=seed)
        for index, name in enumerate(("delta_loss", "kl")):
            variables[f"{arm}{name}"] = bounds.value[:, index]
            variables[f"{arm}{name}_low"] = bounds.low[:, index]
            variables[f"{arm}{name}_high"] = bounds.high[:, index]
    facts = describe(model, encoded, seed=seed) | {
        "layers": "all" if layers is None else ", ".join(map(str, layers)),
        "control": "the memory's write moved as far, at the same tokens, in a random direction",
        "n_boot": n_boot,
    }
    return AblationEffect.from_arrays(
        coords={"kind": list(kinds)},
        variables=variables,
        provenance=facts | {"n_samples": len(owner)},
        missing=too_few(len(np.unique(owner)), [v for v in variables if v.endswith(("_low", "_high"))]),
    )


def _moves(before: Tensor, after: Tensor, batch: Encoded) -> np.ndarray:
    """Change of loss and KL(intact ‖ changed) at every predicted token `[token, 2]`, nats."""
    delta = _loss(after, batch) - _loss(before, batch)
    kl = (before.exp() * (before - after)).sum(-1)[:, :-1]
    return torch.stack([delta, kl], dim=-1)[batch.mask[:, 1:].cpu()].double().numpy()


def _loss(log_p: Tensor, batch: Encoded) -> Tensor:
    return -log_p[:, :-1].gather(-1, batch.tokens[:, 1:, None].cpu()).squeeze(-1)


def _rows(encoded: Encoded, rows: slice) -> Encoded:
    width = int(encoded.mask[rows].sum(1).max())
    return Encoded(
        tokens=encoded.tokens[rows, :width],
        mask=encoded.mask[rows, :width],
        entity_ends=encoded.entity_ends[rows],
        names=encoded.names[rows],
    )


def compare(
    model: SubjectModel,
    text: str,
    *,
    kind: Kind = "rows_zero",
    token: int = -1,
    layers: Sequence[int] | None = None,
    orders: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    everywhere: bool = False,
    top: int = 10,
    seed: int = 0,
) -> AblationComparison:
    """Predictions after one token, with and without what it read from memory, and with two controls.

    Conditions: "intact"; "ablated"; "random rows" (the same reads from other rows of the same heads);
    "random direction" (the memory's write moved as far as the ablation moved it, anywhere).

    Args:
        model: A model with a memory.
        text: One prompt.
        kind: What is switched off.
        token: Position whose reads are switched off and whose prediction is shown; negative counts
            from the end; the separator is at 0.
        layers: Memory layers; None for all.
        orders: N-gram orders (rows kinds only).
        heads: Heads within each order (rows kinds only).
        everywhere: Switch the reads of every token off, not only of this one.
        top: Predictions kept per condition.
        seed: Of the controls.

    Raises:
        InputError: If the token lies outside the prompt.
    """
    encoded = encode(model, text)
    length = encoded.tokens.shape[1]
    if not -length <= token < length:
        raise InputError(
            f"Token {token} lies outside the prompt, which has {length} tokens (0 … {length - 1})."
        )
    if not 1 <= top <= model.d_vocab:
        raise InputError(f"top wants to lie in 1 … {model.d_vocab}, got {top}.")
    position = token % length
    tokens = None if everywhere else [position]
    target = target_of(model, kind, layers=layers, orders=orders, heads=heads, tokens=tokens)
    by_rows = target_of(model, "rows_random", layers=layers, orders=orders, heads=heads, tokens=tokens)
    sites = _write_sites(model, target)
    before, written = _log_p(model, encoded, {}, sites)
    after, moved = _log_p(model, encoded, changes(model, kind, target, seed=seed), sites)
    other, _ = _log_p(model, encoded, changes(model, "rows_random", by_rows, seed=seed), [])
    control = same_size_changes(model, target, _moved(written, moved), seed=seed)
    nudged, _ = _log_p(model, encoded, control, [])
    stack = torch.stack([before[0], after[0], other[0], nudged[0]])
    return _comparison(
        model, encoded, stack, position, top, what=f"{kind}: {MEANING[kind]}; {target.describe()}", seed=seed
    )


def _comparison(
    model: SubjectModel, encoded: Encoded, log_p: Tensor, position: int, top: int, *, what: str, seed: int
) -> AblationComparison:
    best = log_p[:, position].topk(top)
    answer = int(best.indices[0, 0])
    kl = (log_p[:1].exp() * (log_p[:1] - log_p)).sum(-1)
    texts = [[model.token_text(int(i)) for i in row] for row in best.indices]
    return AblationComparison.from_arrays(
        coords={"condition": list(_CONDITIONS)},
        variables={
            "top_token": np.asarray(texts, dtype=object),
            "top_id": best.indices.numpy(),
            "logprob": best.values.double().numpy(),
            "kl": kl.double().numpy(),
            "answer_logprob": log_p[:, position, answer].double().numpy(),
            "token_text": np.asarray([model.token_text(int(i)) for i in encoded.tokens[0]], object),
            "token_index": position,
        },
        provenance=describe(model, encoded, seed=seed) | {"what": what, "answer": model.token_text(answer)},
    )
