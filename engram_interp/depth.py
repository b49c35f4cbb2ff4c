"""Which layer? Alignment of an Engram model's layers with a baseline's (paper section 6.1).

Every layer of the one model is compared with every layer of the other by linear CKA at the same
tokens; where along the baseline a layer's similarity lies is its effective depth. The measure is
biased at both ends, so the depth is read relative to the baseline aligned with itself, and beside it
stand the residuals before the first memory read, which reading cannot have deepened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.samples import Samples, Streams, choose, document_groups, residuals
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics import alignment, bootstrap, cka, hsic, outliers
from engram_interp.provenance import describe
from engram_interp.results import DepthResult

__all__ = ["compare"]

Estimator = Literal["minibatch", "unbiased", "biased"]
_GROUP_ROWS = 32
_FEWEST_SAMPLES = 4
_DROPPED = 0.02
_REPORTED = 0.01
_MEASURES = ("depth", "peak", "path")


def compare(
    engram: SubjectModel,
    baseline: SubjectModel,
    texts: Any,
    *,
    reference: SubjectModel | None = None,
    estimator: Estimator = "minibatch",
    top_k: int = 5,
    streams: Streams = "concat",
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
        n_boot: Bootstrap samples over document groups; intervals are 95 %.
        seed: Of the grouping and the bootstrap.

    Returns:
        The similarity matrix, three measures of depth with their shifts against the self-reference, and
        one headline number: the mean shift of the monotone path over interior layers after the first
        read. Layers count from 0 and mean the residual after that block.

    Raises:
        InputError: If fewer than 4 samples are left, or the models share no tokens to compare at.
    """
    models = [engram, baseline] + ([reference] if reference is not None else [])
    limit = min((m.n_ctx for m in models if m.n_ctx is not None), default=None)
    encodings = [encode(model, texts, limit=limit) for model in models]
    samples = choose(encodings, seed=seed)
    if len(samples) < _FEWEST_SAMPLES:
        raise InputError(
            f"CKA wants at least {_FEWEST_SAMPLES} samples, the prompts give {len(samples)}; give more text."
        )
    acts = [
        residuals(model, encoding, samples, i, streams=streams)
        for i, (model, encoding) in enumerate(zip(models, encodings, strict=True))
    ]
    xs, ys, rs = acts[0], acts[1], acts[-1]
    first = min(engram.memory_layers, default=engram.n_layers)
    settings = _Settings(estimator=estimator, top_k=top_k, first=first, seed=seed)
    point = _Measured(xs, ys, rs, samples, settings)
    kept = outliers.keep_rows([*xs, *ys], fraction=_DROPPED)
    variables = point.variables(n_boot=n_boot, seed=seed)
    variables["headline_trimmed"] = float("nan")
    if len(kept) >= _FEWEST_SAMPLES:
        few = [[a[kept] for a in part] for part in (xs, ys, rs)]
        trimmed = _Measured(few[0], few[1], few[2], _kept(samples, kept), settings)
        measured = trimmed.measure(trimmed.cka, trimmed.cka_self)
        variables["headline_trimmed"] = float(trimmed.headline(measured)[0])
    variables["outlier_share"] = _ragged([outliers.shares(part, fraction=_REPORTED) for part in (xs, ys)])
    coords: dict[str, Any] = {
        "layer": np.arange(len(xs)),
        "baseline_layer": np.arange(len(ys)),
        "reference_layer": np.arange(len(rs)),
        "model": ["engram", "baseline"],
        "reported_layer": np.arange(max(len(xs), len(ys))),
    }
    facts = _facts(models, encodings, samples, point, reference)
    facts["trimmed_share"] = 1 - len(kept) / len(samples)
    facts |= {"estimator": estimator, "top_k": top_k, "streams": str(streams), "n_boot": n_boot, "seed": seed}
    return DepthResult.from_arrays(
        coords=coords, variables=variables, provenance=facts, missing=_missing(point, variables)
    )


