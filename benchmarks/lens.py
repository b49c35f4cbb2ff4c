"""The fused lens against its bound, the product with the unembedding alone, and against TransformerLens.

    python -m benchmarks.lens [ROWS [REPEATS]]

The rival is the logit lens as TransformerLens describes it (`ActivationCache.accumulated_resid`): the
accumulated residuals through `apply_ln_to_stack`, the unembedding and log-softmax, chunk by chunk of
tokens, the final distribution once a chunk. Both start from the residuals before the final norm.
"""

import sys
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens import ActivationCache

from benchmarks.timing import paired, peak_memory
from engram_interp.metrics import fused_lens
from engram_interp.model.norm import RMSNormPre

LAYERS, WIDTH, VOCABULARY, CHUNK = 12, 768, 32_768, 256

MEMORY = """
import torch
from benchmarks import lens
from engram_interp.metrics import fused_lens
def prepare(rows):
    weight, layers = lens.inputs(int(rows))
    fused_lens.measure(layers[-1][:1], [layers[-1][:1]], weight[:64])
    return weight, layers
def run(inputs):
    weight, layers = inputs
    fused_lens.measure(layers[-1], layers, weight)
"""


class Peer(nn.Module):
    """What TransformerLens's lens asks of a model: its final norm and its unembedding."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.cfg = SimpleNamespace(n_layers=LAYERS, normalization_type="RMSPre", d_model=WIDTH)
        self.ln_final = RMSNormPre(1e-5)
        self.W_U, self.b_U = weight.mT, weight.new_zeros(len(weight))


def inputs(rows: int) -> tuple[Tensor, list[Tensor]]:
    """An unembedding and the residuals of every layer."""
    make = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCABULARY, WIDTH, generator=make).div_(WIDTH**0.5)
    return weight, [torch.randn(rows, WIDTH, generator=make) for _ in range(LAYERS)]


@torch.no_grad()
def products(weight: Tensor, layers: list[Tensor]) -> None:
    """The bound: every layer's logits, kept nowhere."""
    turned = weight.mT
    out = weight.new_empty((CHUNK, VOCABULARY))
    for layer in layers:
        for part in layer.split(CHUNK):
            torch.mm(part, turned, out=out[: len(part)])


@torch.no_grad()
def fused(peer: Peer, weight: Tensor, layers: list[Tensor]) -> Tensor:
    """KL(final ‖ layer) [layer, row] by the fused form."""
    normed = [peer.ln_final(h) for h in layers]
    return fused_lens.measure(normed[-1], normed, weight)[..., 0].mT


@torch.no_grad()
def transformer_lens(peer: Peer, layers: list[Tensor]) -> Tensor:
    """KL(final ‖ layer) [layer, row] by TransformerLens's recipe."""
    before = [layers[0], *layers[:-1]]  # what goes into the first block is not asked for
    kept = {f"blocks.{n}.hook_resid_pre": h[None] for n, h in enumerate(before)}
    kept[f"blocks.{LAYERS - 1}.hook_resid_post"] = layers[-1][None]
    cache, found = ActivationCache(kept, peer), []
    for start in range(0, len(layers[0]), CHUNK):
        every = cache.accumulated_resid(pos_slice=(start, start + CHUNK))
        assert isinstance(every, Tensor)
        stack = cache.apply_ln_to_stack(every[1:], recompute_ln=True)
        log_p = (stack[-1, 0] @ peer.W_U + peer.b_U).log_softmax(-1)
        p = log_p.exp()
        log_q = ((h @ peer.W_U + peer.b_U).log_softmax(-1) for h in stack[:, 0])
        found.append(torch.stack([(p * (log_p - q)).sum(-1) for q in log_q]))
    return torch.cat(found, dim=1)


def main(rows: int, repeats: int) -> dict[str, Any]:
    """Measure, print, and return the numbers."""
    memory = peak_memory(MEMORY, rows) / 1e6  # first: a process starts from its parent's peak
    weight, layers = inputs(rows)
    peer = Peer(weight)

    def ours() -> Tensor:
        return fused(peer, weight, layers)

    error = float((ours() - transformer_lens(peer, layers)).abs().max())
    bound = paired(ours, lambda: products(weight, layers), repeats=repeats)
    rival = paired(ours, lambda: transformer_lens(peer, layers), repeats=repeats)
    print(f"{LAYERS} layers x {rows:,} tokens x {VOCABULARY:,} ids, {torch.get_num_threads()} threads")
    print(f"against the products alone: {bound}\nagainst TransformerLens: {rival}")
    print(f"largest difference {error:.1e} nats; {memory:.0f} MB beyond the inputs")
    return {"bound": bound, "rival": rival, "memory_mb": memory}


if __name__ == "__main__":
    given = [int(a) for a in sys.argv[1:]]
    main(*(given + [4096, 5][len(given) :]))
