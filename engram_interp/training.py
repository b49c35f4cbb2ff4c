"""Train a model from a recipe and texts, resumably, with everything needed to say how it was made."""

import json
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

import engram_interp
from engram_interp.capture.hits import STRATA, stratum
from engram_interp.checkpoints.files import load_tokenizer, read_json, save_tokenizer, write_json, write_text
from engram_interp.checkpoints.native import refuse_foreign, save_native
from engram_interp.data import fiction
from engram_interp.data.contexts import context_counts
from engram_interp.data.documents import SEPARATOR, check_text, documents
from engram_interp.data.packing import Windows, encode_stream
from engram_interp.data.text_facts import refuse_other_texts, text_facts
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import hashing
from engram_interp.model.training.cost import cost
from engram_interp.model.training.device import describe_device, find_device
from engram_interp.model.training.evaluate import gate_summary, held_out_loss
from engram_interp.model.training.loop import Progress, Trainer
from engram_interp.model.training.recipe import Recipe
from engram_interp.model.transformer import HookedEngramTransformer

_MARK = "training.json"
_HELD_OUT_TOKENS = 100_000
_CONTEXT = 3
"""Tokens of the contexts whose counts sort the held-out text."""


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
    device: str = "cpu",
    keep: int = 0,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train the recipe's model on the texts and write it to `out`.

    The directory then holds config.json, model.safetensors, tokenizer.json, training.json (provenance,
    losses, and the gates as they were before the first step) and log.jsonl (one line per evaluation); state/
    keeps what a resumed run needs, checkpoints/ the models kept along the way.

    Held-out losses are also told by how often the training text has the three tokens that end the context.

    Args:
        recipe: What to train.
        texts: Text files, plain or .xz, documents ended by lines ``<|endoftext|>``.
        out: Directory for the model; must be new, empty, or (with `resume`) of this run.
        valid: Held-out text files; without any, the last 100,000 tokens are held out.
        tokenizer: A tokenizer.json to use rather than training one on the texts.
        resume: Continue the run in `out`.
        threads: CPU threads, by default torch's.
        device: Where to train: "cpu", "cuda" (the first GPU), "cuda:1", …
        keep: Models to keep along the way, evenly spaced, without the last: checkpoints/step-N to load.
        on_step: Called after every step.

    Raises:
        InputError: If an input is missing or too short, `out` exists and is not this run's, or the machine
            has no such device; nothing is written then.
    """
    find_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    for path in (*texts, *valid):
        check_text(path)
    out, cfg = Path(out), recipe.model_config()
    told = text_facts(texts, valid)
    _check(out, recipe, told, resume=resume)
    vocabulary = _tokenizer(recipe, texts, out, tokenizer)
    stream, held_out = _streams(recipe, texts, valid, vocabulary)
    token_map = hashing.token_map(vocabulary)[0]
    canonical = cfg.engram is not None and cfg.engram.compression == "canonical"
    model = HookedEngramTransformer(cfg, token_map=token_map if canonical else None, tokenizer=vocabulary)
    windows = Windows(stream=stream, length=cfg.n_ctx, batch=recipe.schedule.batch, seed=recipe.schedule.seed)
    strata = _strata(held_out, stream, vocabulary)
    trainer = Trainer(model, windows, recipe.schedule, valid=held_out, strata=strata, device=device)
    at_start = gate_summary(model, held_out)
    if resume and (out / "state" / "state.safetensors").is_file():
        trainer.load_state(out / "state")
    _begin(out, recipe, told, vocabulary)  # nothing is written before: what is wrong has been said by now
    _run(trainer, out, on_step, keeper=_Keeper(out, trainer, vocabulary, keep=keep))
    final = held_out_loss(model, held_out)
    by_stratum = trainer.by_stratum(final) or []
    save_native(out, model, tokenizer=vocabulary, hits=trainer.hits)
    facts = _facts(recipe, told, trainer, stream) | {
        "valid_loss": final.loss,
        "valid_tokens": final.tokens,
        "valid_strata": {
            f"{name} in training": {"tokens": tokens, "loss": loss}
            for name, (tokens, loss) in zip(STRATA, by_stratum, strict=False)
        },
        "gates_at_start": at_start,
        "finished": True,
    }
    write_json(out / _MARK, facts)
    return out


def _check(out: Path, recipe: Recipe, told: dict[str, Any], *, resume: bool) -> None:
    """Let only a directory pass that is new, empty, or (with `resume`) of a run of this recipe and text."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give the name of a directory as --out.")
    if out.exists() and any(out.iterdir()):
        recorded = _recorded(out / _MARK)
        if recorded.get("recipe") != json.loads(json.dumps(recipe.to_dict())):
            raise InputError(
                f"{out} exists and does not hold a run of this recipe; nothing was changed. Give a new "
                "directory as --out."
            )
        refuse_other_texts(out, recorded, told)
        if not resume:
            raise InputError(f"{out} already holds a run of this recipe; add --resume or give a new --out.")
    refuse_foreign(out)