def _missing(point: "_Measured", variables: dict[str, Any]) -> dict[str, str]:
    reasons = {
        "peak": "the maximum is not settled: its interval holds three or more layers, or layers tie",
        "outlier_share": "the models have different numbers of layers",
        "headline_trimmed": "too few samples are left without the largest",
    }
    reasons |= {f"peak{end}": reasons["peak"] for end in ("_self", "_shift", "_shift_low", "_shift_high")}
    if not point.referred.all():
        deeper = f"the reference has only {int(point.referred.sum())} layers"
        names = ["depth_self", "peak_self", "path_self"]
        names += [f"{v}{end}" for v in ("shift", "path_shift") for end in ("", "_low", "_high")]
        reasons |= dict.fromkeys(names, deeper)
    if point.why_no_interval:
        reasons |= {v: point.why_no_interval for v in variables if v.endswith(("_low", "_high"))}
    if not point.pre_memory.any():
        none = "no residual comes before the first memory read"
        reasons |= {f"control_shift{end}": none for end in ("", "_low", "_high")}
    if not point.interior.any():
        none = "no interior layer comes after the first memory read"
        reasons |= {f"headline{end}": none for end in ("", "_low", "_high", "_trimmed")}
    return reasons


def _ragged(rows: Sequence[np.ndarray]) -> np.ndarray:
    out = np.full((len(rows), max(map(len, rows))), np.nan)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def _kept(samples: Samples, kept: np.ndarray) -> Samples:
    return Samples(document=samples.document[kept], position=samples.position[:, kept], what=samples.what)


