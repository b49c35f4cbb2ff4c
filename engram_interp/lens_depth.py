"""At which baseline layer is the prediction as near its final form as at a layer of the Engram model?

The baseline's KL(final ‖ layer) is made a falling curve (isotonic fit over layers), and each Engram layer
is read across to it. Each model is measured against its own final distribution, so this speaks of how
ready the prediction is; it is no proof that a layer does what a later one does.
"""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from engram_interp.errors import InputError
from engram_interp.metrics import alignment, bootstrap
from engram_interp.results import ConvergenceResult
from engram_interp.results.lens_depth import LensDepthResult
from engram_interp.results.provenance import layer_list

__all__ = ["compare", "from_convergence"]

Direction = Literal["final||layer", "layer||final"]

_ENDS = ("", "_low", "_high")


def compare(
    engram: Any,
    baseline: Any,
    texts: Any = None,
    *,
    reference: Any = None,
    first_memory_layer: int | None = None,
    lens: Any = "raw",
    direction: Direction = "final||layer",
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
) -> LensDepthResult:
    """Run the lens over both models (or captures) and read one curve on the other.

    Args:
        engram: The model with memory, or a capture of it.
        baseline: The model without.
        texts: Texts, a `PromptSet`, or token ids; None for captures.
        reference: Another seed of the baseline, put in the Engram model's place beside it.
        first_memory_layer: The layer that the headline begins at; by default the first with memory.
        lens: "raw" or "tuned", for every model its own.
        direction: KL(final ‖ layer) or KL(layer ‖ final).
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the bootstrap.
        batch_size: Prompts per forward pass.

    Raises:
        InputError: If the models do not see the same documents, or a `TunedLens` is given, which fits one
            model alone.
    """
    from engram_interp import lens as lenses

    if lens not in ("raw", "tuned"):
        raise InputError(f'lens wants to be "raw" or "tuned", each model having its own; got {lens!r}.')
    given = [engram, baseline] + ([] if reference is None else [reference])
    limit = min((m.n_ctx for m in given if m.n_ctx is not None), default=None)
    curves = [
        lenses.convergence(m, texts, lens=lens, limit=limit, n_boot=1, seed=seed, batch_size=batch_size)
        for m in given
    ]
    return from_convergence(
        curves[0],
        curves[1],
        reference=curves[2] if len(curves) > 2 else None,
        first_memory_layer=first_memory_layer,
        direction=direction,
        n_boot=n_boot,
        seed=seed,
    )


def from_convergence(
    engram: ConvergenceResult,
    baseline: ConvergenceResult,
    *,
    reference: ConvergenceResult | None = None,
    first_memory_layer: int | None = None,
    direction: Direction = "final||layer",
    n_boot: int = 1000,
    seed: int = 0,
) -> LensDepthResult:
    """The same from results that exist; no model is run.

    Args:
        engram: Of the model with memory.
        baseline: Of the model without, on the same documents by the same kind of lens.
        reference: Of another seed of the baseline.
        first_memory_layer: The layer that the headline begins at; by default the first with memory.
        direction: KL(final ‖ layer) or KL(layer ‖ final).
        n_boot: Bootstrap samples over documents, drawn alike for every model; intervals are 95 %.
        seed: Of the bootstrap.

    Raises:
        InputError: If the results hold no sums by document, or are of other documents or lenses.
    """
    given = [engram, baseline] + ([] if reference is None else [reference])
    _check(given)
    parts = [_sums(result, direction) for result in given]
    n_documents, layers = len(parts[0][1]), np.arange(parts[0][0].shape[1])
    memory = layer_list(engram.data.attrs.get("memory_layers", ""))
    first = min(memory, default=len(layers)) if first_memory_layer is None else first_memory_layer
    pre_memory = layers < first
    interior = ~alignment.edge_layers(len(layers), top_k=5) & ~pre_memory
    weights = np.ones((1, n_documents))
    enough = n_documents >= bootstrap.MIN_GROUPS
    if enough:
        weights = np.concatenate([weights, bootstrap.group_weights(n_documents, n_boot, seed)])
    kls = [(weights @ sums) / (weights @ tokens)[:, None] for sums, tokens in parts]
    fitted = np.stack([_falling(kl) for kl in kls[1]])
    shift = _depths(kls[0], fitted) - layers
    other = np.full_like(shift, np.nan)
    if reference is not None:
        n = min(kls[2].shape[1], len(layers))
        other[:, :n] = _depths(kls[2][:, :n], fitted) - layers[:n]
    beyond = (kls[0][0] > fitted[0, 0]) | (kls[0][0] < fitted[0, -1])
    readable = pre_memory & ~beyond
    variables: dict[str, Any] = {
        "kl": kls[0][0],
        "baseline_kl": kls[1][0],
        "baseline_curve": fitted[0],
        "depth": shift[0] + layers,
        "beyond": beyond,
        "pre_memory": pre_memory,
        "interior": interior,
    }
    draws = {
        "shift": shift,
        "reference_shift": other,
        "headline": _mean(shift[:, interior]),
        "control_shift": _mean(shift[:, readable]),
        "reference_headline": _mean(other[:, interior]),
    }
    for name, values in draws.items():
        low, high = (np.full_like(values[0], np.nan),) * 2
        if enough:
            low, high = bootstrap.interval(values[1:], n_groups=n_documents)
        variables |= dict(zip((name + end for end in _ENDS), (values[0], low, high), strict=True))
    return LensDepthResult.from_arrays(
        coords={"layer": layers, "baseline_layer": np.arange(len(fitted[0]))},
        variables=variables,
        provenance=_facts(given, reference, n_boot=n_boot, seed=seed)
        | {"direction": "KL(" + direction.replace("||", " ‖ ") + ")"},
        missing=_missing(n_documents, pre_memory, readable, interior, reference),
    )


