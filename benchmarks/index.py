"""An index of tens of millions of tokens: seconds to build, peak memory, and milliseconds a question.

    python -m benchmarks.index FILE... [--model wiki-nano] [--out DIR]

Questions are about rows and n-grams that the text reads, drawn with a seed; the files were just written, so
the operating system may still hold them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import max_rss, seconds
from engram_interp import slots
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.documents import documents
from engram_interp.slots_index import SlotIndex

QUESTIONS = 300


def milliseconds(ask: Callable[[int], object]) -> str:
    """Median and 95 % quantile of the questions' times: by the clock, and of computing alone."""
    clock, computing = [], []
    for number in range(QUESTIONS):
        start = time.thread_time()
        clock.append(1000 * seconds(partial(ask, number)))
        computing.append(1000 * (time.thread_time() - start))
    (middle, late), (own, own_late) = (np.quantile(times, (0.5, 0.95)) for times in (clock, computing))
    return f"median {middle:.2f} ms, 95 % {late:.2f}; of computing {own:.2f} and {own_late:.2f}"


def questions(model: SubjectModel, index: SlotIndex) -> dict[str, str]:
    """Times to answer who lives in a row, bare and as a result, and who collides with an n-gram."""
    layout, rng = index.ngrams.layout, np.random.default_rng(0)
    layers = rng.integers(len(layout.layer_ids), size=QUESTIONS)
    rows = [int(rng.integers(layout.rows[place])) for place in layers]
    numbers = rng.integers(len(index.ngrams.keys(3)), size=QUESTIONS)
    assert model.token_map is not None
    first = {int(c): i for i, c in reversed(list(enumerate(model.token_map)))}
    grams = [[first[c] for c in ids] for ids in index.ngrams.ids(3, numbers).tolist()]
    heads = rng.integers(layout.heads, size=QUESTIONS)

    def bare(i: int) -> Any:
        layer, head = layout.layer_ids[layers[i]], int(heads[i])
        row = rows[i] % int(layout.primes[layers[i], 1, head])
        found = index.ngrams.living_in(layer, 3, head, row=row)
        return index.ngrams.counts(3)[found]

    def told(i: int) -> Any:
        return slots.occupants(model, index, layer=layout.layer_ids[layers[i]], address=rows[i])

    def met(i: int) -> Any:
        return slots.colliders(model, index, grams[i], layer=layout.layer_ids[layers[i]])

    return {
        "a row": milliseconds(bare),
        "a row, as a result": milliseconds(told),
        "colliders": milliseconds(met),
    }


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", default="wiki-nano")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = load_model(args.model)
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder) / "index"
        before, wall, computing = max_rss(), time.perf_counter(), time.process_time()
        index = slots.index(model, documents(args.files), out=out)
        wall, computing = time.perf_counter() - wall, time.process_time() - computing
        size = sum(path.stat().st_size for path in out.iterdir())
        print(f"{index.facts['tokens']:,} tokens, {index.facts['documents']:,} documents, {args.model}")
        print(f"built in {wall:.0f} s ({computing:.0f} s of computing), {size / 1e6:.0f} MB on disk")
        print(f"peak memory {max_rss() / 1e6:.0f} MB, of which {before / 1e6:.0f} before")
        for name, said in questions(model, index).items():
            print(f"{name}: {said}")
        start = time.perf_counter()
        print(slots.load(model, index).summary(), f"({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
