"""Training steps by size of the tables: row-sparse updates make 100 MB cost what 1 MB costs.

    python -m benchmarks.sparse_rows [--megabytes 1 10 100] [--rounds 15] [--steps 3] [--threads N]

One small model a size, alike but for the rows of its tables, trained on the same made-up batches by the
package's own loop. Rounds visit all sizes in turn, forwards and backwards alternately, so that what else
the machine does falls on all of them; a ratio is taken inside a round.
"""

import argparse
import statistics
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
import torch

from benchmarks.timing import seconds
from engram_interp.data.packing import Windows
from engram_interp.memory.compression import identity_map
from engram_interp.memory.config import EngramConfig
from engram_interp.model.config import ModelConfig
from engram_interp.model.training.loop import Progress, Trainer
from engram_interp.model.training.recipe import Schedule
from engram_interp.model.transformer import HookedEngramTransformer

D_VOCAB, LENGTH, BATCH = 4096, 256, 8
LAYERS, ORDERS, HEADS, D_ROW = (1, 3), 2, 4, 32


def training(megabytes: float) -> Iterator[Progress]:
    """A model in training whose tables take so many MB; every `next` is a step."""
    rows = round(megabytes * 1e6 / (4 * D_ROW * len(LAYERS) * ORDERS * HEADS))
    memory = EngramConfig(layer_ids=LAYERS, max_order=ORDERS + 1, heads=HEADS, d_row=D_ROW, rows=rows)
    cfg = ModelConfig(
        d_vocab=D_VOCAB, n_ctx=LENGTH, n_layers=4, d_model=192, n_heads=6, d_mlp=384, engram=memory
    )
    model = HookedEngramTransformer(cfg, token_map=identity_map(D_VOCAB)[0])
    # Zipf's law, as in text: some n-grams come again and again.
    drawn = np.random.default_rng(0).zipf(1.2, size=400 * BATCH * LENGTH) % D_VOCAB
    windows = Windows(stream=drawn.astype(np.uint32), length=LENGTH, batch=BATCH, seed=0)
    tokens = (windows.steps_per_epoch - 1) * BATCH * LENGTH
    schedule = Schedule(tokens=tokens, batch=BATCH, evaluate_every=1 << 30)
    return Trainer(model, windows, schedule).run(save=lambda: None, save_every_seconds=float("inf"))


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", nargs="+", type=float, default=[1, 10, 100])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    runs = [training(size) for size in args.megabytes]
    for run in runs:
        for _ in range(2):
            next(run)  # the first step evaluates, the second still warms up
    times: list[list[float]] = [[] for _ in runs]
    for number in range(args.rounds):
        order = range(len(runs)) if number % 2 else range(len(runs) - 1, -1, -1)
        for place in order:
            spent = seconds(partial(deque, islice(runs[place], args.steps), maxlen=0))
            times[place].append(spent / args.steps)
    for size, each in zip(args.megabytes, times, strict=True):
        ratios = sorted(a / b for a, b in zip(each, times[0], strict=True))
        quarter = len(ratios) // 4
        print(
            f"{size:g} MB of tables: {1e3 * statistics.median(each):.0f} ms a step, "
            f"{statistics.median(ratios):.2f} of that with {args.megabytes[0]:g} MB (middle half of "
            f"{args.rounds} rounds {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f})"
        )


if __name__ == "__main__":
    main()
