"""What capturing costs over the bare forward pass, on the bundled model.

    python -m benchmarks.capture [PROMPTS]

Residuals of all layers and all gates of the packaged passages, 16 at a time, in float32, go to a fresh
directory (shards written, synced, checksummed and listed); the bare pass makes the logits of the same
batches and drops them. A capture stops at the last wanted site and so saves the unembedding: the second
ratio is to a bare pass that stops there too, which is the stricter measure.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.timing import Ratio, paired
from engram_interp import pairs
from engram_interp.capture import encode, store
from engram_interp.checkpoints import SubjectModel
from engram_interp.data import prompts
from engram_interp.model.transformer import HookedEngramTransformer

SITES = ("blocks.*.hook_resid_post", "blocks.*.engram.hook_gate")
BATCH = 16


def bare(run: Callable[[Tensor, Tensor], Tensor], model: SubjectModel, ids: list[list[int]]) -> None:
    """The forward pass alone."""
    encoded = encode(model, ids)
    with torch.inference_mode():
        for start in range(0, len(encoded), BATCH):
            rows = slice(start, start + BATCH)
            run(encoded.tokens[rows], encoded.mask[rows])


def captured(model: SubjectModel, ids: list[list[int]], folder: Path) -> None:
    """The same, with sites going to the disk."""
    store.capture(model, ids, sites=SITES, out=Path(tempfile.mkdtemp(dir=folder)) / "c", batch_size=BATCH)


def main(count: int) -> dict[str, Ratio]:
    """Measure, print, and return the ratios."""
    model = pairs.load("wiki-nano").engram
    encoded = encode(model, prompts.load("entities").head(count))
    ids = [row[mask].tolist() for row, mask in zip(encoded.tokens, encoded.mask, strict=True)]
    module = model.module
    assert isinstance(module, HookedEngramTransformer)
    passes = {"forward pass": model.logits, "pass without the unembedding": module.resid_final}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, run in passes.items():
            alone = partial(bare, run, model, ids)
            found[name] = paired(lambda: captured(model, ids, Path(folder)), alone, repeats=7)
    print(f"{len(ids)} prompts, {sum(map(len, ids)):,} tokens, {torch.get_num_threads()} threads")
    for name, ratio in found.items():
        print(f"capture of residuals and gates / bare {name}: {ratio}")
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 120)
