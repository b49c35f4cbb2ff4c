"""What a gate's height tells of its token: ends of entities, kind of token, how often training saw it.

A gate that knew what it lets in would share information with these. So does one that learnt nothing: its
key and query are made of the same tokens. Beside every number stand the range over fresh initialisations
and its rank among gates permuted inside each document.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.hits import NO_NGRAM, own_counts, strata_of
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_nulls import INIT_DOCUMENTS, counted, gate_sites, gates_of, initialisations
from engram_interp.memory.index import Progress, quiet
from engram_interp.metrics import information as measures
from engram_interp.metrics import ranks
from engram_interp.provenance import describe, too_few
from engram_interp.results.gate_information import FEATURES, GateInformation

__all__ = ["information"]

_GATE_BINS = 8
_PMI_BINS = 4
_ENDS = ("", "_low", "_high")


def information(
    model: SubjectModel,
    texts: Any,
    *,
    n_permutations: int = 99,
    seed: int = 0,
    n_inits: int = 10,
    init_documents: int = INIT_DOCUMENTS,
    progress: Progress = quiet,
) -> GateInformation:
    """Mutual information of every gate with what its token is, and its rank correlation with counts.

    Gates are sorted into 8 bins of equal size. What a token is: whether it ends a marked entity; its class
    by its letters; how often training saw the longest n-gram that ends there (`capture.hits.strata_of`);
    and that n-gram's pointwise mutual information, log p(n-gram) - Σ log p(token) in nats by training
    counts, in quarters, over n-grams that training saw.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids; every token but the separator counts.
        n_permutations: Times that gates are permuted among the tokens of each document.
        seed: Of the permutations and the initialisations.
        n_inits: Fresh initialisations, of which the range is given; 0 for none.
        init_documents: Prompts for these, the first ones.
        progress: Called with the share done of the initialisations and what comes next; `print` will do.

    Returns:
        Per feature, memory layer and stream: nats with intervals over documents (jackknife), the range over
        initialisations, and the rank p among permutations; Spearman's ρ with count and PMI. What cannot be
        had (marks, counts) is missing, with the reason.
    """
    encoded = encode(model, texts)
    gate, mask = gates_of(model, encoded)
    if not mask.any():
        raise InputError("Gates want texts with at least one token besides the separator.")
    ordered, classes, by = _features(model, encoded, mask)
    documents = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)[mask]
    variables = _measured(gate[mask], classes, ordered, documents)
    variables["permuted_p"] = _permuted(gate[mask], classes, documents, n=n_permutations, seed=seed)
    variables["n_tokens"] = np.array([(classes[name] >= 0).all(0).sum() for name in FEATURES])
    null, unknown = _null(
        model, encoded.part(slice(0, init_documents)), n_inits=n_inits, seed=seed, progress=progress
    )
    bounds = [name for name in variables if name.endswith(_ENDS[1:])]
    why = "not marked, not counted or not ordered, or it does not vary in these texts"
    missing = dict.fromkeys([*variables], why) | too_few(len(np.unique(documents)), bounds)
    missing.pop("n_tokens")
    return GateInformation.from_arrays(
        coords={"layer": list(model.memory_layers), "feature": list(FEATURES)},
        variables=variables | null,
        provenance=describe(model, encoded, seed=seed)
        | {
            "n_samples": int(mask.sum()),
            "n_inits": n_inits,
            "n_init_documents": min(init_documents, len(encoded)),
            "n_permutations": n_permutations,
            "strata": by or "not known",
            "estimator": f"{_GATE_BINS} bins of the gate; jackknife over documents",
        },
        missing=missing | dict.fromkeys(null, unknown or why),
    )


def _features(
    model: SubjectModel, encoded: Encoded, mask: np.ndarray
) -> tuple[dict[str, Float[np.ndarray, " sample"]], dict[str, Int64[np.ndarray, "layer sample"]], str]:
    """Of every token: values of the ordered features, NaN where unknown; classes of all, -1 where unknown."""
    sites = gate_sites(model, "rows")
    rec = record(model, encoded, sites=sites, logits=False)
    strata, by = strata_of(model, encoded, [rec[site] for site in sites])
    own = own_counts(model, encoded)[mask].astype(np.float64)
    cohesion = _cohesion(model, encoded)[mask]
    known = ~np.isnan(cohesion)
    quarters = np.full(len(cohesion), -1)
    quarters[known] = measures.quantile_bins(cohesion[known], count=_PMI_BINS)
    ends = np.zeros(mask.shape, bool)
    for row, places in enumerate(encoded.entity_ends):
        ends[row, list(places)] = True
    kinds = np.array([_kind(model.token_text(i)) for i in range(model.d_vocab)])
    classes = {
        "entity end": ends[mask].astype(np.int64) if ends.any() else np.full(int(mask.sum()), -1),
        "token class": kinds[encoded.tokens.cpu().numpy()[mask]],
        "times in training": strata[:, mask],
        "n-gram PMI": quarters,
    }
    every = {name: np.broadcast_to(each, (len(strata), int(mask.sum()))) for name, each in classes.items()}
    return {"times in training": np.where(own < 0, np.nan, own), "n-gram PMI": cohesion}, every, by


def _kind(text: str) -> int:
    """Beginning of a word, part of a word, number, punctuation, anything else."""
    bare = text.strip()
    if bare and all(c.isalpha() or c in "'’-" for c in bare):
        return 0 if text[0].isspace() else 1
    if any(c.isdigit() for c in bare):
        return 2
    return 3 if bare and not any(c.isalnum() for c in bare) else 4


def _cohesion(model: SubjectModel, encoded: Encoded) -> Float[np.ndarray, "batch token"]:
    """Pointwise mutual information of the n-gram that ends at each token, nats; NaN where not counted."""
    found = np.full(encoded.tokens.shape, np.nan)
    if model.counts is None or model.layout is None:
        return found
    total = float(model.counts.tokens)
    single = own_counts(model, encoded, order=1).astype(np.float64)
    one = np.where(single > 0, np.log(np.maximum(single, 1) / total), np.nan)
    for order in range(2, model.layout.max_order + 1):
        seen = own_counts(model, encoded, order=order)
        parts = np.full_like(found, np.nan)
        parts[:, order - 1 :] = sum(one[:, order - 1 - lag : one.shape[1] - lag] for lag in range(order))
        here = seen > 0
        found[seen != NO_NGRAM] = np.nan  # a longer n-gram ends here: it is the one that counts
        found[here] = np.log(seen[here] / total) - parts[here]
    return found


def _measured(
    gate: Float[np.ndarray, "sample layer stream"],
    classes: Mapping[str, np.ndarray],
    ordered: Mapping[str, np.ndarray],
    documents: np.ndarray,
) -> dict[str, np.ndarray]:
    shape = (len(FEATURES), *gate.shape[1:])
    found = {
        f"{name}{end}": np.full(shape, np.nan) for name in ("information", "correlation") for end in _ENDS
    }
    for at in np.ndindex(*gate.shape[1:]):
        column = gate[:, *at]
        for number, feature in enumerate(FEATURES):
            inside = classes[feature][at[0]] >= 0
            bins = measures.quantile_bins(column[inside], count=_GATE_BINS)
            estimates = {
                "information": measures.mutual_information(
                    bins, classes[feature][at[0]][inside], documents[inside]
                )
            }
            values = ordered.get(feature)
            if values is not None and (known := ~np.isnan(values)).any():
                estimates["correlation"] = measures.rank_correlation(
                    column[known], values[known], documents[known]
                )
            for name, each in estimates.items():
                for end, part in zip(_ENDS, (each.value, each.low, each.high), strict=True):
                    found[f"{name}{end}"][number, *at] = part
    return found


def _permuted(
    gate: np.ndarray, classes: Mapping[str, np.ndarray], documents: np.ndarray, *, n: int, seed: int
) -> np.ndarray:
    """Rank p of each information among gates permuted inside documents, by the plain estimate of both."""
    generator = np.random.default_rng(seed)
    out = np.full((len(FEATURES), *gate.shape[1:]), np.nan)
    orders = [np.lexsort((generator.random(len(documents)), documents)) for _ in range(n)]
    for at in np.ndindex(*gate.shape[1:]):
        bins = measures.quantile_bins(gate[:, *at], count=_GATE_BINS)
        for number, feature in enumerate(FEATURES):
            inside = classes[feature][at[0]] >= 0
            if not n or not inside.any():
                continue
            kept = classes[feature][at[0]][inside]
            own = np.asarray(measures.plain_information(bins[inside], kept))
            drawn = np.array([measures.plain_information(bins[o][inside], kept) for o in orders])
            out[number, *at] = ranks.rank_p(own, drawn, two_sided=False)
    return out


def _null(
    model: SubjectModel, few: Encoded, *, n_inits: int, seed: int, progress: Progress
) -> tuple[dict[str, np.ndarray], str]:
    """Mean, smallest and largest of every information over fresh initialisations, or why there are none."""
    drawn, reason = list[np.ndarray](), "" if n_inits else "no initialisations asked for"
    if model.rebuild is None:
        reason = f"{model.name} came without rebuild=…"
    shape = (len(FEATURES), len(model.memory_layers), model.n_streams)
    if not reason:
        mask = counted(model, record(model, few, logits=False))
        _, classes, _ = _features(model, few, mask)
        documents = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)[mask]
        for fresh in initialisations(model, n_inits, seed=seed, progress=progress):
            drawn.append(_measured(gates_of(fresh, few)[0][mask], classes, {}, documents)["information"])
    stack = np.stack(drawn or [np.full(shape, np.nan)])
    parts = zip(_ENDS, (stack.mean(0), stack.min(0), stack.max(0)), strict=True)
    return {f"null_information{end}": part for end, part in parts}, reason