def _facts(
    models: Sequence[SubjectModel],
    encodings: Sequence[Encoded],
    samples: Samples,
    point: "_Measured",
    reference: SubjectModel | None,
) -> dict[str, Any]:
    facts = describe(models[0], encodings[0])
    facts["engram"], facts["engram_digest"] = facts.pop("model"), facts.pop("model_digest")
    facts["baseline"], facts["baseline_digest"] = models[1].name, models[1].digest or "unknown"
    facts["reference"] = "the baseline itself" if reference is None else reference.name
    facts["first_memory_layer"] = min(models[0].memory_layers, default=-1)
    facts["samples"] = samples.what
    facts["n_samples"] = len(samples)
    facts["n_documents"] = len(np.unique(samples.document))
    facts["n_groups"] = len(point.groups)
    facts["group_rows"] = _GROUP_ROWS
    facts["interval"] = point.why_no_interval or "95 % bootstrap over groups of whole documents"
    facts["single_seed"] = "these two models only: one training run each"
    return facts


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What a comparison was asked to do; `first` is the first memory layer."""

    estimator: Estimator
    top_k: int
    first: int
    seed: int


class _Measured:
    """Similarity of the three sets of layers, and what follows from it."""

    def __init__(
        self,
        xs: Sequence[np.ndarray],
        ys: Sequence[np.ndarray],
        rs: Sequence[np.ndarray],
        samples: Samples,
        settings: "_Settings",
    ) -> None:
        self.settings, estimator = settings, settings.estimator
        self.groups = document_groups(samples, rows=_GROUP_ROWS, seed=settings.seed)
        layer = np.arange(len(xs))
        self.edge = alignment.edge_layers(len(xs), settings.top_k)
        self.pre_memory = layer < settings.first
        self.referred = layer < len(rs)
        self.interior = ~self.edge & ~self.pre_memory & self.referred
        self.terms: tuple[hsic.Terms, hsic.Terms] | None = None
        if estimator == "minibatch" and self.groups:
            self.terms = hsic.group_terms(xs, ys, self.groups), hsic.group_terms(rs, ys, self.groups)
            self.cka, self.cka_self = (hsic.cka_from_terms(terms) for terms in self.terms)
        else:
            self.cka = cka.matrix(xs, ys, estimator=estimator, batch_size=_GROUP_ROWS)
            self.cka_self = cka.matrix(rs, ys, estimator=estimator, batch_size=_GROUP_ROWS)

    @property
    def why_no_interval(self) -> str:
        """The reason why there is no interval; empty where there is one."""
        if self.settings.estimator != "minibatch":
            return "intervals are given for the minibatch estimator only"
        if len(self.groups) < bootstrap.MIN_GROUPS:
            return (
                f"an interval wants at least {bootstrap.MIN_GROUPS} groups of {_GROUP_ROWS} samples from "
                f"whole documents, the prompts give {len(self.groups)}"
            )
        return ""

    def measure(self, similarity: np.ndarray, own: np.ndarray) -> dict[str, np.ndarray]:
        """Depth by each measure, and the same of the reference layer at the same place."""
        out = {}
        for name, values in (("", similarity), ("_self", own)):
            out["depth" + name] = alignment.soft_index(values, top_k=self.settings.top_k)
            out["peak" + name] = alignment.peak(values)
            out["path" + name] = alignment.monotone_path(values, refine="parabola")
        layers = similarity.shape[-2]
        for name in _MEASURES:
            padded = np.full(out[name].shape, np.nan)
            padded[..., : own.shape[-2]] = out[name + "_self"][..., :layers]
            out[name + "_self"] = padded
            out[name + "_shift"] = out[name] - padded
        return out

    def headline(self, measured: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Mean path shift over interior layers after the first read, and over pre-memory layers."""
        shift = measured["path_shift"]
        return _mean(shift[..., self.interior]), _mean(shift[..., self.pre_memory & self.referred])

    def variables(self, *, n_boot: int, seed: int) -> dict[str, Any]:
        measured = self.measure(self.cka, self.cka_self)
        headline, control = self.headline(measured)
        draws = None if self.why_no_interval else self._draws(n_boot, seed)
        out: dict[str, Any] = {
            "cka": self.cka,
            "cka_self": self.cka_self,
            "edge": self.edge,
            "pre_memory": self.pre_memory,
            "headline": headline,
            "control_shift": control,
        }
        for name in _MEASURES:
            shift = "shift" if name == "depth" else f"{name}_shift"
            out[name] = measured[name]
            out[f"{name}_self"] = measured[f"{name}_self"]
            out[shift] = measured[f"{name}_shift"]
            low, high = _bounds(draws, f"{name}_shift", measured[name].shape)
            out[f"{shift}_low"], out[f"{shift}_high"] = low, high
            if name == "peak" and draws is not None:
                self._drop_plateaus(out, draws)
        for name in ("headline", "control_shift"):
            out[f"{name}_low"], out[f"{name}_high"] = _bounds(draws, name, ())
        return out

    def _drop_plateaus(self, out: dict[str, Any], draws: dict[str, np.ndarray]) -> None:
        flat = alignment.plateau(draws["cka"])
        flat_self = np.ones_like(flat)
        own = alignment.plateau(draws["cka_self"])[: len(flat)]
        flat_self[: len(own)] = own
        out["peak"] = np.where(flat, np.nan, out["peak"])
        out["peak_self"] = np.where(flat_self, np.nan, out["peak_self"])
        for end in ("", "_low", "_high"):
            out[f"peak_shift{end}"] = np.where(flat | flat_self, np.nan, out[f"peak_shift{end}"])

    def _draws(self, n_boot: int, seed: int) -> dict[str, np.ndarray]:
        assert self.terms is not None
        weights = bootstrap.group_weights(len(self.groups), n_boot, seed)
        similarity, own = (hsic.cka_from_terms(terms, weights) for terms in self.terms)
        draws = self.measure(similarity, own)
        draws["headline"], draws["control_shift"] = self.headline(draws)
        return draws | {"cka": similarity, "cka_self": own}


def _mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan))


def _bounds(
    draws: dict[str, np.ndarray] | None, name: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    if draws is None:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    return bootstrap.interval(draws[name])
