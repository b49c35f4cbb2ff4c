"""What a model predicts on batches of prompts, and its loss on the token that comes."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram_interp.capture.encode import Encoded
from engram_interp.capture.record import run_batches
from engram_interp.checkpoints.subject import SubjectModel


def batches(encoded: Encoded, *, batch_size: int) -> Iterator[tuple[int, Encoded]]:
    """Consecutive prompts, each batch with the number of its first one."""
    for start in range(0, len(encoded), batch_size):
        yield start, encoded.part(slice(start, start + batch_size)).trimmed()


def logits_of(model: SubjectModel, batch: Encoded) -> Float[Tensor, "batch token d_vocab"]:
    """Logits at every position, in the model's own precision, on the CPU."""
    with closing(run_batches(model, batch, [], batch_size=len(batch))) as runs:
        return next(runs)[0].cpu()


def next_loss(
    log_p: Float[Tensor, "batch token d_vocab"], batch: Encoded
) -> Float[Tensor, "batch predicted"]:
    """Loss on the next token at every position but the last, nats; padding is not left out."""
    return -log_p[:, :-1].gather(-1, batch.tokens[:, 1:, None].cpu()).squeeze(-1)


def losses(
    model: SubjectModel, encoded: Encoded, *, batch_size: int = 8
) -> Float[np.ndarray, "batch predicted"]:
    """Loss on every prompt's next tokens at every position but the last, nats; NaN where there is none."""
    found = np.full((len(encoded), encoded.tokens.shape[1] - 1), np.nan)
    for start, batch in batches(encoded, batch_size=batch_size):
        loss = next_loss(logits_of(model, batch).float().log_softmax(-1), batch).double()
        kept = loss.masked_fill(~batch.mask[:, 1:].cpu(), torch.nan).numpy()
        found[start : start + len(batch), : kept.shape[1]] = kept
    return found


def rank(log_p: Float[Tensor, "batch token d_vocab"], batch: Encoded) -> Float[Tensor, "batch predicted"]:
    """How many tokens are likelier than the one that comes, at every position but the last; 0 is first."""
    own = log_p[:, :-1].gather(-1, batch.tokens[:, 1:, None].cpu())
    return (log_p[:, :-1] > own).sum(-1).to(log_p.dtype)


def kl(
    before: Float[Tensor, "batch token d_vocab"], after: Float[Tensor, "batch token d_vocab"]
) -> Float[Tensor, "batch token"]:
    """KL(before ‖ after) of log-probabilities at every position, nats."""
    return (before.exp() * (before - after)).sum(-1)


def moves(
    before: Float[Tensor, "batch token d_vocab"],
    after: Float[Tensor, "batch token d_vocab"],
    batch: Encoded,
) -> Float[Tensor, "batch predicted effect"]:
    """Change of the loss and KL(before ‖ after) at every position but the last, nats, float64.

    Args:
        before: Log-probabilities.
        after: The same, something changed.
        batch: The prompts.
    """
    delta = next_loss(after, batch) - next_loss(before, batch)
    return torch.stack([delta, kl(before, after)[:, :-1]], dim=-1).double()
