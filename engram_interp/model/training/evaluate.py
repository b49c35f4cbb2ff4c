"""Held-out loss, and how the gates stand, of a model on a token stream."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt32

from engram_interp.data.packing import consecutive
from engram_interp.errors import InputError
from engram_interp.model.transformer import HookedEngramTransformer


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Loss on held-out text.

    Attributes:
        loss: Mean next-token loss, nats per token.
        tokens: Tokens predicted.
        per_window: Mean loss of every window, nats per token.
        per_token: Loss of every token predicted, in text order, nats.
    """

    loss: float
    tokens: int
    per_window: Float[np.ndarray, " window"]
    per_token: Float[np.ndarray, "window token"]


@torch.inference_mode()
def held_out_loss(
    model: HookedEngramTransformer,
    stream: UInt32[np.ndarray, " token"],
    *,
    batch: int = 16,
    windows: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> HeldOut:
    """Mean next-token loss over consecutive windows of the model's context, each token once.

    Args:
        model: The model.
        stream: Held-out token ids, every document opened by the separator.
        batch: Windows at a time.
        windows: Only the first so many; None for all. A tail shorter than a window is left out.
        progress: Called with the number of windows done.

    Raises:
        InputError: If the stream is shorter than one window.
    """
    length = model.cfg.n_ctx
    if len(stream) <= length:
        raise InputError(
            f"Held-out text wants at least {length + 1} tokens (one window and the token after it), got "
            f"{len(stream)}; give more of it."
        )
    training = model.training
    model.eval()
    stream = stream if windows is None else stream[: windows * length + 1]
    losses: list[np.ndarray] = []
    for ids in consecutive(stream, length=length, batch=batch):
        tokens = torch.from_numpy(ids)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].to(model.embed.weight.device)
        log_p = model(inputs).log_softmax(-1)
        picked = -log_p.gather(-1, targets[..., None]).squeeze(-1)
        losses.append(picked.double().cpu().numpy())
        if progress is not None:
            progress(sum(map(len, losses)))
    model.train(training)
    per_token = np.concatenate(losses)
    per_window = per_token.mean(1)
    return HeldOut(
        loss=float(per_window.mean()), tokens=per_token.size, per_window=per_window, per_token=per_token
    )


def loss_by_group(
    found: HeldOut, groups: Int64[np.ndarray, " token"], *, count: int
) -> list[tuple[int, float]]:
    """Tokens and mean loss of every group.

    Args:
        found: Losses of consecutive windows.
        groups: The group of the context that ends at each token of the held-out stream, from 0; -1 for none.
        count: Groups in all.

    Returns:
        By group, the tokens predicted from its contexts and their mean loss in nats; NaN without tokens.
    """
    losses = found.per_token.ravel()
    group = groups[: len(losses)]
    return [
        (int((group == g).sum()), float(losses[group == g].mean()) if (group == g).any() else float("nan"))
        for g in range(count)
    ]


@torch.inference_mode()
def gate_summary(
    model: HookedEngramTransformer, stream: UInt32[np.ndarray, " token"], *, windows: int = 8
) -> dict[str, list[list[float]]]:
    """Mean and standard deviation of every gate on a few held-out windows, `[layer][stream]`."""
    if not model.cfg.memory_layers:
        return {}
    length = model.cfg.n_ctx
    ids = next(consecutive(stream[: windows * length + 1], length=length, batch=windows))
    names = [f"blocks.{i}.engram.hook_gate" for i in model.cfg.memory_layers]
    training = model.training
    model.eval()  # in training mode the experts would count these tokens as load
    _, cache = model.run_with_cache(torch.from_numpy(ids[:, :-1]), names_filter=names)
    model.train(training)
    gates = [cache[name].flatten(0, 1) for name in names]
    return {"mean": [g.mean(0).tolist() for g in gates], "sd": [g.std(0).tolist() for g in gates]}
