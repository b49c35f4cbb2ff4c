"""Small things to test with, made by the project's own code: text, tokenizers, lopsided models."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jaxtyping
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.memory import hashing
from engram_interp.memory.config import EngramConfig
from engram_interp.model.config import ModelConfig
from engram_interp.model.transformer import HookedEngramTransformer

D_VOCAB = 331
N_CTX = 29

_SYLLABLES = ["ka", "lo", "mi", "ren", "tas", "vel", "dor", "shi", "ban", "qué", "ström", "él"]
_FRAMES = ("The {} of {} saw {}.", "{} and the {} met in {},", "In {}, THE {} kept a {};", "the {}  {} {}\n")


@contextmanager
def shapes_unchecked() -> Iterator[None]:
    """Call the package as a reader does, without the tests' check of shapes: to see its own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def documents(count: int, *, seed: int = 0) -> list[str]:
    """Invented documents: a few frames around a few dozen names, some far more frequent than others."""
    generator = np.random.default_rng(seed)
    naming = np.random.default_rng(99)  # the same names whatever the seed
    names = ["".join(naming.choice(_SYLLABLES, size=naming.integers(2, 4))).capitalize() for _ in range(40)]
    weights = 1 / np.arange(1, len(names) + 1)

    def sentence() -> str:
        chosen = generator.choice(names, size=3, p=weights / weights.sum())
        return str(generator.choice(_FRAMES)).format(*chosen)

    return [" ".join(sentence() for _ in range(generator.integers(2, 12))) for _ in range(count)]


@cache
def tokenizer(d_vocab: int = D_VOCAB) -> Tokenizer:
    """A byte-level tokenizer trained on invented text; case and space variants share canonical ids."""
    return train_tokenizer(documents(200, seed=1), d_vocab=d_vocab)


def memory_config(**changes: Any) -> EngramConfig:
    """Two memory layers of three heads and two orders, every size different."""
    values: dict[str, Any] = {"layer_ids": (1, 2), "max_order": 3, "heads": 3, "d_row": 5, "rows": (40, 70)}
    return EngramConfig(**values | changes)


def model_config(*, memory: EngramConfig | None = None, **changes: Any) -> ModelConfig:
    """A decoder of four layers; dense, one stream and without memory unless told otherwise."""
    sizes: dict[str, Any] = {"n_layers": 4, "d_model": 20, "n_heads": 2, "d_mlp": 28, "d_expert": 12}
    return ModelConfig(**sizes | {"d_vocab": D_VOCAB, "n_ctx": N_CTX, "engram": memory} | changes)


@torch.no_grad()
def randomise(module: nn.Module, *, seed: int = 0, std: float = 0.3) -> None:
    """Move every parameter off its initial value, so that no part is neutral by accident."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * std)


def model(cfg: ModelConfig | None = None, *, seed: int = 0) -> HookedEngramTransformer:
    """A model with random weights everywhere, in evaluation mode; by default with memory."""
    cfg = model_config(memory=memory_config()) if cfg is None else cfg
    canonical = cfg.engram is not None and cfg.engram.compression == "canonical"
    token_map = hashing.token_map(tokenizer())[0] if canonical else None
    made = HookedEngramTransformer(cfg, token_map=token_map, tokenizer=tokenizer())
    randomise(made, seed=seed)
    return made.eval().requires_grad_(False)


def subject(cfg: ModelConfig | None = None, *, seed: int = 0, name: str = "tiny") -> SubjectModel:
    """The same as a model under study."""
    return subject_of(model(cfg, seed=seed), tokenizer(), name=name)


def token_ids(batch: int, length: int, *, seed: int = 0) -> torch.Tensor:
    """Random token ids `[batch, length]` that open with the separator."""
    ids = np.random.default_rng(seed).integers(1, D_VOCAB, size=(batch, length))
    ids[:, 0] = 0
    return torch.from_numpy(ids)
