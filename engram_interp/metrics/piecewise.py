"""Log-sum-exp and expectations over a vocabulary that comes piece by piece."""

import torch
from jaxtyping import Float
from torch import Tensor


class Sums:
    """Sums over the vocabulary, piece by piece, each in units of its own piece's highest probability.

    Their places are made at the start: small tensors that outlive a piece, between the large ones that do
    not, would leave the heap in holes.
    """

    def __init__(self, n_pieces: int, like: Float[Tensor, " row"]) -> None:
        self.highest, self.totals = like.new_zeros((2, n_pieces, len(like)), dtype=torch.float64)

    def add(self, number: int, logits: Tensor, *, out: Tensor) -> Float[Tensor, "row column"]:
        """Take a piece in; returns exp(logits − the highest of the piece)."""
        highest = logits.amax(-1, keepdim=True)
        mass = torch.sub(logits, highest, out=out).exp_()
        self.highest[number], self.totals[number] = highest[:, 0], mass.sum(-1)
        return mass

    def logarithm(self) -> Float[Tensor, " row"]:
        """Ln Σ exp(logits)."""
        whole: Tensor = (self.highest + self.totals.log()).logsumexp(0)
        return whole

    def mean(self, parts: Float[Tensor, "piece row"]) -> Float[Tensor, " row"]:
        """An expectation, from Σ mass · value of every piece."""
        value: Tensor = ((self.highest - self.logarithm()).exp() * parts).sum(0)
        return value
