"""From which layer on can the identity of an entity, or of the words before, be read off linearly?

A ridge regression from residuals to one column per class names the class of the largest column, on
documents it was not fitted on. A probe finds what is there, not what is used. Beside it stand the same
probe on shuffled labels, the share of the commonest class, and a guess from the current token alone: what
the residual says beyond the token that is being read is only what exceeds that guess.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int64

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.samples import Samples, Streams, residuals
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.prompts import PromptSet, coerce
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.metrics import ridge
from engram_interp.metrics.bootstrap import mean_interval
from engram_interp.metrics.predictivity import document_folds
from engram_interp.provenance import describe, unmeasured
from engram_interp.results.patchscope import IdentityProbe

__all__ = ["identity"]

Label = Literal["previous", "before previous", "entity"]
_MEANING = {
    "previous": "canonical token before the one that is read",
    "before previous": "canonical token two before the one that is read",
    "entity": "entity that ends at the token that is read",
}
_FOLDS = 5
_FEWEST_DOCUMENTS = 3
_SHUFFLES = 5
_HELD = 4  # every fourth training document chooses the penalty


def identity(
    model: SubjectModel,
    texts: Any,
    *,
    baseline: SubjectModel | None = None,
    label: Label = "previous",
    classes: int = 64,
    per_class: int = 60,
    streams: Streams = "concat",
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 16,
) -> IdentityProbe:
    """Held-out accuracy of a linear probe by layer, beside its nulls and the baseline.

    Args:
        model: The model.
        texts: Texts or a `PromptSet`; marked entities for label "entity".
        baseline: The model without memory to stand beside it; both must cut the texts into the same tokens.
        label: What is to be named: the canonical token "previous" to the current one, the one "before
            previous", or the "entity" that ends at the token.
        classes: The so many commonest labels take part (each in at least 3 documents).
        per_class: Occurrences drawn of each.
        streams: How M > 1 residual streams enter.
        n_boot: Bootstrap samples over documents (the probes stay as fitted); intervals are 95 %.
        seed: Of the draws, the folds, the shuffled labels and the bootstrap.
        batch_size: Prompts per forward pass.

    Raises:
        InputError: If the label is unknown, fewer than two labels recur in at least 3 documents, there are
            fewer than 5 documents, or the models cut the texts differently.
    """
    if label not in get_args(Label):
        raise InputError(f"label is one of {', '.join(get_args(Label))}, got {label!r}.")
    models = [model] if baseline is None else [model, baseline]
    limit = min((m.n_ctx for m in models if m.n_ctx is not None), default=None)
    prompts = coerce(texts)
    encodings = [encode(m, prompts, limit=limit) for m in models]
    tokens = encodings[0].tokens.cpu()
    if not all(e.tokens.shape == tokens.shape and bool((e.tokens.cpu() == tokens).all()) for e in encodings):
        raise InputError("The models cut these texts into different tokens; probe each model alone.")
    task = _drawn(_labelled(model, encodings[0], prompts, label), classes, per_class, seed=seed, label=label)
    samples = Samples(
        document=task.document, position=np.tile(task.position, (len(models), 1)), what=_MEANING[label]
    )
    folds = document_folds(task.document, n_folds=_FOLDS, seed=seed)
    n_layers = max(m.n_layers for m in models)
    right = np.full((len(samples), 2, len(models), n_layers), np.nan)
    for which, m in enumerate(models):
        acts = residuals(m, encodings[which], samples, which, streams=streams, batch_size=batch_size)
        for layer, rows in enumerate(acts):
            right[:, :, which, layer] = _probed(rows, task, folds, seed=seed)
    variables = _measured(right, _by_token(task, folds), task, n_boot=n_boot, seed=seed)
    facts = describe(model, encodings[0], seed=seed) | {
        "n_samples": len(samples),
        "n_documents": len(np.unique(task.document)),
        "label": label,
        "meaning": _MEANING[label],
        "n_classes": len(task.names),
        "streams": str(streams),
        "probe": f"ridge to one column per class, {_FOLDS} folds of whole documents",
    }
    if baseline is not None:
        facts |= {"baseline": baseline.name, "baseline_digest": baseline.digest or "unknown"}
    return IdentityProbe.from_arrays(
        coords={"model": ["engram", "baseline"][: len(models)], "layer": np.arange(n_layers)},
        variables=variables,
        provenance=facts,
        missing=unmeasured(
            variables,
            len(np.unique(task.document)),
            paired=baseline is not None,
            why="the model has fewer layers",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is to be named at which tokens.

    Attributes:
        document: Index of the prompt, ascending.
        position: Its token position.
        token: Canonical id of the token that is read.
        label: Number of the label.
        names: The labels.
    """

    document: Int64[np.ndarray, " sample"]
    position: Int64[np.ndarray, " sample"]
    token: Int64[np.ndarray, " sample"]
    label: Int64[np.ndarray, " sample"]
    names: tuple[object, ...]


def _canonical(model: SubjectModel) -> np.ndarray:
    return hashing.token_map(model.tokenizer)[0] if model.token_map is None else model.token_map


