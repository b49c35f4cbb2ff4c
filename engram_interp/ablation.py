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
    STANDARD,
    Kind,
    beside_control,
    changes,
    log_probabilities,
    means_for,
    moved,
    same_size_changes,
    sources,
    target_of,
    write_sites,
)
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.intervene import intervene
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import mean_interval
from engram_interp.provenance import describe, too_few
from engram_interp.results import AblationComparison, AblationEffect
from engram_interp.retained import retained

__all__ = ["KINDS", "MEANING", "STANDARD", "ablate", "compare", "effect", "retained"]

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
    reference: Any = None,
    swap: Any = None,
) -> Iterator[SubjectModel]:
    """Switch part of the memory off inside a `with` block; afterwards outputs are bit-identical again.

    Args:
        model: A model with a memory.
        kind: One of `KINDS` (see `MEANING`).
        layers: Memory layers, counted from 0; None for all.
        orders: N-gram orders (rows kinds only).
        heads: Heads within each order (rows kinds only).
        streams: Residual streams (output and gate kinds only).
        tokens: Positions, the separator at 0; None for all. The short convolution still spreads what
            other tokens read to these.
        seed: Of what is drawn: random rows, the shuffle.
        reference: Texts whose mean gate `gate_mean` sets; None for the first 16 packaged passages.
        swap: Whose reads `ngram_swap` takes: a text or token ids (those of its last token), or a position
            of the same prompt.

    Raises:
        InputError: If the model has no memory there, a part does not apply to the kind, or the kind wants
            training hits (`rows_mean`) or a swap that is not there.

    Example:
        >>> with ablate(model, "gate_zero", layers=[1]):  # doctest: +SKIP
        ...     rec = record(model, "Only Alexander the Great could tame the horse")
    """
    target = target_of(model, kind, layers=layers, orders=orders, heads=heads, streams=streams, tokens=tokens)
    means = means_for(model, [kind], reference=reference, swap=swap)
    with intervene(model, changes(model, kind, target, seed=seed, means=means)):
        yield model


def effect(
    model: SubjectModel,
    texts: Any,
    *,
    kinds: Sequence[Kind] = STANDARD,
    layers: Sequence[int] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
    reference: Any = None,
    swap: Any = None,
) -> AblationEffect:
    """Change of loss and predictions when the memory is switched off, beside a same-size control.

    The control moves the memory's write as far as the ablation did, at the same tokens, in a random
    direction.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids.
        kinds: Ablations to compare; by default those that need neither training hits nor reference texts.
        layers: Memory layers, counted from 0; None for all.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the controls, the random rows and the bootstrap.
        batch_size: Prompts per forward pass; `rows_shuffled` exchanges reads within one.
        reference: As in `ablate`.
        swap: As in `ablate`.

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
    means = means_for(model, kinds, reference=reference, swap=swap)
    found = {(kind, arm): list[np.ndarray]() for kind in kinds for arm in _ARMS}
    intact, documents = list[np.ndarray](), list[np.ndarray]()
    for start in range(0, len(encoded), batch_size):
        batch = encoded.part(slice(start, start + batch_size)).trimmed()
        before, written = log_probabilities(model, batch, {}, sites)
        intact.append(_loss(before, batch)[batch.mask[:, 1:].cpu()].double().numpy())
        documents.append(batch.mask[:, 1:].nonzero()[:, 0].cpu().numpy() + start)
        for kind, target in targets.items():
            arms = beside_control(model, batch, kind, target, written, seed=seed + start, means=means)
            for arm, after in zip(_ARMS, arms, strict=True):
                found[kind, arm].append(_moves(before, after, batch))
    owner = np.concatenate(documents)
    variables: dict[str, Any] = {"intact_loss": float(np.concatenate(intact).mean())}
    for arm in _ARMS:
        values = np.stack([np.concatenate(found[kind, arm]) for kind in kinds], axis=1)
        bounds = mean_interval(values, owner, n_boot=n_boot, seed=seed)
        for index, name in enumerate(("delta_loss", "kl")):
            variables[f"{arm}{name}"] = bounds.value[:, index]
            variables[f"{arm}{name}_low"] = bounds.low[:, index]
            variables[f"{arm}{name}_high"] = bounds.high[:, index]
    facts = (
        describe(model, encoded, seed=seed)
        | {
            "layers": "all" if layers is None else ", ".join(map(str, layers)),
            "control": "the memory's write moved as far, at the same tokens, in a random direction",
            "n_boot": n_boot,
        }
        | sources(model, kinds, reference=reference, swap=swap)
    )
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
    reference: Any = None,
    swap: Any = None,
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
        reference: As in `ablate`.
        swap: As in `ablate`.

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
    sites = write_sites(model, target)
    means = means_for(model, [kind], reference=reference, swap=swap)
    before, written = log_probabilities(model, encoded, {}, sites)
    after, seen = log_probabilities(
        model, encoded, changes(model, kind, target, seed=seed, means=means), sites
    )
    other, _ = log_probabilities(model, encoded, changes(model, "rows_random", by_rows, seed=seed))
    control = same_size_changes(model, target, moved(written, seen), seed=seed)
    nudged, _ = log_probabilities(model, encoded, control)
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
