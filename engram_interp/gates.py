"""Which token? Where the gates open, beside what they would do if nothing had been learnt.

An untrained gate already varies: its mean is about .50, its standard deviation about .20, and the
signed square root leaves a hole around .5. So no statistic of a gate stands alone (SCIENCE section 3).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.encode import Encoded
from engram_interp.capture.memories import engram_of
from engram_interp.capture.source import Source, encoded_of, model_of, recorded
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.gate_information import information
from engram_interp.gate_nulls import (
    INIT_DOCUMENTS,
    counted,
    gate_sites,
    gates_of,
    initialisations,
    recomputable,
    untrained,
    why_not_untrained,
)
from engram_interp.gate_preference import preference
from engram_interp.gate_selectivity import OTHERS, selectivity
from engram_interp.gate_usefulness import usefulness
from engram_interp.memory.index import Progress, quiet
from engram_interp.metrics import bootstrap, gate_stats, ranks
from engram_interp.metrics import information as measures
from engram_interp.provenance import describe, too_few
from engram_interp.results import GateReading, GateStatistics

__all__ = ["NULLS", "OTHERS", "information", "preference", "read", "selectivity", "statistics", "usefulness"]

NULLS = ("untrained", "rows permuted", "queries permuted")
"""The model at its own initialisation; rows swapped among positions of the same prompt; queries swapped
among positions of all prompts."""


def read(model: Source, texts: Any = None) -> GateReading:
    """The gate of every prompt, memory layer, stream and token.

    Args:
        model: A model with a memory, or a capture of its gates.
        texts: Texts, a `PromptSet`, or token ids; None for a capture.

    Returns:
        Gates in (0, 1), neutral at 0.5; NaN at padding.
    """
    encoded = encoded_of(model, texts)
    sites = gate_sites(model)
    rec = recorded(model, encoded, sites)
    gate = torch.stack([rec[s] for s in sites], dim=1).double()
    gate = gate.masked_fill(~rec.mask[:, None, :, None], torch.nan)
    names = np.asarray([model_of(model).token_text(i) for i in range(model.d_vocab)], dtype=object)
    tokens = rec.tokens.numpy()
    return GateReading.from_arrays(
        coords={"layer": list(model.memory_layers)},
        variables={
            "gate": gate.movedim(-1, 2).numpy(),
            "token_id": np.where(rec.mask.numpy(), tokens, -1),
            "token_text": np.where(rec.mask.numpy(), names[tokens], ""),
            "prompt_text": np.asarray(encoded.texts or encoded.names, dtype=object),
            "prompt_id": np.asarray(encoded.names, dtype=object),
        },
        provenance=describe(model, encoded),
    )


def statistics(
    model: Source,
    texts: Any = None,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    bins: int = 40,
    n_inits: int = 40,
    init_documents: int = INIT_DOCUMENTS,
    progress: Progress = quiet,
) -> GateStatistics:
    """Mean, spread and quantiles of every gate, each beside its nulls (see `NULLS`).

    Args:
        model: A model with a memory, or a capture of its gates; with the normalised keys and queries
            captured too, the permutation nulls are there as well.
        texts: Texts, a `PromptSet`, or token ids; None for a capture. Every token but the separator counts.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the permutations, the bootstrap and the initialisations.
        bins: Of the densities over (0, 1).
        n_inits: Fresh initialisations among which the model's statistics are ranked; 0 for none. A rank
            among fewer than 39 can never be called rare at 5 %.
        init_documents: Prompts for that comparison, the first ones (the model's own statistics are then
            taken on the same ones).
        progress: Called with the share done of the initialisations and what comes next; `print` will do.

    Returns:
        Per memory layer and stream, the statistics, their nulls, and the Kolmogorov-Smirnov distance and the
        KL divergence of the densities to each; and where every statistic ranks among the initialisations,
        each alone and all together. A null that cannot be made (no fresh copy of a wrapped module) is
        missing, with the reason.
    """
    encoded = encoded_of(model, texts)
    gate, mask = gates_of(model, encoded)
    nulls, missing = _null_gates(model, encoded, seed=seed)
    documents = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)[mask]
    kept = gate_stats.kept_gates(gate, mask)
    variables: dict[str, Any] = _summary(gate, mask, documents, bins=bins, n_boot=n_boot, seed=seed)
    distance, divergence = np.full((2, len(NULLS), *gate.shape[-2:]), np.nan)
    for index, name in enumerate(NULLS):
        if name not in nulls:
            continue
        null = _summary(nulls[name], mask, documents, bins=bins, n_boot=n_boot, seed=seed)
        for key, value in null.items():
            empty = np.full((len(NULLS), *value.shape), np.nan)
            variables.setdefault(f"null_{key}", empty)[index] = value
        divergence[index] = measures.divergence(variables["density"], null["density"])
        distance[index] = gate_stats.ks_distance(kept, gate_stats.kept_gates(nulls[name], mask))
    variables |= {"distance": distance, "divergence": divergence}
    reasons = {v: missing for v in variables if missing and v.startswith(("null_", "distance", "divergence"))}
    bounds = [v for v in variables if v.endswith(("_low", "_high"))]
    few = encoded.part(slice(0, init_documents))
    own = (gate[:init_documents, : few.tokens.shape[1]], mask[:init_documents, : few.tokens.shape[1]])
    ranked, unranked = _ranked(model, few, own, n_inits=n_inits, seed=seed, progress=progress)
    reasons |= dict.fromkeys(ranked, unranked) if unranked else {}
    return GateStatistics.from_arrays(
        coords={
            "layer": list(model.memory_layers),
            "null": list(NULLS),
            "bin": (np.arange(bins) + 0.5) / bins,
            "statistic": list(gate_stats.STATISTICS),
        },
        variables=variables | ranked,
        provenance=describe(model, encoded, seed=seed)
        | {
            "n_boot": n_boot,
            "n_samples": int(mask.sum()),
            "n_inits": n_inits,
            "n_init_documents": len(few),
        },
        missing=reasons | too_few(len(np.unique(documents)), bounds),
    )


def _ranked(
    model: Source,
    few: Encoded,
    own: tuple[np.ndarray, np.ndarray],
    *,
    n_inits: int,
    seed: int,
    progress: Progress,
) -> tuple[dict[str, Any], str]:
    """Every statistic among those of fresh initialisations on the same prompts, or why there are none."""
    drawn = list[np.ndarray]()
    reason = "" if n_inits else "no initialisations were asked for"
    reason = reason or why_not_untrained(model)
    if not reason:
        assert isinstance(model, SubjectModel)
        drawn = [
            gates_of(fresh, few)[0] for fresh in initialisations(model, n_inits, seed=seed, progress=progress)
        ]
        if n_inits > 1 and all((other == drawn[0]).all() for other in drawn[1:]):
            reason = f"rebuild=… of {model.name} gives the same weights every time"
    gate, mask = own
    found = gate_stats.among([gate, *drawn], mask)
    observed, draws = found[0], found[1:]
    undefined = np.full_like(observed, np.nan)
    cells = observed.shape[1:]
    if reason:
        return {
            "observed": observed,
            **dict.fromkeys(("init_low", "init_high", "init_p"), undefined),
            "untrained_p": np.full(cells, np.nan),
            "untrained_p_all": np.nan,
        }, reason
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    p = ranks.rank_p(observed, draws)
    p[-1] = ranks.rank_p(observed[-1], draws[:, -1], two_sided=False)  # only a large distance is odd
    each = [ranks.joint_p(observed[:, i, j], draws[:, :, i, j]) for i, j in np.ndindex(*cells)]
    return {
        "observed": observed,
        "init_low": low,
        "init_high": high,
        "init_p": p,
        "untrained_p": np.reshape(each, cells),
        "untrained_p_all": ranks.joint_p(observed, draws),
    }, ""


def _null_gates(model: Source, encoded: Encoded, *, seed: int) -> tuple[dict[str, np.ndarray], str]:
    """The gates under every null that can be made, and why the others cannot."""
    nulls, missing = dict[str, np.ndarray](), list[str]()
    if reason := why_not_untrained(model):
        missing.append(f"untrained: {reason}")
    else:
        assert isinstance(model, SubjectModel)
        nulls["untrained"] = gates_of(untrained(model), encoded)[0]
    if reason := recomputable(model):
        missing.append(f"permutations: {reason}")
    else:
        nulls |= _permuted(model, encoded, seed=seed)
    return nulls, "; ".join(missing)


def _permuted(model: Source, encoded: Encoded, *, seed: int) -> dict[str, np.ndarray]:
    keys, queries = gate_sites(model, "key_normed"), gate_sites(model, "query_normed")
    rec = recorded(model, encoded, [*keys, *queries])
    used = torch.from_numpy(counted(model, rec))
    generator = np.random.default_rng(seed)
    within = torch.arange(used.numel()).view(used.shape)
    for row in range(len(used)):
        places = used[row].nonzero().squeeze(-1)
        within[row, places] = within[row, places[torch.from_numpy(generator.permutation(len(places)))]]
    anywhere = torch.arange(used.numel())
    places = used.flatten().nonzero().squeeze(-1)
    anywhere[places] = places[torch.from_numpy(generator.permutation(len(places)))]
    out: dict[str, list[Tensor]] = {name: [] for name in NULLS[1:]}
    for key_site, query_site in zip(keys, queries, strict=True):
        key, query = rec[key_site], rec[query_site]
        module = engram_of(model_of(model), int(key_site.split(".")[1]))
        out["rows permuted"].append(module.gate_of(query, key.flatten(0, 1)[within]))
        moved = query.flatten(0, 1)[anywhere].view_as(query)
        out["queries permuted"].append(module.gate_of(moved, key))
    return {name: torch.stack(gates, dim=2).double().numpy() for name, gates in out.items()}


def _summary(
    gate: np.ndarray, mask: np.ndarray, documents: np.ndarray, *, bins: int, n_boot: int, seed: int
) -> dict[str, np.ndarray]:
    """Every statistic of the schema for gates `[prompt, token, layer, stream]`, with intervals."""
    kept = gate_stats.kept_gates(gate, mask)
    found = gate_stats.summarise(gate, mask)
    mean = bootstrap.mean_interval(kept, documents, n_boot=n_boot, seed=seed)
    spread = bootstrap.sd_interval(kept, documents, n_boot=n_boot, seed=seed)
    quantiles = {
        f"q{round(100 * share):02d}": value
        for share, value in zip(gate_stats.QUANTILES, found.quantiles, strict=True)
    }
    return quantiles | {
        "mean": found.mean,
        "mean_low": mean.low,
        "mean_high": mean.high,
        "sd": found.sd,
        "sd_low": spread.low,
        "sd_high": spread.high,
        "fraction_open": found.fraction_open,
        "density": gate_stats.density(gate, mask, n_bins=bins)[0],
    }
