"""A causal language model as transformers keeps it in a directory: opened whole, or refused by name."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from engram_interp.checkpoints.files import file_digest, load_tokenizer, read_json
from engram_interp.checkpoints.sharded import Shards, open_shards
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory.compression import as_vocabulary

_LEAST = 0.5
"""Of a model's numbers, what its files hold at least: some are computed, or one for two matrices."""


def load_causal(directory: Path, *, dtype: str = "float32") -> Any:
    """The causal language model of a directory, in evaluation mode, every weight of it from the files.

    Raises:
        InputError: If a file is missing (names a shard and its tensors), or transformers cannot open it.
        DamagedFileError: If a file is cut short, or weights are missing, unknown, or of other shapes than
            config.json says.
    """
    from transformers import AutoModelForCausalLM

    model_type = read_json(directory / "config.json").get("model_type")
    shards = open_shards(directory)
    shards.require(shards.files)
    try:
        with quiet():
            _check_size(directory, shards)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told then, and refused below by name
            )
    except InputError:
        raise
    except Exception as cause:  # transformers and what it calls raise many kinds
        first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise InputError(
            f"transformers cannot open the {model_type} model in {directory} ({first}); the directory wants "
            "a config.json and weights that belong to each other."
        ) from cause
    module, found = loaded
    wrong = [f"{key} (missing)" for key in sorted(found["missing_keys"])]
    wrong += [f"{key[0]} (of another shape)" for key in sorted(found["mismatched_keys"])]
    wrong += [f"{key} (unknown)" for key in sorted(found["unexpected_keys"])]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DamagedFileError(
            f"The weights in {directory} do not fit its config.json: {', '.join(wrong[:3])}{more}; the two "
            "files belong to different models, or one is damaged."
        )
    module.config.use_cache = False
    return module.eval().requires_grad_(False)


def _check_size(directory: Path, shards: Shards) -> None:
    """Refuse weights far smaller than config.json says, before room for the whole model is taken.

    Raises:
        DamagedFileError: If the files hold fewer than half of its numbers, unless they are quantised.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    with torch.device("meta"):
        wanted = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    held = sum(math.prod(place.shape) for place in shards.places.values())
    if held < _LEAST * wanted and getattr(config, "quantization_config", None) is None:
        raise DamagedFileError(
            f"The weights in {directory} are {held:,} numbers and its config.json describes a model of "
            f"{wanted:,}; the two files belong to different models."
        )


def any_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a transformers directory, from tokenizer.json or from the older files.

    Raises:
        InputError: If there is none that transformers can make a fast one of.
    """
    if (directory / "tokenizer.json").is_file():
        return load_tokenizer(directory / "tokenizer.json")
    from transformers import AutoTokenizer

    try:
        found = as_vocabulary(AutoTokenizer.from_pretrained(directory, local_files_only=True))
    except (OSError, ValueError, ImportError) as cause:
        raise InputError(
            f"No tokenizer in {directory}; a model directory holds its tokenizer.json."
        ) from cause
    assert isinstance(found, Tokenizer)
    return found


def weight_files_digest(directory: Path) -> str:
    """SHA-256 over the digests of a directory's safetensors files."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        digest.update(file_digest(path).encode())
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers inside the block."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