def _labelled(
    model: SubjectModel, encoded: Encoded, prompts: PromptSet, label: Label
) -> list[tuple[int, int, int, object]]:
    """Document, position, canonical token and label of every token that has one."""
    ids = _canonical(model)[encoded.tokens.cpu().numpy()]
    lengths = encoded.mask.sum(1).tolist()
    first = 0 if model.separator_id is None else 1
    if label != "entity":
        lag = 1 if label == "previous" else 2
        return [
            (d, t, int(ids[d, t]), int(ids[d, t - lag]))
            for d, length in enumerate(lengths)
            for t in range(first + lag, length)
        ]
    found: list[tuple[int, int, int, object]] = []
    for d, (text, spans) in enumerate(zip(prompts.texts, prompts.entities, strict=True)):
        offsets = model.tokenizer.encode(text, add_special_tokens=False).offsets
        for start, end in spans:
            inside = [i + first for i, (a, b) in enumerate(offsets) if a < end <= b]
            if inside and inside[-1] < lengths[d]:
                found.append((d, inside[-1], int(ids[d, inside[-1]]), text[start:end].casefold()))
    return found


def _drawn(
    found: list[tuple[int, int, int, object]], classes: int, per_class: int, *, seed: int, label: str
) -> _Task:
    documents: dict[object, set[int]] = {}
    for d, _, _, name in found:
        documents.setdefault(name, set()).add(d)
    recurring = {name for name, seen in documents.items() if len(seen) >= _FEWEST_DOCUMENTS}
    common = Counter(name for _, _, _, name in found if name in recurring).most_common(classes)
    if len(common) < 2 or per_class < 2:
        raise InputError(
            f"A probe wants at least two labels that recur in {_FEWEST_DOCUMENTS} documents and per_class "
            f"≥ 2, got {len(common)} ({label!r}) and {per_class}; give more texts, or another label=."
        )
    generator = np.random.default_rng(seed)
    kept: list[tuple[int, int, int, int]] = []
    for number, (name, _) in enumerate(common):
        places = [(d, t, token) for d, t, token, this in found if this == name]
        chosen = generator.permutation(len(places))[:per_class]
        kept += [(*places[i], number) for i in chosen]
    columns = np.asarray(sorted(kept), np.int64).T
    document, position, token, numbers = columns
    return _Task(
        document=document,
        position=position,
        token=token,
        label=numbers,
        names=tuple(name for name, _ in common),
    )


def _probed(
    rows: Float[np.ndarray, "sample d"], task: _Task, folds: Int64[np.ndarray, " sample"], *, seed: int
) -> Float[np.ndarray, "sample 2"]:
    """Share of probes, fitted on other folds, that name each sample rightly: true labels, shuffled ones."""
    generator = np.random.default_rng(seed + 1)
    shuffled = [task.label[generator.permutation(len(task.label))] for _ in range(_SHUFFLES)]
    right = np.zeros((len(rows), 2))
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        held = np.isin(task.document[train], np.unique(task.document[train])[::_HELD])
        targets = [np.eye(len(task.names))[labels[train]] for labels in (task.label, *shuffled)]
        for number, (weight, bias) in enumerate(ridge.fit(rows[train], targets, held)):
            named = (rows[test] @ weight + bias).argmax(1) == task.label[test]
            right[test, min(number, 1)] += named / (_SHUFFLES if number else 1)
    return right


def _by_token(task: _Task, folds: Int64[np.ndarray, " sample"]) -> Bool[np.ndarray, " sample"]:
    """Whether the commonest label of the current token, in the other folds, is the right one."""
    right = np.zeros(len(folds), bool)
    for fold in np.unique(folds):
        train = folds != fold
        most = int(np.bincount(task.label[train]).argmax())
        seen: dict[int, Counter[int]] = {}
        for token, label in zip(task.token[train].tolist(), task.label[train].tolist(), strict=True):
            seen.setdefault(token, Counter())[label] += 1
        for sample in np.flatnonzero(~train):
            counts = seen.get(int(task.token[sample]))
            guess = counts.most_common(1)[0][0] if counts else most
            right[sample] = guess == task.label[sample]
    return right


def _measured(
    right: np.ndarray, by_token: np.ndarray, task: _Task, *, n_boot: int, seed: int
) -> dict[str, Any]:
    nothing = np.full(right.shape[0::3], np.nan)
    difference = right[:, 0, 0] - right[:, 0, 1] if right.shape[2] > 1 else nothing
    values = {
        "accuracy": right[:, 0],
        "null_accuracy": right[:, 1],
        "by_token": by_token.astype(float),
        "difference": difference,
    }
    variables: dict[str, Any] = {"chance": float(np.bincount(task.label).max() / len(task.label))}
    for name, each in values.items():
        bounds = mean_interval(each, task.document, n_boot=n_boot, seed=seed)
        variables |= {name: bounds.value, f"{name}_low": bounds.low, f"{name}_high": bounds.high}
    return variables
