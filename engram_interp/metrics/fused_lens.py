"""Divergences of many layers from the final distribution, without every layer's log-probabilities.

With z = W h + b, KL(final ‖ layer) = (h_final − h_layer)·(Wᵀ p_final) + lse_layer − lse_final: the mean
unembedding Wᵀ p_final is made once for all layers, and a layer costs one product and one log-sum-exp, in
tiles of rows through buffers that are used again. The difference is taken before the product, so that a
layer equal to the final one gives exactly 0. Logits are float32 here: the error of a divergence is some
1e-7 of the largest logit.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

ROWS = 256
"""Rows whose logits are held at a time."""

COLUMNS = 2048
"""Token ids whose logits are held at a time where only log-sum-exps are wanted: they stay in the cache."""

NAMES = ("kl", "reverse_kl", "entropy", "next_loss", "agreement")


@torch.no_grad()
def measure(
    final: Float[Tensor, "row d_model"],
    layers: Sequence[Float[Tensor, "row d_model"]],
    weight: Float[Tensor, "d_vocab d_model"],
    *,
    bias: Float[Tensor, " d_vocab"] | None = None,
    targets: Int64[Tensor, " row"] | None = None,
    want: Sequence[str] = ("kl",),
) -> Float[Tensor, "row layer name"]:
    """What is asked of every row and layer, in nats.

    Args:
        final: Residuals after the final norm, of the last layer.
        layers: The same of every layer that is asked for.
        weight: Unembedding.
        bias: Its bias.
        targets: Next tokens, for "next_loss".
        want: Among `NAMES`: KL(final ‖ layer), KL(layer ‖ final), the layer's entropy, its loss on the
            targets, and whether its top token is the final one (0 or 1). Nothing else is worked out.

    Returns:
        float32, names in the order of `want`.
    """
    out = final.new_empty((len(final), len(layers), len(want)), dtype=torch.float32)
    width = len(weight)
    n_buffers = 2 if set(want) == {"kl"} else 3
    buffers = [final.new_empty((min(ROWS, len(final)), width), dtype=torch.float32)]
    buffers += [torch.empty_like(buffers[0]) for _ in range(n_buffers - 1)]
    turned = weight.float().mT
    for start in range(0, len(final), ROWS):
        rows = slice(start, min(start + ROWS, len(final)))
        tile = _Tile(final[rows].float(), turned, bias, [b[: rows.stop - start] for b in buffers])
        for index, layer in enumerate(layers):
            if set(want) == {"kl"}:
                out[rows, index, 0] = 0.0 if layer is final else tile.divergence(layer[rows].float()).float()
                continue
            aim = None if targets is None else targets[rows]
            found = tile.layer(layer[rows].float(), aim, want)
            for place, name in enumerate(want):
                out[rows, index, place] = found[name].float()
    return out


class _Tile:
    """Some rows: the final distribution, its mean unembedding, and buffers for a layer's logits."""

    def __init__(self, final: Tensor, turned: Tensor, bias: Tensor | None, buffers: Sequence[Tensor]) -> None:
        self.final, self.turned, self.bias = final, turned, bias
        self.final_logits, self.mass, self.logits = buffers[0], buffers[1], buffers[-1]
        if len(buffers) == 2:  # KL(final ‖ layer) alone: probabilities take the place of the logits
            self.normaliser = self.piecewise(final, keep=self.final_logits)
            p = self.final_logits.sub_(self.normaliser.float()[:, None]).exp_()
            p.div_(p.sum(-1, keepdim=True))
        else:
            self._product(final, self.final_logits)
            self.best = self.final_logits.argmax(-1)
            self.normaliser, total = self._masses(self.final_logits)
            p = self.mass.div_(total[:, None])
        self.mean = (p @ turned.mT).double()

    def _product(self, rows: Tensor, out: Tensor) -> None:
        torch.mm(rows, self.turned, out=out)
        if self.bias is not None:
            out += self.bias

    def _masses(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-sum-exp (float64) and Σ exp(z − max); the exponentials are left in `mass`."""
        highest = logits.amax(-1, keepdim=True)
        torch.sub(logits, highest, out=self.mass)
        total = self.mass.exp_().sum(-1)
        return highest[:, 0].double() + total.double().log(), total

    def piecewise(self, rows: Tensor, keep: Tensor | None = None) -> Tensor:
        """Log-sum-exp (float64), a piece of the vocabulary at a time; the logits go to `keep`."""
        room, parts = self.mass.view(-1), list[Tensor]()
        for start in range(0, self.turned.shape[1], COLUMNS):
            piece = self.turned[:, start : start + COLUMNS]
            logits = room[: len(rows) * piece.shape[1]].view(len(rows), -1)
            torch.mm(rows, piece, out=logits)
            if self.bias is not None:
                logits += self.bias[start : start + COLUMNS]
            if keep is not None:
                keep[:, start : start + COLUMNS] = logits
            highest = logits.amax(-1, keepdim=True)
            total = logits.sub_(highest).exp_().sum(-1)
            parts.append(highest[:, 0].double() + total.double().log())
        return torch.stack(parts).logsumexp(0)

    def divergence(self, rows: Tensor) -> Tensor:
        """KL(final ‖ layer) alone."""
        apart = (self.final.double() - rows.double()).mul_(self.mean).sum(-1)
        return (apart + self.piecewise(rows) - self.normaliser).clamp_(min=0.0)

    def layer(self, rows: Tensor, targets: Tensor | None, want: Sequence[str]) -> dict[str, Tensor]:
        """The wanted numbers of one layer at these rows."""
        self._product(rows, self.logits)
        found: dict[str, Tensor] = {}
        if "agreement" in want:
            found["agreement"] = self.logits.argmax(-1) == self.best
        if "next_loss" in want and targets is not None:
            own = self.logits.gather(-1, targets[:, None])[:, 0].double()
        normaliser, total = self._masses(self.logits)
        if "next_loss" in want and targets is not None:
            found["next_loss"] = normaliser - own
        if "kl" in want:
            apart = (self.final.double() - rows.double()).mul_(self.mean).sum(-1)
            found["kl"] = (apart + normaliser - self.normaliser).clamp_(min=0.0)
        if "entropy" in want:
            found["entropy"] = normaliser - torch.linalg.vecdot(self.mass, self.logits).double() / total
        if "reverse_kl" in want:
            apart = torch.linalg.vecdot(self.mass, self.logits.sub_(self.final_logits)).double() / total
            found["reverse_kl"] = (apart - normaliser + self.normaliser).clamp_(min=0.0)
        return found
