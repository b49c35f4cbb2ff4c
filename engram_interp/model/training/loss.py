"""Next-token loss without ever holding the logits of a whole batch."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_ROWS = 512
"""Rows of logits held at a time: at 4,096 token ids that is 8 MB, which stays in the cache."""


class _TiledCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``hidden @ unembedᵀ``; gradients are formed tile by tile going forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, unembed: Tensor, targets: Tensor) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float64)
        grad_hidden, grad_unembed = torch.empty_like(hidden), torch.zeros_like(unembed)
        if torch.is_autocast_enabled(hidden.device.type):
            dtype = torch.get_autocast_dtype(hidden.device.type)
            hidden, unembed = hidden.to(dtype), unembed.to(dtype)
        for start in range(0, len(hidden), _ROWS):
            rows = slice(start, start + _ROWS)
            logits = (hidden[rows] @ unembed.mT).to(grad_hidden.dtype)
            logits -= logits.amax(-1, keepdim=True)
            right = logits.gather(-1, targets[rows, None]).squeeze(-1)
            logits.exp_()
            mass = logits.sum(-1)
            total += (mass.log() - right).sum(dtype=torch.float64)
            logits /= mass[:, None]
            logits.scatter_add_(-1, targets[rows, None], -torch.ones_like(mass)[:, None])
            logits /= len(hidden)
            logits = logits.to(hidden.dtype)
            grad_hidden[rows] = logits @ unembed
            grad_unembed += logits.mT @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_unembed)
        return (total / len(hidden)).to(grad_hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_unembed = ctx.saved_tensors
        return grads[0] * grad_hidden, grads[0] * grad_unembed, None


def tiled_cross_entropy(
    hidden: Float[Tensor, "row d_model"],
    unembed: Float[Tensor, "d_vocab d_model"],
    targets: Int64[Tensor, " row"],
) -> Float[Tensor, ""]:
    """Mean of ``-log softmax(hidden @ unembedᵀ)[target]`` over the rows, nats.

    Equals `torch.nn.functional.cross_entropy` of the full logits to float32 rounding, without storing
    rows × d_vocab of them: on CPU that traffic costs more than the arithmetic. Under autocast the three
    products run in its precision, everything between them in the hidden states' own.
    """
    loss: Tensor = _TiledCrossEntropy.apply(hidden, unembed, targets)  # type: ignore[no-untyped-call]
    return loss
