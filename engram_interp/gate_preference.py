"""Does the gate prefer rows that training hit often, even where what they hold hurts?

A gate trained together with its rows may learn to trust those that were updated often rather than those that
help here (arXiv 2601.16531). So its rank correlation with the hits is taken over all sampled reads, and again
over those alone that hurt: shutting the gate at that token alone lowers its loss.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.record import record
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_nulls import gate_sites, gates_of, initialisations
from engram_interp.gate_usefulness import sample, shut_alone
from engram_interp.memory.index import Progress, quiet
from engram_interp.metrics.bootstrap import MIN_GROUPS, mean_interval, named
from engram_interp.metrics.information import quantile_bins, rank_correlation
from engram_interp.provenance import describe
from engram_interp.results.gate_preference import QUARTERS, READS, GatePreference

__all__ = ["preference"]

_ENDS = ("", "_low", "_high")


def preference(
    model: SubjectModel,
    texts: Any,
    *,
    per_document: int = 8,
    n_boot: int = 1000,
    seed: int = 0,
    n_inits: int = 10,
    batch_size: int = 16,
    progress: Progress = quiet,
) -> GatePreference:
    """Rank correlation of gates and training hits, over all reads, those that help and those that hurt.

    The hits of a read are the geometric mean over the rows that it takes. A read helps where the loss of the
    next token rises with the layer's gate shut at that token alone, and hurts where it falls. The null is the
    gate of fresh initialisations at the same tokens, with the same hits and the same sorting into reads.

    Args:
        model: A model with a memory whose training hits are known.
        texts: Texts, a `PromptSet`, or token ids.
        per_document: Tokens drawn from each prompt, as in `gates.usefulness`.
        n_boot: Bootstrap samples over documents, for the means; intervals are 95 %.
        seed: Of the tokens, the bootstrap and the initialisations.
        n_inits: Fresh initialisations, of which the range is given; 0 for none.
        batch_size: Sampled tokens per forward pass.
        progress: Called with the share done of the initialisations and what comes next; `print` will do.

    Returns:
        By kind of read, memory layer and stream: Spearman's ρ (jackknife over documents) and its range over
        initialisations; by quarter of the hits the mean gate and the mean change of loss with it shut.

    Raises:
        InputError: If the model has no memory, or its training hits are not known.
    """
    encoded = encode(model, texts)
    gate_sites(model)
    lacking = [layer for layer in model.memory_layers if layer not in model.hits]
    if lacking:
        raise InputError(
            f"{model.name} does not tell the training hits of layer {lacking[0]}, so no gate can be set "
            "beside them; give wrap(…, hits=…)."
        )
    row, position = sample(model, encoded, per_document=per_document, seed=seed)
    hits = _hits(model, encoded, row, position)
    gate, delta = shut_alone(model, encoded, row, position, batch_size=batch_size)
    variables = _correlations(gate, delta, hits, row)
    drawn = [np.full((len(READS), *gate.shape[1:]), np.nan)]
    if model.rebuild is not None and n_inits:
        for fresh in initialisations(model, n_inits, seed=seed, progress=progress):
            untrained = gates_of(fresh, encoded)[0][row, position]
            drawn.append(_correlations(untrained, delta, hits, row)["correlation"])
    stack = np.stack(drawn[1:] or drawn)
    parts = zip(_ENDS, (stack.mean(0), stack.min(0), stack.max(0)), strict=True)
    variables |= {f"null_correlation{end}": part for end, part in parts}
    variables |= _by_quarter(gate, delta, hits, row, n_boot=n_boot, seed=seed)
    variables["reads"] = np.stack([chosen.sum(0) for chosen in _reads(delta)])
    few = f"fewer than {MIN_GROUPS} documents have such reads, or gate or hits do not vary among them"
    no_null = "no initialisations were asked for" if model.rebuild is not None else "no fresh copy to run"
    return GatePreference.from_arrays(
        coords={"layer": list(model.memory_layers), "read": list(READS), "quarter": list(QUARTERS)},
        variables=variables,
        provenance=describe(model, encoded, seed=seed)
        | {
            "ablation": "the layer's gate shut at one token, in all streams; loss of the next token",
            "estimator": "Spearman's ρ of the gate and the geometric mean of its rows' training hits",
            "n_samples": len(row),
            "n_boot": n_boot,
            "n_inits": n_inits,
        },
        missing=dict.fromkeys(variables, few)
        | {f"null_correlation{end}": no_null if len(drawn) == 1 else few for end in _ENDS},
    )


def _hits(
    model: SubjectModel, encoded: Encoded, row: np.ndarray, position: np.ndarray
) -> Float[np.ndarray, "sample layer"]:
    """Mean log of one more than the training hits, over the rows that each sampled token reads."""
    sites = gate_sites(model, "rows")
    rec = record(model, encoded, sites=sites, logits=False)
    at = torch.from_numpy(row), torch.from_numpy(position)
    each = [
        np.log1p(model.hits[layer][rec[site][at].numpy()]).mean(-1)
        for layer, site in zip(model.memory_layers, sites, strict=True)
    ]
    return np.stack(each, axis=1)


def _reads(delta: Float[np.ndarray, "sample layer"]) -> list[np.ndarray]:
    """Which samples are of each kind of `READS` `[sample, layer]`."""
    return [np.ones_like(delta, dtype=bool), delta > 0, delta < 0]


def _correlations(
    gate: Float[np.ndarray, "sample layer stream"],
    delta: Float[np.ndarray, "sample layer"],
    hits: Float[np.ndarray, "sample layer"],
    documents: Int64[np.ndarray, " sample"],
) -> dict[str, np.ndarray]:
    """Spearman's ρ of gate and hits `[read, layer, stream]` with its interval."""
    shape = (len(READS), *gate.shape[1:])
    found = {f"correlation{end}": np.full(shape, np.nan) for end in _ENDS}
    for number, chosen in enumerate(_reads(delta)):
        for layer, stream in np.ndindex(*gate.shape[1:]):
            inside = chosen[:, layer]
            if not inside.any():
                continue
            made = rank_correlation(gate[inside, layer, stream], hits[inside, layer], documents[inside])
            for name, part in named("correlation", made).items():
                found[name][number, layer, stream] = part
    return found


def _by_quarter(
    gate: np.ndarray, delta: np.ndarray, hits: np.ndarray, documents: np.ndarray, *, n_boot: int, seed: int
) -> dict[str, np.ndarray]:
    """Mean gate `[quarter, layer, stream]` and mean change of loss `[quarter, layer]`, with intervals."""
    shapes = {"quarter_gate": gate.shape[1:], "quarter_delta": delta.shape[1:]}
    found = {f"{k}{end}": np.full((len(QUARTERS), *v), np.nan) for k, v in shapes.items() for end in _ENDS}
    for layer in range(delta.shape[1]):
        bins = quantile_bins(hits[:, layer], count=len(QUARTERS))
        for quarter in range(len(QUARTERS)):
            inside = bins == quarter
            if not inside.any():
                continue
            for name, values in (("quarter_gate", gate), ("quarter_delta", delta)):
                made = mean_interval(values[inside, layer], documents[inside], n_boot=n_boot, seed=seed)
                for key, part in named(name, made).items():
                    found[key][quarter, layer] = part
    return found
