"""Which layer? Alignment of an Engram model's layers with a baseline's (paper section 6.1).

Every layer of the one model is compared with every layer of the other by linear CKA at the same
tokens; where along the baseline a layer's similarity lies is its effective depth. The measure is
biased at both ends, so the depth is read relative to the baseline aligned with itself, and beside it
stand the residuals before the first memory read, which reading cannot have deepened.
"""

import operator
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from engram_interp.capture.encode import Encoded
from engram_interp.capture.finite import check_finite
from engram_interp.capture.samples import Samples, Streams, choose, residuals
from engram_interp.capture.source import Source, encoded_of
from engram_interp.depth_comparison import Comparison, Estimator
from engram_interp.errors import InputError
from engram_interp.metrics import hsic, shifts
from engram_interp.metrics.arrays import Array, take
from engram_interp.metrics.arrays import check_finite as check_finite_rows
from engram_interp.provenance import describe
from engram_interp.results import DepthResult

__all__ = ["DepthResult", "compare", "from_activations", "resample"]

ITSELF = "the baseline itself"
"""What a result calls its reference where no other seed of the baseline was given."""

_FEWEST_SAMPLES = 4


def compare(
    engram: Source,
    baseline: Source,
    texts: Any = None,
    *,
    reference: Source | None = None,
    estimator: Estimator = "minibatch",
    top_k: int = 5,
    streams: Streams = "concat",
    first_memory_layer: int | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> DepthResult:
    """Effective depth of each layer of `engram` on the scale of `baseline`'s layers.

    Args:
        engram: The model with memory.
        baseline: The model without.
        texts: Texts, a `PromptSet` with marked entities (their last tokens are the samples), or ids.
        reference: Another seed of the baseline; by default the baseline itself stands for it.
        estimator: CKA estimator: "minibatch" (HSIC₁ terms averaged over groups of 32 samples, each of
            whole documents), "unbiased", or "biased". Intervals are given for "minibatch".
        top_k: Of the paper's soft alignment index (eq. 9).
        streams: How M > 1 residual streams enter.
        first_memory_layer: Layers before it are the internal control; by default the first with a memory.
            A model without one has no headline unless this is given (a positive control, say).
        n_boot: Bootstrap samples over document groups; intervals are 95 %.
        seed: Of the grouping and the bootstrap.

    Returns:
        The similarity matrix, three measures of depth with their shifts against the self-reference, and
        one headline number: the mean shift of the monotone path over interior layers after the first
        read. Layers count from 0 and mean the residual after that block. The HSIC terms of every group
        of documents are kept: see `resample`.

    Raises:
        InputError: If fewer than 4 samples are left, the models share no tokens to compare at, a layer
            does not vary, or an activation is NaN or infinite (names model, layer and token).
    """
    if reference is baseline:
        reference = None
    models = [engram, baseline] + ([reference] if reference is not None else [])
    limit = min((m.n_ctx for m in models if m.n_ctx is not None), default=None)
    encodings = [encoded_of(model, texts, limit=limit) for model in models]
    samples = choose(encodings, seed=seed)
    _check_count(len(samples))
    acts = [
        residuals(model, encoding, samples, i, streams=streams)
        for i, (model, encoding) in enumerate(zip(models, encodings, strict=True))
    ]
    for i, (model, encoding, layers) in enumerate(zip(models, encodings, acts, strict=True)):
        check_finite(model.name, layers, encoding, samples, i)
    first = min(engram.memory_layers, default=engram.n_layers)
    if first_memory_layer is not None:
        first = first_memory_layer
    compared = Comparison(
        sides=(acts[0], acts[1], acts[2] if reference is not None else None),
        samples=samples,
        estimator=estimator,
        place=shifts.Place(n_layers=len(acts[0]), n_reference=len(acts[-1]), first=first, top_k=top_k),
        seed=seed,
    )
    facts = _model_facts(models, encodings, reference) | {"streams": str(streams)}
    if first_memory_layer is not None:
        facts["first_memory_layer"] = first
    return compared.result(facts, n_boot=n_boot)


def from_activations(
    xs: Sequence[Float[Array, "_sample _d"]],
    ys: Sequence[Float[Array, "_sample _d"]],
    documents: Shaped[np.ndarray, " _sample"],
    *,
    reference: Sequence[Float[Array, "_sample _d"]] | None = None,
    first_memory_layer: int = 0,
    estimator: Estimator = "minibatch",
    top_k: int = 5,
    n_boot: int = 1000,
    seed: int = 0,
    checks: Literal["all", "none"] = "all",
) -> DepthResult:
    """The same from activations at hand, of any model or of a made-up pair whose answer is known.

    Args:
        xs: Layers of the model, [sample, d] each.
        ys: Layers of the baseline, over the same samples.
        documents: The document of each sample: numbers or names.
        reference: Layers of another seed of the baseline; by default the baseline's own.
        first_memory_layer: Layers before it are the internal control.
        estimator: As in `compare`, like the rest.
        top_k: As in `compare`.
        n_boot: As in `compare`.
        seed: As in `compare`.
        checks: Whether to work out the headline without the largest rows, and the null headline; they
            take most of the time.

    Raises:
        InputError: If sample counts differ, there are fewer than 4, a layer does not vary, or holds NaN or
            infinity (names layer and sample).
    """
    if first_memory_layer < 0 or seed < 0:
        raise InputError(f"first_memory_layer and seed count from 0, got {first_memory_layer} and {seed}.")
    counts = {len(layer) for part in (xs, ys, reference or []) for layer in part} | {len(documents)}
    if len(counts) > 1:
        raise InputError(
            f"Every layer and documents want one row per sample, got {sorted(counts)} rows; row i must "
            "belong to the same token everywhere."
        )
    _check_count(len(documents))
    for side, layers in (("xs", xs), ("ys", ys), ("reference", reference or ())):
        for number, layer in enumerate(layers):
            rows = take(layer, slice(None))
            check_finite_rows(rows, name=f"{side}[{number}]", samples=range(len(rows)))
    if reference is not None and len(reference) == len(ys) and all(map(operator.is_, reference, ys)):
        reference = None
    _, owner = np.unique(documents, return_inverse=True)
    samples = Samples(
        document=owner.astype(np.int64), position=np.zeros((1, len(owner)), np.int64), what="as given"
    )
    compared = Comparison(
        sides=(xs, ys, reference),
        samples=samples,
        estimator=estimator,
        place=shifts.Place(
            n_layers=len(xs),
            n_reference=len(ys if reference is None else reference),
            first=first_memory_layer,
            top_k=top_k,
        ),
        seed=seed,
    )
    facts = {
        "engram": "xs",
        "baseline": "ys",
        "reference": ITSELF if reference is None else "as given",
        "first_memory_layer": first_memory_layer,
    }
    return compared.result(facts, n_boot=n_boot, checks=checks == "all")


def resample(result: DepthResult, *, n_boot: int = 1000, seed: int = 0) -> DepthResult:
    """Every shift and interval again, from the HSIC terms that the result holds; no model is run.

    Only the headline without the largest rows and the null headline stay as they are: their terms
    are not kept. A result of an earlier version gets the soft index at every k.

    Args:
        result: Made with the minibatch estimator.
        n_boot: Bootstrap samples over document groups.
        seed: Of the bootstrap.

    Raises:
        InputError: If the result holds no terms.
    """
    data = result.data
    if "hsic" not in data:
        raise InputError(
            "This result holds no HSIC terms by group of documents, so it cannot be resampled; make it with "
            'depth.compare(…, estimator="minibatch").'
        )
    terms, own = (
        hsic.Terms(xy=data[xy].values, xx=data[xx].values, yy=data["hsic_baseline"].values)
        for xy, xx in (("hsic", "hsic_engram"), ("hsic_self", "hsic_reference"))
    )
    place = shifts.Place(
        n_layers=data.sizes["layer"],
        n_reference=data.sizes["reference_layer"],
        first=int(data["pre_memory"].values.sum()),
        top_k=int(data.attrs["top_k"]),
    )
    itself = data.attrs.get("reference") == ITSELF
    found = shifts.estimates(terms, own, place, n_boot=n_boot, seed=seed, itself=itself)
    fresh = data.assign_coords(k=np.arange(len(found["depth_by_k"])) + 1)
    for name, values in found.items():
        # A result of an earlier version lacks the index by k, which is undefined where the index is.
        like = name if name in data else name.replace("_by_k", "")
        dims = DepthResult.schema.variables[name].dims
        missing = {key: value for key, value in data[like].attrs.items() if key == "missing"}
        fresh[name] = (dims, values, data[name].attrs if name in data else missing)
    fresh.attrs |= {"n_boot": n_boot, "seed": seed, "interval": shifts.interval_name(itself=itself)}
    return DepthResult(data=fresh)


def _check_count(n_samples: int) -> None:
    if n_samples < _FEWEST_SAMPLES:
        raise InputError(
            f"CKA wants at least {_FEWEST_SAMPLES} samples, the prompts give {n_samples}; give more text."
        )


def _model_facts(
    models: Sequence[Source], encodings: Sequence[Encoded], reference: Source | None
) -> dict[str, Any]:
    facts = describe(models[0], encodings[0])
    facts["engram"], facts["engram_digest"] = facts.pop("model"), facts.pop("model_digest")
    facts["baseline"], facts["baseline_digest"] = models[1].name, models[1].digest or "unknown"
    facts["reference"] = ITSELF if reference is None else reference.name
    facts["first_memory_layer"] = min(models[0].memory_layers, default=-1)
    facts["single_seed"] = "these two models only: one training run each"
    return facts
