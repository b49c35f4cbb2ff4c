"""Is a depth shift an artefact of CKA? The same comparison by measures that have little in common.

Beside CKA: mutual k-NN overlap (which samples are alike), orthogonal Procrustes (how well a rotation
lays one layer over the other) and held-out linear predictivity (what of a baseline layer an Engram layer
foretells). Through each one's similarities goes the same monotone path, read on the self-reference's own
as `depth` reads it. Give another seed of the baseline as the reference: the baseline itself is recognised
layer by layer, so it cannot take off what makes some baseline layers easier to resemble or to foretell.
Measures that agree make a finding; one alone is a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram_interp.capture.encode import Encoded
from engram_interp.capture.finite import check_finite, check_varies
from engram_interp.capture.samples import Samples, Streams, choose, document_groups, residuals
from engram_interp.capture.source import Source, encoded_of
from engram_interp.errors import InputError
from engram_interp.metrics import (
    alignment,
    bootstrap,
    cka,
    hsic,
    neighbours,
    predictivity,
    procrustes,
    shifts,
)
from engram_interp.provenance import describe
from engram_interp.results.opinions import SecondOpinions

__all__ = ["MEASURES", "compare"]

MEASURES = ("CKA", "mutual k-NN", "Procrustes", "linear predictivity")
"""In the order of results."""

_GROUP_ROWS = 32
_FOLDS = 5
_NO_PROCRUSTES = (
    "a Procrustes similarity of resampled documents wants a decomposition per resample and is biased upwards "
    "by their repetition"
)
_NO_CHANCE = "what unrelated layers show depends on their spectra: see the null"
_Draws = Callable[[np.ndarray], np.ndarray]


def compare(
    engram: Source,
    baseline: Source,
    texts: Any = None,
    *,
    reference: Source | None = None,
    streams: Streams = "concat",
    k: int = 10,
    n_boot: int = 500,
    seed: int = 0,
) -> SecondOpinions:
    """Similarity of every pair of layers by each measure, and the shift that follows.

    Args:
        engram: The model with memory.
        baseline: The model without.
        texts: Texts, a `PromptSet` with marked entities (their last tokens are the samples), or ids.
        reference: Another seed of the baseline; by default the baseline itself stands for it.
        streams: How M > 1 residual streams enter.
        k: Neighbours of the mutual k-NN overlap.
        n_boot: Bootstrap samples over documents; intervals are 95 %. Neighbours and regressions are
            not found again: what is resampled is each document's overlap and squared error. Procrustes
            has no interval.
        seed: Of the samples, folds, groups, shuffles and the bootstrap.

    Raises:
        InputError: If there are too few samples or documents (more than k samples, 5 documents), or the
            models share no tokens to compare at, an activation is NaN or infinite (names model, layer and
            token), or a layer holds the same everywhere (names it).
    """
    if reference is baseline:
        reference = None
    models = [engram, baseline] + ([] if reference is None else [reference])
    limit = min((m.n_ctx for m in models if m.n_ctx is not None), default=None)
    encodings = [encoded_of(model, texts, limit=limit) for model in models]
    samples = choose(encodings, seed=seed)
    n_documents = len(np.unique(samples.document))
    if len(samples) <= k or n_documents < _FOLDS:
        raise InputError(
            f"second opinions want more than {k} samples from at least {_FOLDS} documents, the prompts give "
            f"{len(samples)} from {n_documents}; give more text."
        )
    acts = [
        residuals(model, encoding, samples, i, streams=streams)
        for i, (model, encoding) in enumerate(zip(models, encodings, strict=True))
    ]
    for i, (model, encoding, layers) in enumerate(zip(models, encodings, acts, strict=True)):
        check_finite(model.name, layers, encoding, samples, i)
        check_varies(model.name, layers)
    xs, ys, rs = acts[0], acts[1], acts[-1]
    layer = np.arange(len(xs))
    pre_memory = layer < min(engram.memory_layers, default=len(xs))
    interior = ~alignment.edge_layers(len(xs), top_k=5) & ~pre_memory & (layer < len(rs))
    seen = _Seen(
        samples=samples,
        k=k,
        seed=seed,
        pre_memory=pre_memory,
        interior=interior,
        itself=reference is None,
    )
    variables = _variables(xs, ys, rs, seen, n_boot)
    facts = _facts(models, encodings[0], samples, reference)
    facts["interval"] = shifts.interval_name(itself=reference is None)
    facts |= {"k": k, "streams": str(streams), "n_boot": n_boot, "seed": seed, "folds": _FOLDS}
    return SecondOpinions.from_arrays(
        coords={
            "measure": MEASURES,
            "layer": layer,
            "baseline_layer": np.arange(len(ys)),
            "reference_layer": np.arange(len(rs)),
        },
        variables=variables,
        provenance=facts,
        missing=_missing(seen),
    )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What every measure looks at; `itself` says that the baseline stands for another seed of itself."""

    samples: Samples
    k: int
    seed: int
    pre_memory: np.ndarray
    interior: np.ndarray
    itself: bool

    @property
    def n_documents(self) -> int:
        return len(np.unique(self.samples.document))

    @property
    def groups(self) -> list[np.ndarray]:
        return list(document_groups(self.samples, rows=_GROUP_ROWS, seed=self.seed))


