"""How close is each layer to the model's answer? The raw logit lens (nostalgebraist 2020).

A residual goes through the model's own final norm and unembedding (with several streams, through its
own collapse first) and the distribution it gives is compared with the final one. Early layers need
not speak the final layer's language: a large divergence there is not evidence of ignorance.
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp import lens_reading
from engram_interp.capture.encode import encode
from engram_interp.capture.record import run_batches
from engram_interp.capture.source import batches, encoded_of, model_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.checkpoints.tuned_lens import TunedLens
from engram_interp.errors import InputError
from engram_interp.memory.index import Progress, quiet
from engram_interp.metrics.bootstrap import Estimate, mean_interval
from engram_interp.provenance import describe, too_few
from engram_interp.results import ConvergenceResult, LensTable

__all__ = ["convergence", "table"]

_NAMES = ("kl", "reverse_kl", "entropy", "next_loss", "agreement")

Lens = Literal["raw", "tuned"] | TunedLens


def _chosen(model: SubjectModel, lens: Lens) -> TunedLens | None:
    """The tuned lens that was asked for, checked against the model; None for the raw one."""
    if lens == "raw":
        return None
    if lens == "tuned":
        if model.tuned_lens is None:
            raise InputError(
                f"{model.name} comes without a tuned lens; make one with lens_tuned.train and give it."
            )
        lens = TunedLens.load(model.tuned_lens)
    if not isinstance(lens, TunedLens):
        raise InputError(f'lens wants to be "raw", "tuned" or a TunedLens, got {lens!r}.')
    lens.check(name=model.name, digest=model.digest, n_layers=model.n_layers, d_model=model.d_model)
    return lens


def _readout_name(model: SubjectModel) -> str:
    return "the model's own collapse" if model.n_streams > 1 else "one stream"


def _lens_name(tuned: TunedLens | None) -> str:
    return "raw logit lens" if tuned is None else "tuned lens"


def convergence(
    source: Any,
    texts: Any = None,
    *,
    lens: Lens = "raw",
    limit: int | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress = quiet,
) -> ConvergenceResult:
    """Both divergences, entropy, next-token loss and top-1 agreement of every layer's lens.

    Args:
        source: The model, or a capture of it.
        texts: Texts, a `PromptSet`, or token ids; None for a capture. Every token but the separator
            counts.
        lens: "raw"; "tuned" for the tuned lens that comes with the model; or a `TunedLens`.
        limit: Most tokens a prompt; two models are compared on what both can hold.
        n_boot: Bootstrap samples over documents; intervals are 95 %.
        seed: Of the bootstrap.
        batch_size: Prompts per forward pass.
        progress: Called with the share of the prompts done and what comes next; `print` will do.

    Returns:
        Per layer (counted from 0: the residual after that block), means over tokens in nats, with
        intervals. With fewer than 20 documents there are no intervals. KL(final ‖ layer) is ``kl``,
        KL(layer ‖ final) ``reverse_kl``; the sums of each document are kept beside the means.
    """
    encoded, model = encoded_of(source, texts, limit=limit), model_of(source)
    sites, tuned = lens_reading.sites(model), _chosen(model, lens)
    values, document = list[np.ndarray](), list[np.ndarray]()
    row = 0
    for output, seen in batches(source, encoded, sites, batch_size=batch_size):
        rows = slice(row, row + len(seen[sites[0]]))
        progress(row / len(encoded), f"prompts {row + 1} to {rows.stop} of {len(encoded)}")
        tokens, counted = encoded.tokens[rows], encoded.mask[rows].clone()
        if model.separator_id is not None:
            counted &= tokens != model.separator_id
        if counted.any():
            residuals = lens_reading.rows(
                model, tuned, [seen[s] for s in sites], counted, encoded=encoded, first=row
            )
            if output is not None and not document:
                lens_reading.check_answer(model, residuals[-1], output[counted])
            values.append(_by_token(model, residuals, tokens, counted))
            document.append(counted.nonzero()[:, 0].cpu().numpy() + row)
        row = rows.stop
    progress(1.0, "done")
    if not document:
        raise InputError("No token counts: the prompts hold nothing but separators; give prompts with text.")
    every, owner = np.concatenate(values), np.concatenate(document)
    found = mean_interval(every, owner, n_boot=n_boot, seed=seed)
    variables: dict[str, Any] = {"agreement": found.value[:, _NAMES.index("agreement")]}
    for index, name in enumerate(_NAMES[:-1]):
        variables[name] = found.value[:, index]
        variables[f"{name}_low"], variables[f"{name}_high"] = found.low[:, index], found.high[:, index]
    variables["document_tokens"] = np.bincount(owner, minlength=len(encoded))
    sums = np.zeros((len(encoded), *every.shape[1:]))
    np.add.at(sums, owner, np.nan_to_num(every))
    variables["document_kl"], variables["document_reverse_kl"] = sums[..., 0], sums[..., 1]
    facts = {
        "direction": "KL(final ‖ layer)",
        "lens": _lens_name(tuned),
        "readout": _readout_name(model),
        "n_boot": n_boot,
        "n_samples": len(owner),
    }
    return ConvergenceResult.from_arrays(
        coords={"layer": np.arange(model.n_layers)},
        variables=variables,
        provenance=describe(source, encoded, seed=seed) | facts,
        missing=_missing(found, variables),
    )


def _missing(found: Estimate, variables: dict[str, Any]) -> dict[str, str]:
    reasons = {"next_loss": "no token follows another in these prompts"}
    for index, name in enumerate(_NAMES):
        ends = [v for v in (f"{name}_low", f"{name}_high") if v in variables]
        reasons |= too_few(int(found.n_documents[:, index].min()), ends)
    return reasons


def _by_token(
    model: SubjectModel, rows: list[Tensor], tokens: Tensor, counted: Tensor
) -> Float[np.ndarray, "row layer name"]:
    """The numbers of `_NAMES` at every counted token.

    The final distribution is the last layer's, through the model's own collapse and head. The loss
    belongs to the token that predicts; at the last token of a text there is none: NaN.
    """
    follows = torch.zeros_like(counted)
    follows[:, :-1] = counted[:, 1:]
    after = torch.zeros_like(tokens)
    after[:, :-1] = tokens[:, 1:]
    values = lens_reading.read(model, rows, targets=after[counted], want=_NAMES).values
    values[~follows[counted], :, _NAMES.index("next_loss")] = torch.nan
    return values.cpu().numpy()


def table(model: SubjectModel, text: Any, *, top: int = 5, lens: Lens = "raw") -> LensTable:
    """What every layer would say at every token of one prompt.

    Args:
        model: The model.
        text: One prompt.
        top: Tokens kept per cell.
        lens: As in `convergence`.

    Returns:
        By layer and token: the top tokens with log-probabilities (nats), KL(final ‖ layer), entropy, the
        rank the final top-1 has at that layer (0 is first), and how many places it gained since the
        layer before.
    """
    encoded, sites, tuned = encode(model, text), lens_reading.sites(model), _chosen(model, lens)
    if len(encoded) != 1:
        raise InputError(f"A lens table shows one prompt, got {len(encoded)}; call it for each.")
    if not 1 <= top <= model.d_vocab:
        raise InputError(f"top wants to lie in 1 … {model.d_vocab}, got {top}.")
    [(output, seen)] = run_batches(model, encoded, sites)
    every = torch.ones_like(encoded.mask)
    rows = lens_reading.rows(model, tuned, [seen[s] for s in sites], every, encoded=encoded)
    lens_reading.check_answer(model, rows[-1], output[every])
    reading = lens_reading.read(model, rows, want=("kl", "entropy", "final_rank"), top=top)
    kl, entropy, rank = reading.values.movedim(0, -1).movedim(0, 1).cpu().numpy()
    moves = np.full(rank.shape, np.nan)
    moves[1:] = rank[:-1] - rank[1:]
    vocabulary = np.asarray([model.token_text(i) for i in range(model.d_vocab)], dtype=object)
    ids = reading.top_id.movedim(0, 1).cpu().numpy()
    return LensTable.from_arrays(
        coords={"layer": np.arange(model.n_layers)},
        variables={
            "top_id": ids,
            "top_token": vocabulary[ids],
            "top_logprob": reading.top_logprob.movedim(0, 1).cpu().numpy(),
            "kl": kl,
            "entropy": entropy,
            "final_rank": rank.astype(np.int64),
            "rank_move": moves,
            "token_id": encoded.tokens[0].cpu().numpy(),
            "token_text": vocabulary[encoded.tokens[0].cpu().numpy()],
        },
        provenance=describe(model, encoded)
        | {"direction": "KL(final ‖ layer)", "lens": _lens_name(tuned), "readout": _readout_name(model)},
        missing={"rank_move": "the first layer has none before it"},
    )
