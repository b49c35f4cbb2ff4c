"""Does the memory matter? Switch parts of it off, beside controls of the same size.

Zeroing is off-distribution: a model may do worse without its memory than one that never had any. So
every effect stands beside a random control that moves the memory's write just as far, and no verdict
follows from one kind of ablation alone (SCIENCE section 5 lists the kinds).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp import ablation_lens
from engram_interp.ablation_effect import effect
from engram_interp.capture.ablations import (
    KINDS,
    MEANING,
    STANDARD,
    Kind,
    changes,
    log_probabilities,
    means_for,
    moved,
    random_rows,
    same_size_changes,
    target_of,
    write_sites,
)
from engram_interp.capture.draws import another
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.intervene import intervene
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.index import Progress, quiet
from engram_interp.numbering import runs_of
from engram_interp.provenance import describe
from engram_interp.results import AblationComparison
from engram_interp.retained import retained
from engram_interp.views.tokens import spelled

__all__ = ["KINDS", "MEANING", "STANDARD", "ablate", "compare", "effect", "retained"]

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


def compare(
    model: SubjectModel,
    text: str,
    *,
    kind: Kind = "rows_zero",
    token: int = -1,
    layers: Sequence[int] | None = None,
    orders: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    streams: Sequence[int] | None = None,
    tokens: Sequence[int] | None = None,
    everywhere: bool = False,
    top: int = 10,
    seed: int = 0,
    draws: int = 8,
    reference: Any = None,
    swap: Any = None,
    progress: Progress = quiet,
) -> AblationComparison:
    """Predictions after one token, with and without what it read from memory, and with two controls.

    Conditions: "intact"; "ablated"; "random rows" (the same reads from other rows of the same heads; with
    `streams`, in these alone); "random direction" (the memory's write moved as far as the ablation moved it,
    anywhere). The raw lens is read under each, where the model has one. One draw of a control is one chance
    number: each is drawn `draws` times, and what every draw did stands in ``control_kl`` and
    ``control_answer``; the predictions shown are those of the first.

    Where all of `tokens` come after `token`, its prediction cannot change; those of later tokens can.

    Args:
        model: A model with a memory.
        text: One prompt.
        kind: What is switched off.
        token: Position whose prediction is shown, and whose reads are switched off where neither `tokens`
            nor `everywhere` says otherwise; negative counts from the end; the separator is at 0.
        layers: Memory layers; None for all.
        orders: N-gram orders (rows kinds only).
        heads: Heads within each order (rows kinds only).
        streams: Residual streams (output and gate kinds only).
        tokens: Positions whose reads are switched off, counted as `token` is; None for `token` alone.
        everywhere: Switch the reads of every token off, not only of this one.
        top: Predictions kept per condition.
        seed: Of the first draw of the controls; the others have seeds of their own that follow from it
            (`capture.draws.another`). Of `rows_random` itself, too, whose random rows are then other ones.
        draws: How often each control is drawn, 1 or more; each costs two passes, and with some of several
            `streams` one more a memory layer.
        reference: As in `ablate`.
        swap: As in `ablate`.
        progress: Called with the share done of the passes and what comes next; `print` will do.

    Raises:
        InputError: If a token lies outside the prompt, a part does not apply to the kind, both `tokens`
            and `everywhere` are given, or `draws` is below 1.
    """
    encoded = encode(model, text)
    length = encoded.tokens.shape[1]
    if not 1 <= top <= model.d_vocab:
        raise InputError(f"top wants to lie in 1 … {model.d_vocab}, got {top}.")
    if draws < 1:
        raise InputError(f"draws wants to be 1 or more, got {draws}; a control is drawn at least once.")
    if everywhere and tokens is not None:
        raise InputError("Give tokens=… for some of the tokens or everywhere=True for all, not both.")
    [position] = _positions([token], length)
    changed = None if everywhere else _positions([token] if tokens is None else tokens, length)
    target = target_of(
        model, kind, layers=layers, orders=orders, heads=heads, streams=streams, tokens=changed
    )
    writes, lens = write_sites(model, target), ablation_lens.sites(model)[0]
    progress(0.0, "running with the memory")
    means = means_for(model, [kind], reference=reference, swap=swap)
    before, intact = log_probabilities(model, encoded, {}, [*writes, *lens])
    progress(0.15, "running without it")
    after, ablated = log_probabilities(
        model, encoded, changes(model, kind, target, seed=seed, means=means), [*writes, *lens]
    )
    progress(0.3, "running with random rows")
    # Drawn with the seed of random rows that are ablated, the control would be the ablation itself.
    first = 1 if kind == "rows_random" else 0
    other_rows = random_rows(model, encoded, target, seed=another(seed, first))
    other, drawn = log_probabilities(model, encoded, other_rows, lens)
    sizes = moved({site: intact[site] for site in writes}, {site: ablated[site] for site in writes})
    control = same_size_changes(model, target, sizes, seed=seed)
    progress(0.4, "running with a change of the same size")
    nudged, pushed = log_probabilities(model, encoded, control, lens)
    progress(0.5, "drawing the controls again" if draws > 1 else "reading the controls")
    answer = int(before[0, position].argmax())
    told = [[_told(before, control, position, answer) for control in (other, nudged)]]
    for draw in range(1, draws):
        fresh = random_rows(model, encoded, target, seed=another(seed, first + draw))
        turned = same_size_changes(model, target, sizes, seed=another(seed, draw))
        passes = (log_probabilities(model, encoded, site)[0] for site in (fresh, turned))
        told.append([_told(before, control, position, answer) for control in passes])
    progress(0.8, "reading what each layer would predict")
    variables, unread = ablation_lens.change(model, encoded, before, [intact, ablated, drawn, pushed])
    first_layer = min(sizes)
    written = f"blocks.{first_layer}.hook_engram_out"
    variables |= {
        "written": ablation_lens.written(intact[written], ablated[written]),
        "first_layer": first_layer,
        "first_token": 0 if changed is None else changed[0],
        "control_kl": np.stack([[kl for kl, _ in pair] for pair in told], axis=1),
        "control_answer": np.asarray([[log_p for _, log_p in pair] for pair in told]).T,
    }
    facts = {"what": f"{kind}: {MEANING[kind]}; {target.describe()}"}
    facts |= {"lens_missing": unread} if unread else {"lens": "raw logit lens"}
    stack = torch.stack([before[0], after[0], other[0], nudged[0]])
    progress(1.0, "done")
    return _comparison(model, encoded, stack, position, top=top, more=variables, facts=facts, seed=seed)


def _told(before: Tensor, changed: Tensor, position: int, answer: int) -> tuple[np.ndarray, float]:
    """KL(intact ‖ changed) by token, and the log-probability of the answer at `position`, nats."""
    return _divergence(before, changed)[0].numpy(), float(changed[0, position, answer])


def _divergence(intact: Tensor, changed: Tensor) -> Tensor:
    """KL(intact ‖ changed) over the last axis, float64."""
    return (intact.exp() * (intact - changed)).sum(-1).double()


def _positions(tokens: Sequence[int], length: int) -> list[int]:
    """Each position once, counted from 0, in order."""
    if isinstance(tokens, str) or not isinstance(tokens, Iterable):
        raise InputError(f"tokens wants a list of positions, such as tokens=[3, 7], got {tokens!r}.")
    odd = [token for token in tokens if not isinstance(token, int | np.integer)]
    if odd:
        raise InputError(f"Token positions are whole numbers, got {', '.join(map(repr, odd))}.")
    beyond = [token for token in tokens if not -length <= token < length]
    if beyond:
        raise InputError(
            f"Token {', '.join(runs_of(beyond))} lies outside the prompt, which has {length} tokens "
            f"(0 … {length - 1})."
        )
    return sorted({int(token) % length for token in tokens})


def _comparison(
    model: SubjectModel,
    encoded: Encoded,
    log_p: Tensor,
    position: int,
    *,
    top: int,
    more: Mapping[str, Any],
    facts: dict[str, str],
    seed: int,
) -> AblationComparison:
    best = log_p[:, position].topk(top)
    answer = int(best.indices[0, 0])
    kl = _divergence(log_p[:1], log_p)
    texts = [[model.token_text(int(i)) for i in row] for row in best.indices]
    return AblationComparison.from_arrays(
        coords={"condition": list(_CONDITIONS), "control": list(_CONDITIONS[2:])}
        | ({"layer": np.arange(model.n_layers)} if "lens_kl" in more else {}),
        variables={
            "top_token": np.asarray(texts, dtype=object),
            "top_id": best.indices.numpy(),
            "logprob": best.values.double().numpy(),
            "kl": kl.numpy(),
            "answer_logprob": log_p[:, position, answer].double().numpy(),
            "token_text": np.asarray([model.token_text(int(i)) for i in encoded.tokens[0]], object),
            "token_index": position,
            **more,
        },
        provenance=describe(model, encoded, seed=seed)
        | facts
        | {"answer": spelled(model.token_text(answer))},
    )
