"""Count the n-grams of the packaged texts in the text that a model was trained on.

    python scripts/count_ngrams.py --name wiki-nano --text wiki_train_00.txt.xz
    python scripts/count_ngrams.py --model runs/nano-engram-seed0 --text wiki_train_00.txt.xz

Goes through the training windows once more, as the run did, and counts every n-gram that training read.
Refuses where the rows' hits that come of it are not exactly those that the run recorded. What is written
beside the weights are the counts of single tokens, and of the n-grams in the packaged passages, probes
and example phrases.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engram_interp import pairs
from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.windows import lagged
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.files import read_json
from engram_interp.checkpoints.native import map_digest
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data import fiction, probes, prompts
from engram_interp.data.documents import documents, text_digest
from engram_interp.data.packing import Windows, encode_stream
from engram_interp.memory import counts as ngram_counts
from engram_interp.memory import hashing
from engram_interp.model.training.recipe import Schedule

_TAIL = 200_000
"""Tokens beyond the schedule's that training encodes (it holds 100,000 of them out where no text is)."""


def windows_of(model: SubjectModel, facts: dict[str, Any], texts: list[Path]) -> tuple[Windows, int]:
    """The run's windows, and how many steps it took."""
    if text_digest(texts) != facts["text_sha256"]:
        raise SystemExit("this is not the text that the model was trained on")
    seed = facts["recipe"].get("fiction")
    invented = () if seed is None else fiction.documents(seed)
    schedule = Schedule(**facts["recipe"]["schedule"])
    assert model.separator_id is not None and model.n_ctx is not None
    stream = encode_stream(
        chain(invented, documents(texts)),
        model.tokenizer,
        separator_id=model.separator_id,
        limit=schedule.tokens + _TAIL,
    )[: facts["stream_tokens"]]
    if len(stream) != facts["stream_tokens"]:
        raise SystemExit(f"the text gives {len(stream)} tokens, the run had {facts['stream_tokens']}")
    made = Windows(stream=stream, length=model.n_ctx, batch=schedule.batch, seed=schedule.seed)
    return made, schedule.tokens // (made.batch * made.length)


def packaged(model: SubjectModel, name: str) -> Iterator[Encoded]:
    """All texts that come with the package, each with the choices that follow a probe."""
    yield encode(model, prompts.load("entities"))
    for kind in probes.KINDS:
        for probe in probes.load(kind).probes:
            openings = [probe.prompt, *([probe.bare] if probe.bare else [])]
            yield encode(model, [*openings, *(f"{probe.prompt} {c}" for c in probe.choices)])
    yield encode(model, [text for one in pairs.examples(name) for text in (one["text"], one["phrase"])])


def wanted(model: SubjectModel, name: str) -> dict[int, np.ndarray]:
    """Distinct n-grams of these texts by order, and every single id."""
    assert model.layout is not None and model.token_map is not None
    found: dict[int, list[np.ndarray]] = {n: [] for n in range(2, model.layout.max_order + 1)}
    for encoded in packaged(model, name):
        seen = lagged(model, encoded.tokens, encoded.mask).flip(0).numpy()
        for order, parts in found.items():
            parts.append(ngram_counts.distinct(seen[-order:].reshape(order, -1).T))
    every = {order: np.unique(np.concatenate(parts), axis=0) for order, parts in found.items()}
    return {1: np.arange(int(model.token_map.max()) + 1)[:, None], **every}


def counted(
    model: SubjectModel, windows: Windows, steps: int, asked: dict[int, np.ndarray]
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Keys and counts of the n-grams asked for over all windows that training took."""
    assert model.layout is not None and model.token_map is not None
    n_ids = int(model.token_map.max()) + 1
    keys, counts = ngram_counts.tally(asked, n_ids=n_ids)
    hits = [np.zeros(int(rows), np.int64) for rows in model.layout.rows]
    pad = int(model.token_map[0])
    for step in range(steps):
        inputs = torch.from_numpy(windows.at(step)[:, :-1])
        seen = lagged(model, inputs).flip(0).numpy()
        for order in keys:
            ids = seen[-order:].reshape(order, -1).T
            whole = ids[(ids >= 0).all(1)]
            ngram_counts.add(counts[order], keys[order], ngram_counts.keys_of(whole, n_ids=n_ids))
        segments = hashing.segments(inputs, separator_id=model.separator_id, boundary=model.boundary)
        canonical = torch.from_numpy(model.token_map)[inputs]
        rows = hashing.addresses(canonical, model.layout, pad_id=pad, segment_ids=segments)
        for place, total in enumerate(hits):
            hits[place] = total + np.bincount(rows[:, :, place].flatten().numpy(), minlength=len(total))
    for layer, total in zip(model.memory_layers, hits, strict=True):
        if not np.array_equal(total, model.hits[layer]):
            raise SystemExit(f"layer {layer}: the rows' hits are not those that the run recorded")
    return keys, counts


def main() -> None:
    """Count and write beside the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="wiki-nano", help="packaged pair; its example phrases are counted")
    parser.add_argument("--model", type=Path, help="a trained model to count for in place of the pair's")
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    folder = pairs.folder(args.name) / "engram" if args.model is None else args.model
    model, facts = load_model(folder), read_json(folder / "training.json")
    assert model.folder is not None and model.token_map is not None
    windows, steps = windows_of(model, facts, args.text)
    keys, counts = counted(model, windows, steps, wanted(model, args.name))
    tokens = steps * windows.batch * windows.length
    said = {
        "tokens": tokens,
        "source": f"reads in training: n-grams whole in their document and window, over {tokens:,} tokens",
        "text_files": facts["text_files"],
        "text_sha256": facts["text_sha256"],
        "token_map_sha256": map_digest(model.token_map),
        "covers": "packaged passages, probes with their choices, example phrases; all single tokens",
        "made_by": "scripts/count_ngrams.py",
    }
    path = model.folder / ngram_counts.FILE
    ngram_counts.write(path, keys, counts, n_ids=int(model.token_map.max()) + 1, facts=said)
    print(json.dumps({**said, "bytes": path.stat().st_size}, indent=1))
    for order, key in keys.items():
        print(f"order {order}: {len(key):,} n-grams, {int((counts[order] == 0).sum()):,} of them never read")


if __name__ == "__main__":
    main()