def _variables(
    xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], rs: Sequence[np.ndarray], seen: _Seen, n_boot: int
) -> dict[str, Any]:
    order = np.random.default_rng(seen.seed).permutation(len(seen.samples))
    shuffled = [layer[order] for layer in ys]
    rows: dict[str, list[Any]] = {}
    for measure in (_cka, _neighbours, _procrustes, _predictivity):
        (value, draw, n_units), (own, draw_own, _) = measure(xs, ys, seen), measure(rs, ys, seen)
        found = {"similarity": value, "similarity_self": own, "null": measure(xs, shuffled, seen)[0]}
        found |= _shifts(value, own, seen)
        weights = None
        if draw is not None and draw_own is not None and n_units >= bootstrap.MIN_GROUPS:
            weights = bootstrap.group_weights(n_units, n_boot, seen.seed)
            drawn = _shifts(draw(weights), draw_own(weights), seen)
        for name in ("shift", "headline", "control_shift"):
            low, high = (np.full_like(found[name], np.nan),) * 2
            if weights is not None:
                low, high = bootstrap.interval(drawn[name], n_groups=n_units)
                low, high = shifts.widened(low, high, itself=seen.itself)
            found |= {f"{name}_low": low, f"{name}_high": high}
        for name, array in found.items():
            rows.setdefault(name, []).append(array)
    out: dict[str, Any] = {name: np.stack(arrays) for name, arrays in rows.items()}
    out["chance"] = np.array([0.0, seen.k / (len(seen.samples) - 1), np.nan, 0.0])
    return out | {"pre_memory": seen.pre_memory, "interior": seen.interior}


def _shifts(similarity: np.ndarray, own: np.ndarray, seen: _Seen) -> dict[str, np.ndarray]:
    if seen.itself:
        own = alignment.as_another_seed(own, similarity)
    path = alignment.monotone_path(similarity, refine="parabola")
    path_self = alignment.monotone_path(own, refine="parabola")
    shift = alignment.calibrated_shift(path, path_self)
    referred = np.arange(shift.shape[-1]) < path_self.shape[-1]
    shift = np.where(referred, shift, np.nan)
    return {
        "path": path,
        "path_self": path_self,
        "shift": shift,
        "headline": _mean(shift[..., seen.interior]),
        "control_shift": _mean(shift[..., seen.pre_memory & referred]),
    }


def _mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan))


_Measured = tuple[np.ndarray, _Draws | None, int]
"""The similarity, the similarity in each resample given weights, and how many units are resampled."""


def _cka(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], seen: _Seen) -> _Measured:
    groups = seen.groups
    if not groups:
        return cka.matrix(xs, ys, batch_size=_GROUP_ROWS), None, 0
    terms = hsic.group_terms(xs, ys, groups)
    return hsic.cka_from_terms(terms), lambda weights: hsic.cka_from_terms(terms, weights), len(groups)


def _neighbours(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], seen: _Seen) -> _Measured:
    found = neighbours.overlap(xs, ys, k=seen.k)
    owner = np.unique(seen.samples.document, return_inverse=True)[1]
    counts = np.bincount(owner).astype(np.float64)
    sums = np.zeros((len(counts), *found.shape[:2]))
    np.add.at(sums, owner, np.moveaxis(found, -1, 0))
    return (
        found.mean(-1),
        lambda weights: np.tensordot(weights, sums, axes=1) / (weights @ counts)[..., None, None],
        len(counts),
    )


def _procrustes(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], _: _Seen) -> _Measured:
    return procrustes.similarity(xs, ys), None, 0


def _predictivity(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], seen: _Seen) -> _Measured:
    documents = seen.samples.document
    folds = predictivity.document_folds(documents, n_folds=_FOLDS, seed=seen.seed)
    found = predictivity.held_out(xs, ys, documents=documents, folds=folds)
    return found.r2(), found.r2, len(found.documents)


def _missing(seen: _Seen) -> dict[str, str]:
    few = f"{_NO_PROCRUSTES}; other measures lack one where fewer than {bootstrap.MIN_GROUPS} documents (for "
    few += f"CKA: groups of {_GROUP_ROWS} samples) are there to resample"
    names = ("shift", "headline", "control_shift")
    reasons = {f"{name}{end}": few for name in names for end in ("_low", "_high")}
    reasons |= {"chance": _NO_CHANCE, "shift": "the reference has fewer layers"}
    ends = ("", "_low", "_high")
    if not seen.pre_memory.any():
        none = "no residual comes before the first memory read"
        reasons |= {f"control_shift{end}": none for end in ends}
    if not seen.interior.any():
        none = "no interior layer comes after the first memory read"
        reasons |= {f"headline{end}": none for end in ends}
    return reasons


def _facts(
    models: Sequence[Source], encoded: Encoded, samples: Samples, reference: Source | None
) -> dict[str, Any]:
    facts = describe(models[0], encoded)
    facts["engram"], facts["engram_digest"] = facts.pop("model"), facts.pop("model_digest")
    facts["baseline"], facts["baseline_digest"] = models[1].name, models[1].digest or "unknown"
    facts["reference"] = "the baseline itself" if reference is None else reference.name
    facts["first_memory_layer"] = min(models[0].memory_layers, default=-1)
    facts |= {"samples": samples.what, "n_samples": len(samples)}
    facts["n_documents"] = len(np.unique(samples.document))
    facts["single_seed"] = "these two models only: one training run each"
    return facts