def _check(given: list[ConvergenceResult]) -> None:
    for result in given:
        if "document_kl" not in result.data:
            raise InputError(
                "A lens result without sums by document cannot be compared; make it again with convergence."
            )
    first = given[0].data
    for result in given[1:]:
        if result.data.attrs.get("lens") != first.attrs.get("lens"):
            raise InputError("One curve is of the raw and one of the tuned lens; make both with the same.")
        if not np.array_equal(result.data["document_tokens"], first["document_tokens"]):
            raise InputError("The curves are of other documents or tokens; run both models on the same text.")
        if result.data.attrs.get("text_digest") != first.attrs.get("text_digest"):
            raise InputError("The curves are of other text; run both models on the same text.")


def _sums(result: ConvergenceResult, direction: Direction) -> tuple[np.ndarray, np.ndarray]:
    data = result.data
    name = "document_kl" if direction == "final||layer" else "document_reverse_kl"
    return data[name].values, data["document_tokens"].values.astype(np.float64)


def _falling(kl: Float[np.ndarray, " baseline_layer"]) -> Float[np.ndarray, " baseline_layer"]:
    return np.asarray(isotonic_regression(kl, increasing=False).x)


def _depths(
    kl: Float[np.ndarray, "boot layer"], fitted: Float[np.ndarray, "boot baseline_layer"]
) -> Float[np.ndarray, "boot layer"]:
    """Where the falling curve takes each value; on a flat stretch, its place nearest the layer itself."""
    out = np.empty(kl.shape)
    for row, (values, curve) in enumerate(zip(kl, fitted, strict=True)):
        for layer, value in enumerate(values):
            above = int((curve > value).sum())
            at_least = int((curve >= value).sum())
            if at_least > above:
                out[row, layer] = min(max(layer, above), at_least - 1)
            elif above in (0, len(curve)):
                out[row, layer] = 0 if above == 0 else len(curve) - 1
            else:
                high, low = curve[above - 1], curve[above]
                out[row, layer] = above - 1 + (high - value) / (high - low)
    return out


def _mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan))


def _facts(
    given: list[ConvergenceResult], reference: ConvergenceResult | None, *, n_boot: int, seed: int
) -> dict[str, Any]:
    first, second = given[0].data.attrs, given[1].data.attrs
    kept = ("lens", "n_samples", "n_documents", "memory_layers", "text_digest", "direction")
    facts = {name: first[name] for name in kept if name in first}
    names = {"engram": first, "baseline": second}
    facts |= {part: attrs.get("model", part) for part, attrs in names.items()}
    facts |= {f"{part}_digest": attrs.get("model_digest", "unknown") for part, attrs in names.items()}
    facts["reference"] = "none" if reference is None else reference.data.attrs.get("model", "reference")
    facts["single_seed"] = "these two models only: one training run each"
    return facts | {"n_boot": n_boot, "seed": seed}


def _missing(
    n_documents: int,
    pre_memory: np.ndarray,
    readable: np.ndarray,
    interior: np.ndarray,
    reference: ConvergenceResult | None,
) -> dict[str, str]:
    reasons: dict[str, str] = {}
    names = ("shift", "headline", "control_shift", "reference_shift", "reference_headline")
    if n_documents < bootstrap.MIN_GROUPS:
        few = f"an interval wants at least {bootstrap.MIN_GROUPS} documents, got {n_documents}"
        reasons |= {f"{name}{end}": few for name in names for end in _ENDS[1:]}
    if not readable.any():
        none = "no residual comes before the first memory read"
        if pre_memory.any():
            none = "residuals before the first memory read lie beyond the ends of the baseline's curve"
        reasons |= {f"control_shift{end}": none for end in _ENDS}
    if not interior.any():
        none = "no interior layer comes after the first memory read"
        reasons |= {f"{name}{end}": none for name in ("headline", "reference_headline") for end in _ENDS}
    absent = (
        "no other seed of the baseline was given" if reference is None else "the reference has fewer layers"
    )
    for name in ("reference_shift", "reference_headline"):
        for end in _ENDS:
            reasons.setdefault(f"{name}{end}", absent)
    return reasons
