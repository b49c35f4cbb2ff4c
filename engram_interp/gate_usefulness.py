"""Is the gate open where the memory helps? Each token's own loss with its gate shut.

The ablation is the exact one: for a seeded sample of tokens the gate of one layer is shut *at that token
only*, in all streams, and the loss of the next token is read. So Δloss > 0 means that this read, at this
place, helped to predict what comes next.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.capture.ablations import log_probabilities
from engram_interp.capture.encode import Encoded, encode
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_nulls import INIT_DOCUMENTS, gate_sites, initialisations
from engram_interp.memory.index import Progress, quiet
from engram_interp.metrics import contrast
from engram_interp.metrics.bootstrap import mean_interval
from engram_interp.provenance import describe, too_few
from engram_interp.results import GateUsefulness

__all__ = ["sample", "shut_alone", "usefulness"]

_ENDS = ("", "_low", "_high")


def usefulness(
    model: SubjectModel,
    texts: Any,
    *,
    per_document: int = 8,
    n_boot: int = 1000,
    seed: int = 0,
    n_inits: int = 20,
    init_documents: int = INIT_DOCUMENTS,
    batch_size: int = 16,
    progress: Progress = quiet,
) -> GateUsefulness:
    """Δloss of sampled tokens with their gate shut, and whether the gate tells where that costs something.

    Args:
        model: A model with a memory.
        texts: Texts, a `PromptSet`, or token ids.
        per_document: Tokens drawn from each prompt (every one, if it has fewer); the separator and the
            last token, which predicts nothing, are left out.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the tokens, the bootstrap and the initialisations.
        n_inits: Fresh initialisations, of which the range of the AUC is given; 0 for none.
        init_documents: Prompts for these, the first ones.
        batch_size: Sampled tokens per forward pass.
        progress: Called with the share done of the initialisations and what comes next; `print` will do.

    Returns:
        Per sampled token the gate and, per memory layer, the Δloss in nats; per layer the mean Δloss and
        the share of tokens where shutting the gate costs; per layer and stream the AUC of the gate as a
        predictor of Δloss > 0, with an interval over documents and the range over initialisations.

    Raises:
        InputError: If the model has no memory, or no prompt holds a token to sample.
    """
    encoded = encode(model, texts)
    gate_sites(model)
    row, position = sample(model, encoded, per_document=per_document, seed=seed)
    gate, delta = shut_alone(model, encoded, row, position, batch_size=batch_size)
    variables: dict[str, Any] = {"gate": gate, "delta_loss": delta, "document": row, "position": position}
    for name, values in (("mean_delta", delta), ("useful", (delta > 0).astype(float))):
        estimate = mean_interval(values, row, n_boot=n_boot, seed=seed)
        parts = zip(_ENDS, (estimate.value, estimate.low, estimate.high), strict=True)
        variables |= {f"{name}{end}": part for end, part in parts}
    variables |= _aucs(gate, delta, row, n_boot=n_boot, seed=seed)
    null = [np.full(gate.shape[1:], np.nan)]
    if model.rebuild is not None and n_inits:
        few = encoded.part(slice(0, init_documents))
        chosen = row < len(few)
        for fresh in initialisations(model, n_inits, seed=seed, progress=progress):
            once = shut_alone(fresh, few, row[chosen], position[chosen], batch_size=batch_size)
            null.append(_aucs(*once, row[chosen], n_boot=1, seed=seed)["auc"])
    stack = np.stack(null[1:] or null)
    parts = zip(_ENDS, (stack.mean(0), stack.min(0), stack.max(0)), strict=True)
    variables |= {f"null_auc{end}": part for end, part in parts}
    bounds = [v for v in variables if v.endswith(_ENDS[1:]) and not v.startswith("null_")]
    undefined = "no fresh copy to run, or there Δloss has one sign only"
    return GateUsefulness.from_arrays(
        coords={"layer": list(model.memory_layers)},
        variables=variables,
        provenance=describe(model, encoded, seed=seed)
        | {
            "ablation": "the layer's gate shut at one token, in all streams; loss of the next token",
            "n_samples": len(row),
            "n_boot": n_boot,
            "n_inits": n_inits,
            "n_init_documents": min(init_documents, len(encoded)),
        },
        missing=dict.fromkeys(("auc", "auc_low", "auc_high"), "Δloss has one sign only")
        | too_few(len(np.unique(row)), bounds)
        | {f"null_auc{end}": undefined for end in _ENDS},
    )


def sample(
    model: SubjectModel, encoded: Encoded, *, per_document: int, seed: int
) -> tuple[Int64[np.ndarray, " sample"], Int64[np.ndarray, " sample"]]:
    """Prompt and position of the tokens drawn, in order."""
    if per_document < 1:
        raise InputError(f"per_document wants at least 1 token of each prompt, got {per_document}.")
    generator = np.random.default_rng(seed)
    rows, positions = list[int](), list[int]()
    for row, (ids, mask) in enumerate(
        zip(encoded.tokens.cpu().numpy(), encoded.mask.cpu().numpy(), strict=True)
    ):
        inside = np.flatnonzero(
            mask[1:] & (ids[:-1] != (-1 if model.separator_id is None else model.separator_id))
        )
        chosen = np.sort(generator.permutation(inside)[:per_document])
        rows += [row] * len(chosen)
        positions += chosen.tolist()
    if not rows:
        raise InputError("No prompt holds a token with another after it; give texts of two tokens or more.")
    return np.asarray(rows, np.int64), np.asarray(positions, np.int64)


def shut_alone(
    model: SubjectModel, encoded: Encoded, row: np.ndarray, position: np.ndarray, *, batch_size: int
) -> tuple[Float[np.ndarray, "sample layer stream"], Float[np.ndarray, "sample layer"]]:
    """Gate and Δloss of the sampled tokens, each from its own copy of the prompt, cut after that token."""
    sites = gate_sites(model)
    gates, deltas = list[np.ndarray](), list[np.ndarray]()
    order = np.argsort(position, kind="stable")  # copies of like length share a batch
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows, at = torch.from_numpy(row[chosen]), torch.from_numpy(position[chosen])
        width = int(at.max()) + 1
        each = torch.arange(len(at))
        tokens = encoded.tokens[rows.to(encoded.tokens.device), :width]
        batch = Encoded(
            tokens=tokens,
            mask=(torch.arange(width) <= at[:, None]).to(tokens.device),
            entity_ends=((),) * len(at),
            names=("",) * len(at),
        )
        following = encoded.tokens.cpu()[rows, at + 1]
        before, seen = log_probabilities(model, batch, {}, sites)
        gates.append(torch.stack([seen[s].float().cpu()[each, at] for s in sites], 1).double().numpy())

        def shut(gate: Tensor, each: Tensor = each, at: Tensor = at) -> Tensor:
            closed = gate.clone()
            closed[each, at] = 0.0
            return closed

        changed = [log_probabilities(model, batch, {site: shut})[0] for site in sites]
        loss = [-x[each, at, following].double() for x in (before, *changed)]
        deltas.append(torch.stack([x - loss[0] for x in loss[1:]], dim=1).numpy())
    back = np.argsort(order, kind="stable")
    return np.concatenate(gates)[back], np.concatenate(deltas)[back]


def _aucs(
    gate: np.ndarray, delta: np.ndarray, row: np.ndarray, *, n_boot: int, seed: int
) -> dict[str, np.ndarray]:
    """AUC `[layer, stream]` of each layer's gates for that layer's Δloss > 0, with its interval."""
    each = [
        contrast.auc(gate[:, i], delta[:, i] > 0, row, n_boot=n_boot, seed=seed)
        for i in range(delta.shape[1])
    ]
    return {
        "auc": np.stack([e.value for e in each]),
        "auc_low": np.stack([e.low for e in each]),
        "auc_high": np.stack([e.high for e in each]),
    }
