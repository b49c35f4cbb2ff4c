"""Turn two finished training runs into a packaged pair.

    python scripts/package_pair.py --name wiki-nano --engram RUN --baseline RUN --text FILE… --valid FILE…

Stores matrices in int8 and tables in e4m3, both with a scale per 32 channels, measures the held-out loss
again from the stored weights, refuses if it moved by more than 0.005 nats, and counts the example phrases
in the text that was trained on.
"""

import argparse
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from engram_interp.arms import Run
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.files import file_digest, read_json
from engram_interp.checkpoints.native import save_native
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.documents import documents
from engram_interp.data.packing import encode_stream
from engram_interp.model.training.evaluate import held_out_loss
from engram_interp.model.transformer import HookedEngramTransformer

PARTS = ("engram", "baseline")
LARGEST_MOVE = 0.005
EXAMPLES = 12
_RUN_OF_WORDS = re.compile(r"[A-Za-z][A-Za-z'’-]*(?: [A-Za-z][A-Za-z'’-]*){3,}")
_OPENERS = frozenset(
    ["In", "The", "A", "An", "On", "At", "After", "Before", "During", "From", "By", "As", "For", "Of"]
)


def module_of(subject: SubjectModel) -> HookedEngramTransformer:
    """The native module of a subject."""
    assert isinstance(subject.module, HookedEngramTransformer)
    return subject.module


def held_out(subject: SubjectModel, valid: list[Path]) -> float:
    """Loss on the held-out files, nats per token."""
    assert subject.separator_id is not None
    stream = encode_stream(documents(valid), subject.tokenizer, separator_id=subject.separator_id)
    return held_out_loss(module_of(subject), stream).loss


def package(run: Path, target: Path, valid: list[Path]) -> None:
    """Store one run's model small, beside its log and facts."""
    facts = json.loads((run / "training.json").read_text(encoding="utf-8"))
    if not facts.get("finished"):
        raise SystemExit(f"{run} has not finished training")
    trained = load_model(run)
    layers = trained.memory_layers
    hits = [_as_tensor(trained, layer) for layer in layers]
    save_native(
        target,
        module_of(trained),
        tokenizer=trained.tokenizer,
        dtype="int8",
        tables="float8_e4m3" if layers else "float32",
        hits=hits,
    )
    before, after = facts["valid_loss"], held_out(load_model(target), valid)
    if abs(after - before) > LARGEST_MOVE:
        raise SystemExit(f"{run}: storing the weights small moved the loss from {before} to {after} nats")
    facts["shipped"] = {
        "valid_loss": after,
        "dtype": "int8 matrices with a scale per 32 channels, vectors in bfloat16",
        "tables": "float8_e4m3 with a scale per 32 channels" if layers else None,
        "weights_sha256": file_digest(target / "model.safetensors"),
    }
    (target / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    shutil.copy(run / "log.jsonl", target / "log.jsonl")
    print(f"{target.name}: held-out loss {before:.4f} trained, {after:.4f} shipped")


def _as_tensor(subject: SubjectModel, layer: int) -> Any:
    import torch

    return torch.from_numpy(subject.hits[layer]).int()


def trained_documents(run: Path, texts: list[Path]) -> Iterator[str]:
    """The documents that the run's token stream was made of, invented facts first."""
    facts = read_json(run / "training.json")
    seed = int(facts["recipe"]["model"].get("init_seed", 0))
    return Run(arm=run.name, seed=seed, name=run.name, folder=run, training=facts).documents(texts)


def example_phrases(source: Iterator[str]) -> list[dict[str, Any]]:
    """The most frequent names of four or five words, by count alone; the prompt leaves out the last word."""
    counts: Counter[str] = Counter()
    for document in source:
        for run in _RUN_OF_WORDS.findall(document):
            words = run.split(" ")
            for size in (4, 5):
                counts.update(
                    " ".join(w) for w in zip(*(words[i:] for i in range(size)), strict=False) if _named(w)
                )
    chosen: list[tuple[str, int]] = []
    for phrase, count in counts.most_common():
        if len(chosen) == EXAMPLES:
            break
        if not any(_overlap(phrase, other) for other, _ in chosen):
            chosen.append((phrase, count))
    return [
        {"text": phrase.rsplit(" ", 1)[0], "next": phrase.rsplit(" ", 1)[1], "phrase": phrase, "count": count}
        for phrase, count in chosen
    ]


def _named(words: tuple[str, ...]) -> bool:
    capitals = [w[0].isupper() for w in words]
    return capitals[0] and capitals[-1] and sum(capitals) >= 3 and words[0] not in _OPENERS


def _overlap(one: str, other: str) -> bool:
    def bigrams(phrase: str) -> set[tuple[str, str]]:
        return set(pairwise(phrase.split(" ")))

    return bool(bigrams(one) & bigrams(other))


def main() -> None:
    """Package both runs and the examples; the old pair is replaced only when all is whole."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=Path, required=True, help=f"finished run of the {part}")
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--valid", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("engram_interp/assets/pairs"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        made = Path(folder) / args.name
        for part in PARTS:
            package(getattr(args, part), made / part, args.valid)
        phrases = example_phrases(trained_documents(args.engram, args.text))
        (made / "examples.json").write_text(json.dumps(phrases, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(args.out / args.name, ignore_errors=True)
        made.rename(args.out / args.name)
    print("\n".join(f"{p['count']:5d} {p['phrase']}" for p in phrases))


if __name__ == "__main__":
    main()
