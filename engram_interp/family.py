"""Train the arms of a comparison: one tokenizer and order of batches for all, resumed where they were cut."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from engram_interp.checkpoints.files import load_tokenizer, read_json, save_tokenizer
from engram_interp.data.documents import check_text, documents
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import InputError
from engram_interp.model.training.device import find_device
from engram_interp.model.training.loop import Progress
from engram_interp.model.training.recipe import Recipe
from engram_interp.training import train

__all__ = ["train_family"]


def train_family(
    recipes: Sequence[Recipe],
    texts: Sequence[str | Path],
    *,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    valid: Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    threads: int | None = None,
    device: str = "cpu",
    keep: int = 10,
    on_run: Callable[[str], None] = lambda _: None,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> list[Path]:
    """Train every recipe from every seed's initial weights, one after the other, into folders of `out`.

    Call it again with the same arguments after an interruption: finished runs stand, the one that was cut
    goes on from its last saved step.

    Args:
        recipes: The arms, trained in this order; all of one vocabulary.
        texts: Text files, plain or .xz, documents ended by lines ``<|endoftext|>``.
        out: Folder of the family; run NAME from seed S is in NAME-seedS, the tokenizer of all beside them.
        seeds: Of the initial weights. All arms run from the first seed before any runs from the next. The
            order of the batches is the recipe's own.
        valid: Held-out text files; without any, the last 100,000 tokens are held out.
        tokenizer: A tokenizer.json to use rather than training one on the texts.
        threads: CPU threads, by default torch's.
        device: Where to train (see `train`).
        keep: Models to keep along the way of every run (see `train`), for curves and for comparisons at
            equal loss.
        on_run: Called with the name of every run, before it starts or is found finished.
        on_step: Called after every step.

    Returns:
        The folders, in the order of training.

    Raises:
        InputError: If the recipes disagree in vocabulary, an input is missing or too short, a folder is not
            this run's, or the machine has no such device.
    """
    find_device(device)
    runs = [recipe.seeded(seed) for seed in seeds for recipe in recipes]
    twice = sorted({run.name for run in runs if [r.name for r in runs].count(run.name) > 1})
    vocabularies = sorted({run.d_vocab for run in runs})
    if len(vocabularies) != 1 or twice:
        what = f"{twice[0]} occurs twice" if twice else f"vocabularies of {vocabularies} token ids"
        raise InputError(
            "A family wants recipes of different names and one vocabulary, and seeds that differ; got "
            f"{what}."
        )
    for path in (*texts, *valid):
        check_text(path)
    out = Path(out)
    shared = _tokenizer(out, texts, d_vocab=vocabularies[0], given=tokenizer)
    folders = []
    for run in runs:
        folder = out / run.name
        on_run(run.name)
        if not _finished(folder, run):
            train(
                run,
                texts,
                out=folder,
                valid=valid,
                tokenizer=shared,
                resume=folder.exists(),
                threads=threads,
                device=device,
                keep=keep,
                on_step=on_step,
            )
        folders.append(folder)
    return folders


def _finished(folder: Path, run: Recipe) -> bool:
    mark = folder / "training.json"
    if not mark.is_file():
        return False
    facts = read_json(mark)
    return bool(facts.get("finished")) and facts.get("recipe") == json.loads(json.dumps(run.to_dict()))


def _tokenizer(out: Path, texts: Sequence[str | Path], *, d_vocab: int, given: str | Path | None) -> Path:
    """The family's tokenizer.json, made on the first call."""
    kept = out / "tokenizer.json"
    if not kept.is_file():
        vocabulary = (
            train_tokenizer(documents(texts), d_vocab=d_vocab) if given is None else load_tokenizer(given)
        )
        out.mkdir(parents=True, exist_ok=True)
        save_tokenizer(kept, vocabulary)
    return kept
