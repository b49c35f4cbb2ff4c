"""Train a model from a recipe and texts, resumably, with everything needed to say how it was made."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

import engram_interp
from engram_interp.checkpoints.files import load_tokenizer, read_json
from engram_interp.checkpoints.native import save_native
from engram_interp.data.documents import SEPARATOR, check_text, documents, text_digest
from engram_interp.data.packing import Windows, encode_stream
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.model.training.evaluate import held_out_loss
from engram_interp.model.training.loop import Progress, Trainer
from engram_interp.model.training.recipe import Recipe
from engram_interp.model.transformer import HookedEngramTransformer

_MARK = "training.json"
_HELD_OUT_TOKENS = 100_000


def packaged_recipes() -> dict[str, Path]:
    """Names and paths of the recipes that come with the package."""
    folder = Path(str(files("engram_interp") / "assets" / "recipes"))
    return {p.stem: p for p in sorted(folder.glob("*.toml"))}


def find_recipe(name_or_path: str | Path) -> Recipe:
    """A packaged recipe by name, or any recipe file by path.

    Raises:
        InputError: If there is neither; the message lists the packaged ones.
    """
    packaged = packaged_recipes()
    if str(name_or_path) in packaged:
        return Recipe.load(packaged[str(name_or_path)])
    if not Path(name_or_path).is_file():
        raise InputError(
            f"No recipe {str(name_or_path)!r}: it is neither a file nor one of the packaged recipes "
            f"({', '.join(packaged)})."
        )
    return Recipe.load(name_or_path)


def train(
    recipe: Recipe,
    texts: Sequence[str | Path],
    *,
    out: str | Path,
    valid: Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train the recipe's model on the texts and write it to `out`.

    The directory then holds config.json, model.safetensors, tokenizer.json, training.json (provenance
    and losses) and log.jsonl (one line per evaluation); state/ keeps what a resumed run needs.

    Args:
        recipe: What to train.
        texts: Text files, plain or .xz, documents ended by lines ``<|endoftext|>``.
        out: Directory for the model; must be new, empty, or (with `resume`) of this run.
        valid: Held-out text files; without any, the last 100,000 tokens are held out.
        tokenizer: A tokenizer.json to use rather than training one on the texts.
        resume: Continue the run in `out`.
        threads: CPU threads, by default torch's.
        on_step: Called after every step.

    Raises:
        InputError: If an input is missing, or `out` exists and is not this run's.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    for path in (*texts, *valid):
        check_text(path)  # before anything is written
    out = _prepare(Path(out), recipe, resume=resume)
    vocabulary = _tokenizer(recipe, texts, out, tokenizer)
    separator = vocabulary.token_to_id(SEPARATOR)
    if separator is None:
        raise InputError(f"The tokenizer has no token {SEPARATOR!r} to open documents with; train one.")
    cfg = recipe.model_config()
    stream = encode_stream(
        documents(texts),
        vocabulary,
        separator_id=separator,
        limit=recipe.schedule.tokens + 2 * _HELD_OUT_TOKENS,
    )
    if valid:
        held_out = encode_stream(documents(valid), vocabulary, separator_id=separator)
    else:
        stream, held_out = stream[:-_HELD_OUT_TOKENS], stream[-_HELD_OUT_TOKENS:]
    token_map = hashing.token_map(vocabulary)[0]
    canonical = cfg.engram is not None and cfg.engram.compression == "canonical"
    model = HookedEngramTransformer(cfg, token_map=token_map if canonical else None, tokenizer=vocabulary)
    windows = Windows(stream=stream, length=cfg.n_ctx, batch=recipe.schedule.batch, seed=recipe.schedule.seed)
    trainer = Trainer(model, windows, recipe.schedule, valid=held_out)
    if resume and (out / "state" / "state.safetensors").is_file():
        trainer.load_state(out / "state")
    _run(trainer, out, on_step)
    final = held_out_loss(model, held_out)
    save_native(out, model, tokenizer=vocabulary, hits=trainer.hits)
    facts = _facts(recipe, texts, valid, trainer, stream) | {
        "valid_loss": final.loss,
        "valid_tokens": final.tokens,
        "finished": True,
    }
    (out / _MARK).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return out


def _prepare(out: Path, recipe: Recipe, *, resume: bool) -> Path:
    mark = out / _MARK
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give the name of a directory as --out.")
    if out.exists() and any(out.iterdir()):
        if _recipe_in(mark) != json.loads(json.dumps(recipe.to_dict())):
            raise InputError(
                f"{out} exists and does not hold a run of this recipe; nothing was changed. Give a new "
                "directory as --out."
            )
        if not resume:
            raise InputError(f"{out} already holds a run of this recipe; add --resume or give a new --out.")
    out.mkdir(parents=True, exist_ok=True)
    if not mark.is_file():
        start = {"recipe": recipe.to_dict(), "finished": False}
        mark.write_text(json.dumps(start, indent=1), encoding="utf-8")
    return out


def _recipe_in(mark: Path) -> Any:
    try:
        return read_json(mark).get("recipe")
    except InputError:
        return None


def _tokenizer(recipe: Recipe, texts: Sequence[str | Path], out: Path, given: str | Path | None) -> Any:
    kept = out / "tokenizer.json"
    if kept.is_file() or given is not None:
        vocabulary = load_tokenizer(kept if kept.is_file() else Path(str(given)))
    else:
        vocabulary = train_tokenizer(documents(texts), d_vocab=recipe.d_vocab)
    if vocabulary.get_vocab_size() != recipe.d_vocab:
        raise InputError(
            f"The recipe wants {recipe.d_vocab} token ids and the tokenizer has "
            f"{vocabulary.get_vocab_size()}; give more text or change d_vocab."
        )
    vocabulary.save(str(kept))
    return vocabulary


def _run(trainer: Trainer, out: Path, on_step: Callable[[Progress], None]) -> None:
    log = out / "log.jsonl"
    kept = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    # Lines written after the state that a resumed run starts from are written again.
    kept = [line for line in kept if json.loads(line)["step"] <= trainer.done]
    log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    recent: list[float] = []
    for progress in trainer.run(save=lambda: trainer.save_state(out / "state")):
        recent.append(progress.loss)
        if progress.valid_loss is not None:
            line = asdict(progress) | {"mean_train_loss": float(np.mean(recent))}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            recent = []
        on_step(progress)
    trainer.save_state(out / "state")


def _facts(
    recipe: Recipe,
    texts: Sequence[str | Path],
    valid: Sequence[str | Path],
    trainer: Trainer,
    stream: np.ndarray,
) -> dict[str, Any]:
    return {
        "recipe": recipe.to_dict(),
        "text_files": [Path(t).name for t in texts],
        "text_sha256": text_digest(texts),
        "valid_files": [Path(t).name for t in valid],
        "valid_sha256": text_digest(valid) if valid else None,
        "stream_tokens": len(stream),
        "trained_tokens": trainer.steps * trainer.windows.batch * trainer.windows.length,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "seconds": trainer.seconds,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "engram-interp": engram_interp.__version__,
            "torch": torch.__version__,
            "tokenizers": version("tokenizers"),
            "python": platform.python_version(),
        },
    }
