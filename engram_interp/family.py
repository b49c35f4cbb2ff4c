"""Train the arms of a comparison: one tokenizer and order of batches for all, resumed where they were cut."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engram_interp.checkpoints.files import load_tokenizer, read_json, save_tokenizer
from engram_interp.data.documents import check_text, documents
from engram_interp.data.text_facts import refuse_other_texts, text_facts
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
    goes on from its last saved step. Runs of other recipes may stand in `out`; they are of the same family.

    Args:
        recipes: The arms, trained in this order; all of one vocabulary, context, invented facts, and number,
            size and order of batches.
        texts: Text files, plain or .xz, documents ended by lines ``<|endoftext|>``.
        out: Folder of the family; run NAME from seed S is in NAME-seedS, the tokenizer of all beside them.
        seeds: Of the initial weights. All arms run from the first seed before any runs from the next. The
            order of the batches is the recipe's own.
        valid: Held-out text files; without any, the last 100,000 tokens are held out.
        tokenizer: A tokenizer.json to use rather than training one on the texts; once `out` has one, that.
        threads: CPU threads, by default torch's.
        device: Where to train (see `train`).
        keep: Models to keep along the way of every run (see `train`), for curves and for comparisons at
            equal loss.
        on_run: Called with the name of every run, before it starts or is found finished.
        on_step: Called after every step.

    Returns:
        The folders, in the order of training.

    Raises:
        InputError: If the recipes disagree in vocabulary or batches, an input is missing or too short, a
            folder is not this run's, a run in `out` has other texts, batches or another tokenizer, or the
            machine has no such device.
    """
    find_device(device)
    runs = [recipe.seeded(seed) for seed in seeds for recipe in recipes]
    _check_recipes(recipes, runs)
    for path in (*texts, *valid):
        check_text(path)
    out = Path(out)
    _check_standing(out, runs[0], text_facts(texts, valid))
    shared = _tokenizer(out, texts, d_vocab=runs[0].d_vocab, given=tokenizer)
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


def _check_recipes(recipes: Sequence[Recipe], runs: Sequence[Recipe]) -> None:
    """Refuse recipes that make no family: of one name, or of different vocabularies or batches."""
    twice = sorted({run.name for run in runs if [r.name for r in runs].count(run.name) > 1})
    vocabularies = sorted({run.d_vocab for run in runs})
    if len(vocabularies) != 1 or twice:
        what = f"{twice[0]} occurs twice" if twice else f"vocabularies of {vocabularies} token ids"
        raise InputError(
            "A family wants recipes of different names and one vocabulary, and seeds that differ; got "
            f"{what}."
        )
    for recipe in recipes[1:]:
        if apart := _apart(recipe.to_dict(), recipes[0].to_dict()):
            raise InputError(
                f"A family trains on the same batches, and {recipe.name} differs from {recipes[0].name} in "
                f"{apart}; make them alike, or train each into a folder of its own."
            )


def _finished(folder: Path, run: Recipe) -> bool:
    mark = folder / "training.json"
    if not mark.is_file():
        return False
    facts = read_json(mark)
    return bool(facts.get("finished")) and facts.get("recipe") == json.loads(json.dumps(run.to_dict()))


def _standing(out: Path) -> list[Path]:
    """The folders in `out` that hold a run, begun or finished."""
    return [mark.parent for mark in sorted(out.glob("*-seed*/training.json"))]


def _check_standing(out: Path, run: Recipe, told: Mapping[str, Any]) -> None:
    """Refuse to train beside runs of other texts or batches: whoever compares them compares these too."""
    for folder in _standing(out):
        recorded = read_json(folder / "training.json")
        refuse_other_texts(folder, recorded, told)
        recipe = recorded.get("recipe")
        if isinstance(recipe, dict) and (apart := _apart(run.to_dict(), recipe)):
            raise InputError(
                f"{folder} takes other batches: {run.name} differs from it in {apart}; make them alike, or "
                "give a new --out."
            )


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """In what two recipes' batches differ; empty where they are the same on the same text."""
    mine, theirs = _batches(one), _batches(other)
    return ", ".join(
        f"{name} ({mine[name]}, not {theirs[name]})" for name in mine if mine[name] != theirs[name]
    )


def _batches(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the batches and their order beside text and tokenizer, as a recipe file names it."""
    schedule, model = recipe.get("schedule", {}), recipe.get("model", {})
    decides = {f"schedule.{name}": schedule.get(name) for name in ("tokens", "batch", "seed")}
    return decides | {"model.n_ctx": model.get("n_ctx"), "fiction": recipe.get("fiction")}


def _tokenizer(out: Path, texts: Sequence[str | Path], *, d_vocab: int, given: str | Path | None) -> Path:
    """The family's tokenizer.json, made on the first call.

    Raises:
        InputError: If another one is given, or a run in `out` has another one.
    """
    kept = out / "tokenizer.json"
    if kept.is_file() or given is not None:
        vocabulary = load_tokenizer(kept if kept.is_file() else Path(str(given)))
    else:
        vocabulary = train_tokenizer(documents(texts), d_vocab=d_vocab)
    own = [path for folder in _standing(out) if (path := folder / "tokenizer.json").is_file()]
    for other in (*([] if given is None else [given]), *own):
        if load_tokenizer(other).to_str() != vocabulary.to_str():
            raise InputError(
                f"{other} is another tokenizer than that of the family in {out}; leave --tokenizer out, or "
                "give a new --out."
            )
    if not kept.is_file():
        out.mkdir(parents=True, exist_ok=True)
        save_tokenizer(kept, vocabulary)
    return kept
