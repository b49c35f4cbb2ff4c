"""The fused lens against its bound, the product with the unembedding alone, and against log-softmax.

    python -m benchmarks.lens [ROWS]

The rival is the usual chunked logit lens: accumulated residuals, final norm, unembedding, log-softmax of
the layer and of the final logits, chunk by chunk of tokens, the final one made once a chunk.
"""

import sys
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import paired, peak_memory
from engram_interp.metrics import fused_lens

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


def inputs(rows: int) -> tuple[Tensor, list[Tensor]]:
    """An unembedding and the normalised residuals of every layer."""
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
def log_softmax(weight: Tensor, layers: list[Tensor]) -> Tensor:
    """KL(final ‖ layer) [layer, row] by chunks of tokens."""
    found = []
    for parts in zip(*(layer.split(CHUNK) for layer in layers), strict=True):
        log_p = (parts[-1] @ weight.mT).log_softmax(-1)
        p = log_p.exp()
        found.append(torch.stack([(p * (log_p - (h @ weight.mT).log_softmax(-1))).sum(-1) for h in parts]))
    return torch.cat(found, dim=1)


def main(rows: int) -> dict[str, Any]:
    """Measure, print, and return the numbers."""
    memory = peak_memory(MEMORY, rows) / 1e6  # first: a process starts from its parent's peak
    weight, layers = inputs(rows)

    def fused() -> Tensor:
        return fused_lens.measure(layers[-1], layers, weight)[..., 0].mT

    error = float((fused() - log_softmax(weight, layers)).abs().max())
    bound = paired(fused, lambda: products(weight, layers), repeats=3)
    rival = paired(fused, lambda: log_softmax(weight, layers), repeats=3)
    print(f"{LAYERS} layers x {rows:,} tokens x {VOCABULARY:,} ids, {torch.get_num_threads()} threads")
    print(f"against the products alone: {bound}\nagainst chunked log-softmax: {rival}")
    print(f"largest difference {error:.1e} nats; {memory:.0f} MB beyond the inputs")
    return {"bound": bound, "rival": rival, "memory_mb": memory}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4096)
