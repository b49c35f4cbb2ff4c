"""Which token? Where the gates open, beside what they would do if nothing had been learnt.

An untrained gate already varies: its mean is about .50, its standard deviation about .20, and the
signed square root leaves a hole around .5. So no statistic of a gate stands alone (SCIENCE section 3).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.record import Recording, record
from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.module import Engram
from engram_interp.metrics import bootstrap, gate_stats
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.provenance import describe, too_few
from engram_interp.results import GateReading, GateStatistics

__all__ = ["NULLS", "read", "statistics"]

NULLS = ("untrained", "rows permuted", "queries permuted")
"""The model at its own initialisation; rows swapped among positions of the same prompt; queries swapped
among positions of all prompts."""


def _sites(model: SubjectModel, name: str) -> list[str]:
    if not model.memory_layers:
        raise InputError(f"{model.name} has no memory, so it has no gates; give the model with Engram.")
    return [f"blocks.{layer}.engram.hook_{name}" for layer in model.memory_layers]


def read(model: SubjectModel, texts: Any) -> GateReading:
    """The gate of every prompt, memory layer, stream and token.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids.

    Returns:
        Gates in (0, 1), neutral at 0.5; NaN at padding.
    """
    encoded = encode(model, texts)
    sites = _sites(model, "gate")
    rec = record(model, encoded, sites=sites, logits=False)
    gate = torch.stack([rec[s] for s in sites], dim=1).double()
    gate = gate.masked_fill(~rec.mask[:, None, :, None], torch.nan)
    names = np.asarray([model.token_text(i) for i in range(model.d_vocab)], dtype=object)
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
    model: SubjectModel, texts: Any, *, n_boot: int = 1000, seed: int = 0, bins: int = 40
) -> GateStatistics:
    """Mean, spread and quantiles of every gate, each beside its nulls (see `NULLS`).

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids; every token but the separator counts.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the permutations and the bootstrap.
        bins: Of the densities over (0, 1).

    Returns:
        Per memory layer and stream, the statistics, their nulls, and the Kolmogorov-Smirnov distance to
        each. A null that cannot be made (no fresh copy of a wrapped module) is missing, with the reason.
    """
    encoded = encode(model, texts)
    gate, mask = _gates(model, encoded)
    nulls, missing = _null_gates(model, encoded, seed=seed)
    documents = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)[mask]
    kept = gate_stats.kept_gates(gate, mask)
    variables: dict[str, Any] = _summary(gate, mask, documents, bins=bins, n_boot=n_boot, seed=seed)
    distance = np.full((len(NULLS), *gate.shape[-2:]), np.nan)
    for index, name in enumerate(NULLS):
        if name not in nulls:
            continue
        null = _summary(nulls[name], mask, documents, bins=bins, n_boot=n_boot, seed=seed)
        for key, value in null.items():
            empty = np.full((len(NULLS), *value.shape), np.nan)
            variables.setdefault(f"null_{key}", empty)[index] = value
        distance[index] = gate_stats.ks_distance(kept, gate_stats.kept_gates(nulls[name], mask))
    variables["distance"] = distance
    reasons = {v: missing for v in variables if missing and (v.startswith("null_") or v == "distance")}
    bounds = [v for v in variables if v.endswith(("_low", "_high"))]
    return GateStatistics.from_arrays(
        coords={
            "layer": list(model.memory_layers),
            "null": list(NULLS),
            "bin": (np.arange(bins) + 0.5) / bins,
        },
        variables=variables,
        provenance=describe(model, encoded, seed=seed) | {"n_boot": n_boot, "n_samples": int(mask.sum())},
        missing=reasons | too_few(len(np.unique(documents)), bounds),
    )


def _counted(model: SubjectModel, rec: Recording) -> np.ndarray:
    mask = rec.mask.numpy().copy()
    if model.separator_id is not None:
        mask &= rec.tokens.numpy() != model.separator_id
    return mask


def _gates(model: SubjectModel, encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """Gates `[prompt, token, layer, stream]` and which positions count."""
    sites = _sites(model, "gate")
    rec = record(model, encoded, sites=sites, logits=False)
    return torch.stack([rec[s] for s in sites], dim=2).double().numpy(), _counted(model, rec)


def _null_gates(model: SubjectModel, encoded: Encoded, *, seed: int) -> tuple[dict[str, np.ndarray], str]:
    """The gates under every null that can be made, and why the others cannot."""
    nulls, missing = dict[str, np.ndarray](), list[str]()
    if model.rebuild is None:
        missing.append(f"untrained: {model.name} came without rebuild=…")
    else:
        nulls["untrained"] = _gates(_untrained(model), encoded)[0]
    if not isinstance(_memory(model, model.memory_layers[0]), Engram):
        missing.append(
            f"permutations: the memory of {model.name} is not of a kind whose gate can be recomputed"
        )
    elif all(s in model.sites for s in [*_sites(model, "key_normed"), *_sites(model, "query_normed")]):
        nulls |= _permuted(model, encoded, seed=seed)
    else:
        missing.append(f"permutations: {model.name} has no sites for the normalised key and query")
    return nulls, "; ".join(missing)


def _untrained(model: SubjectModel) -> SubjectModel:
    assert model.rebuild is not None
    fresh = model.rebuild().to(model.device)
    if isinstance(fresh, HookedEngramTransformer):
        return subject_of(fresh, model.tokenizer, name="untrained")
    if model.forward is not None:
        raise InputError(
            f"{model.name} runs through forward=…, which would run the trained module; wrap it anew."
        )
    return replace(model, module=fresh, name="untrained")


def _memory(model: SubjectModel, layer: int) -> Any:
    path = model.sites[f"blocks.{layer}.engram.hook_gate"].rpartition(".")[0]
    return model.module.get_submodule(path) if path else model.module


def _permuted(model: SubjectModel, encoded: Encoded, *, seed: int) -> dict[str, np.ndarray]:
    keys, queries = _sites(model, "key_normed"), _sites(model, "query_normed")
    rec = record(model, encoded, sites=[*keys, *queries], logits=False)
    counted = torch.from_numpy(_counted(model, rec))
    generator = np.random.default_rng(seed)
    within = torch.arange(counted.numel()).view(counted.shape)
    for row in range(len(counted)):
        places = counted[row].nonzero().squeeze(-1)
        within[row, places] = within[row, places[torch.from_numpy(generator.permutation(len(places)))]]
    anywhere = torch.arange(counted.numel())
    places = counted.flatten().nonzero().squeeze(-1)
    anywhere[places] = places[torch.from_numpy(generator.permutation(len(places)))]
    out: dict[str, list[Tensor]] = {name: [] for name in NULLS[1:]}
    for key_site, query_site in zip(keys, queries, strict=True):
        key, query = rec[key_site], rec[query_site]
        module = _memory(model, int(key_site.split(".")[1]))
        assert isinstance(module, Engram)
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
