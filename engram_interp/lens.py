"""How close is each layer to the model's answer? The raw logit lens (nostalgebraist 2020).

A residual goes through the model's own final norm and unembedding (with several streams, through its
own collapse first) and the distribution it gives is compared with the final one. Early layers need
not speak the final layer's language: a large divergence there is not evidence of ignorance.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.capture.encode import encode
from engram_interp.capture.record import run_batches
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics.bootstrap import Estimate, mean_interval
from engram_interp.provenance import describe, too_few
from engram_interp.results import ConvergenceResult, LensTable

__all__ = ["convergence", "table"]

_NAMES = ("kl", "entropy", "next_loss", "agreement")
_TILE = 256
"""Tokens whose logits are held at a time; few enough to stay in the cache."""


def _sites(model: SubjectModel) -> list[str]:
    if model.lens_head is None:
        raise InputError(
            f"{model.name} has no lens head; give wrap(…, lens_head=…), the map from a residual to logits "
            "through the final norm and the unembedding."
        )
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers)]
    missing = [s for s in sites if s not in model.sites]
    if missing:
        raise InputError(f"{model.name} has no {missing[0]}, which the lens reads; add it to wrap's sites.")
    return sites


@torch.inference_mode()
def _lens_logits(model: SubjectModel, resid: Tensor) -> Float[Tensor, "*batch d_vocab"]:
    assert model.lens_head is not None
    if model.readout is not None:
        resid = model.readout(resid)
    return model.lens_head(resid).float()


def _readout_name(model: SubjectModel) -> str:
    return "the model's own collapse" if model.n_streams > 1 else "one stream"


def convergence(
    model: SubjectModel, texts: Any, *, n_boot: int = 1000, seed: int = 0, batch_size: int = 8
) -> ConvergenceResult:
    """KL(final ‖ layer), entropy, next-token loss and top-1 agreement of every layer's lens.

    Args:
        model: The model.
        texts: Texts, a `PromptSet`, or token ids. Every token but the separator counts.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the bootstrap.
        batch_size: Prompts per forward pass.

    Returns:
        Per layer (counted from 0: the residual after that block), means over tokens in nats, with
        intervals. With fewer than 20 documents there are no intervals.
    """
    encoded, sites = encode(model, texts), _sites(model)
    values, document = list[np.ndarray](), list[np.ndarray]()
    row = 0
    for output, seen in run_batches(model, encoded, sites, batch_size=batch_size):
        tokens, counted = (
            encoded.tokens[row : row + len(output)],
            encoded.mask[row : row + len(output)].clone(),
        )
        if model.separator_id is not None:
            counted &= tokens != model.separator_id
        if not counted.any():
            row += len(output)
            continue
        values.append(_by_token(model, [seen[s] for s in sites], output, tokens, counted))
        document.append(counted.nonzero()[:, 0].cpu().numpy() + row)
        row += len(output)
    if not document:
        raise InputError("No token counts: the prompts hold nothing but separators; give prompts with text.")
    found = mean_interval(np.concatenate(values), np.concatenate(document), n_boot=n_boot, seed=seed)
    variables: dict[str, Any] = {"agreement": found.value[:, _NAMES.index("agreement")]}
    for index, name in enumerate(_NAMES[:-1]):
        variables[name] = found.value[:, index]
        variables[f"{name}_low"], variables[f"{name}_high"] = found.low[:, index], found.high[:, index]
    facts = {
        "direction": "KL(final ‖ layer)",
        "lens": "raw logit lens",
        "readout": _readout_name(model),
        "n_boot": n_boot,
        "n_samples": sum(map(len, document)),
    }
    return ConvergenceResult.from_arrays(
        coords={"layer": np.arange(model.n_layers)},
        variables=variables,
        provenance=describe(model, encoded, seed=seed) | facts,
        missing=_missing(found, variables),
    )


def _missing(found: Estimate, variables: dict[str, Any]) -> dict[str, str]:
    reasons = {"next_loss": "no token follows another in these prompts"}
    for index, name in enumerate(_NAMES):
        ends = [v for v in (f"{name}_low", f"{name}_high") if v in variables]
        reasons |= too_few(int(found.n_documents[:, index].min()), ends)
    return reasons


def _by_token(
    model: SubjectModel, residuals: list[Tensor], output: Tensor, tokens: Tensor, counted: Tensor
) -> Float[np.ndarray, "row layer name"]:
    """KL, entropy, next-token loss and agreement at every counted token, tile by tile.

    The loss belongs to the token that predicts; at the last token of a text there is none: NaN.
    """
    follows = torch.zeros_like(counted)
    follows[:, :-1] = counted[:, 1:]
    targets = torch.zeros_like(tokens)
    targets[:, :-1] = tokens[:, 1:]
    final, targets, predicts = output[counted].float(), targets[counted], follows[counted]
    rows = [r[counted] for r in residuals]
    parts = [
        torch.stack(
            [_distances(model, r[tile], final[tile], targets[tile]) for r in rows],
            dim=1,
        )
        for tile in (slice(i, i + _TILE) for i in range(0, len(final), _TILE))
    ]
    values = torch.cat(parts).double()
    values[~predicts, :, _NAMES.index("next_loss")] = torch.nan
    return values.cpu().numpy()


@torch.inference_mode()
def _distances(
    model: SubjectModel, resid: Tensor, final: Float[Tensor, "row d_vocab"], targets: Tensor
) -> Float[Tensor, "row name"]:
    """The four numbers of `_NAMES` for rows of one layer; no log-probabilities are materialised."""
    weight = final.softmax(-1)
    own = torch.linalg.vecdot(weight, final) - final.logsumexp(-1)
    logits = _lens_logits(model, resid)
    highest, best = logits.max(-1)
    mass = (logits - highest[:, None]).exp_()
    total = mass.sum(-1)
    normaliser = highest + total.log()
    kl = own - torch.linalg.vecdot(weight, logits) + normaliser
    entropy = normaliser - torch.linalg.vecdot(mass, logits) / total
    loss = normaliser - logits.gather(-1, targets[:, None]).squeeze(-1)
    return torch.stack([kl, entropy, loss, (best == final.argmax(-1)).float()], dim=-1)


def table(model: SubjectModel, text: Any, *, top: int = 5) -> LensTable:
    """What every layer would say at every token of one prompt.

    Args:
        model: The model.
        text: One prompt.
        top: Tokens kept per cell.

    Returns:
        By layer and token: the top tokens with log-probabilities (nats), KL(final ‖ layer), entropy, the
        rank the final top-1 has at that layer (0 is first), and how many places it gained since the
        layer before.
    """
    encoded, sites = encode(model, text), _sites(model)
    if len(encoded) != 1:
        raise InputError(f"A lens table shows one prompt, got {len(encoded)}; call it for each.")
    if not 1 <= top <= model.d_vocab:
        raise InputError(f"top wants to lie in 1 … {model.d_vocab}, got {top}.")
    [(output, seen)] = run_batches(model, encoded, sites)
    final = output[0].float().log_softmax(-1)
    log_p = torch.stack([_lens_logits(model, seen[s])[0].log_softmax(-1) for s in sites])
    best = log_p.topk(top, dim=-1)
    answer = final.argmax(-1)
    own = log_p.gather(-1, answer.expand(len(sites), -1)[..., None])
    rank = (log_p > own).sum(-1)
    moves = torch.full(rank.shape, torch.nan, dtype=torch.float64)
    moves[1:] = (rank[:-1] - rank[1:]).double()
    kl = (final.exp() * (final - log_p)).sum(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    vocabulary = np.asarray([model.token_text(i) for i in range(model.d_vocab)], dtype=object)
    ids = best.indices.cpu().numpy()
    return LensTable.from_arrays(
        coords={"layer": np.arange(model.n_layers)},
        variables={
            "top_id": ids,
            "top_token": vocabulary[ids],
            "top_logprob": best.values.double().cpu().numpy(),
            "kl": kl.double().cpu().numpy(),
            "entropy": entropy.double().cpu().numpy(),
            "final_rank": rank.cpu().numpy(),
            "rank_move": moves.cpu().numpy(),
            "token_id": encoded.tokens[0].cpu().numpy(),
            "token_text": vocabulary[encoded.tokens[0].cpu().numpy()],
        },
        provenance=describe(model, encoded)
        | {"direction": "KL(final ‖ layer)", "lens": "raw logit lens", "readout": _readout_name(model)},
        missing={"rank_move": "the first layer has none before it"},
    )