def _begin(out: Path, recipe: Recipe, told: dict[str, Any], vocabulary: Any) -> None:
    """Make the directory and mark it as this run's."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / _MARK).is_file():
        write_json(out / _MARK, {"recipe": recipe.to_dict(), **told, "finished": False})
    save_tokenizer(out / "tokenizer.json", vocabulary)


def _recorded(mark: Path) -> dict[str, Any]:
    try:
        return read_json(mark)
    except InputError:
        return {}


def _tokenizer(recipe: Recipe, texts: Sequence[str | Path], out: Path, given: str | Path | None) -> Any:
    kept = out / "tokenizer.json"
    if kept.is_file() or given is not None:
        vocabulary = load_tokenizer(kept if kept.is_file() else Path(str(given)))
        if given is not None and load_tokenizer(given).to_str() != vocabulary.to_str():
            raise InputError(f"{given} is not the tokenizer in {kept}; leave it out or give a new --out.")
    else:
        vocabulary = train_tokenizer(documents(texts), d_vocab=recipe.d_vocab)
    if vocabulary.get_vocab_size() != recipe.d_vocab:
        raise InputError(
            f"The recipe wants {recipe.d_vocab} token ids and the tokenizer has "
            f"{vocabulary.get_vocab_size()}; give more text or change d_vocab."
        )
    if vocabulary.token_to_id(SEPARATOR) is None:
        raise InputError(f"The tokenizer has no token {SEPARATOR!r} to open documents with; train one.")
    return vocabulary


def _streams(
    recipe: Recipe, texts: Sequence[str | Path], valid: Sequence[str | Path], vocabulary: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens to train on, and tokens held out."""
    schedule, separator = recipe.schedule, vocabulary.token_to_id(SEPARATOR)
    limit = schedule.tokens + 2 * _HELD_OUT_TOKENS
    invented = () if recipe.fiction is None else fiction.documents(recipe.fiction)
    text = chain(invented, documents(texts))
    stream = encode_stream(text, vocabulary, separator_id=separator, limit=limit)
    step = schedule.batch * recipe.model_config().n_ctx
    wanted = max(schedule.tokens // step, 1) * step + 1  # every token is trained on: counts of it are exact
    if valid:
        return stream[:wanted], encode_stream(documents(valid), vocabulary, separator_id=separator)
    left = max(len(stream) - _HELD_OUT_TOKENS, 0)
    if left < wanted:
        raise InputError(
            f"The text has {len(stream):,} tokens, of which the last {_HELD_OUT_TOKENS:,} are held out where "
            f"no --valid is given; {left:,} remain, the recipe wants {wanted:,}; give --valid or more text."
        )
    return stream[:wanted], stream[-_HELD_OUT_TOKENS:]


def _strata(held_out: np.ndarray, stream: np.ndarray, vocabulary: Any) -> np.ndarray:
    """Index into `STRATA` of the context that ends at each held-out token; -1 where none does."""
    counts = context_counts(
        held_out,
        stream,
        order=_CONTEXT,
        separator_id=vocabulary.token_to_id(SEPARATOR),
        d_vocab=vocabulary.get_vocab_size(),
    )
    return np.where(counts < 0, -1, stratum(counts))


class _Keeper:
    """Keeps models along the way, whole or not at all."""

    def __init__(self, out: Path, trainer: Trainer, vocabulary: Any, *, keep: int) -> None:
        self.folder, self.trainer, self.vocabulary = out / "checkpoints", trainer, vocabulary
        self.steps = {round(trainer.steps * (n + 1) / (keep + 1)) for n in range(keep)} - {0, trainer.steps}

    def __call__(self, step: int) -> None:
        if step not in self.steps:
            return
        final = self.folder / f"step-{step:06}"
        if final.exists():  # a resumed run comes by again
            return
        part = self.folder / f"{final.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        save_native(part, self.trainer.model, tokenizer=self.vocabulary, hits=self.trainer.hits)
        part.rename(final)


def _run(trainer: Trainer, out: Path, on_step: Callable[[Progress], None], *, keeper: _Keeper) -> None:
    log = out / "log.jsonl"
    # Lines written after the state that a resumed run starts from are written again.
    kept = [line for line, step in _logged(log) if step <= trainer.done]
    write_text(log, "".join(f"{line}\n" for line in kept))
    recent: list[float] = []
    for progress in trainer.run(save=lambda: trainer.save_state(out / "state")):
        recent.append(progress.loss)
        if progress.valid_loss is not None:
            line = asdict(progress) | {"mean_train_loss": float(np.mean(recent))}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            recent = []
        keeper(progress.step)
        on_step(progress)
    trainer.save_state(out / "state")


def _logged(log: Path) -> list[tuple[str, int]]:
    """Lines of a log and their steps, without a last line that a kill cut short.

    Raises:
        DamagedFileError: If an earlier line cannot be read.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    found: list[tuple[str, int]] = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append((line, int(json.loads(line)["step"])))
        except (ValueError, TypeError, KeyError) as cause:
            if number < len(lines):
                raise DamagedFileError(
                    f"Line {number} of {log} cannot be read; delete that line and resume again."
                ) from cause
    return found


def _facts(recipe: Recipe, told: dict[str, Any], trainer: Trainer, stream: np.ndarray) -> dict[str, Any]:
    return {
        "recipe": recipe.to_dict(),
        **told,
        "stream_tokens": len(stream),
        "trained_tokens": trainer.steps * trainer.windows.batch * trainer.windows.length,
        **asdict(cost(trainer.model)),
        "seconds": trainer.seconds,
        "device": describe_device(trainer.device),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "engram-interp": engram_interp.__version__,
            "torch": torch.__version__,
            "tokenizers": version("tokenizers"),
            "python": platform.python_version(),
        },
    }
