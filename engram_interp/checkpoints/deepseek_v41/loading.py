"""A released directory as a `SubjectModel`: whole in memory, or its weights left on the disk."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from engram_interp.checkpoints.deepseek_v41 import layout
from engram_interp.checkpoints.deepseek_v41.config import PUBLISHED_MAPS, config_of, ignored_settings
from engram_interp.checkpoints.deepseek_v41.weights import Source, fill_all, skeleton
from engram_interp.checkpoints.files import load_tokenizer, read_json
from engram_interp.checkpoints.native import map_digest
from engram_interp.checkpoints.sharded import INDEX, Shards, check_against, open_shards
from engram_interp.checkpoints.subject import SubjectModel, Unembed
from engram_interp.checkpoints.tensor_files import Reader
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.model.deepseek_v41.backbone import DeepSeekV41
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.rows import RMSNorm, row_linear

Weights = Literal["auto", "memory", "disk"]

_SHARE = 0.8
"""Of the memory that is free, what weights may take before they are left on the disk."""
_KNOWN_BY = 1 << 20
"""Bytes of the embedding that the digest covers."""


def load_deepseek_v41(
    directory: str | Path, *, name: str | None = None, weights: Weights = "auto"
) -> SubjectModel:
    """Open a released DeepSeek-V4.1 directory.

    Args:
        directory: Holds config.json, tokenizer.json, the index and (some of) the shards.
        name: What results call it; by default the directory's name.
        weights: "memory" reads them all, decoded to float32; "disk" leaves them, for `capture`, which reads
            each once, layer by layer; "auto" takes memory where they are all there and fit.

    Raises:
        InputError: If a setting, a tensor or the tokenizer is not one that we know, or, in memory, a shard is
            missing.
        DamagedFileError: If a file is cut short or does not fit the others.
    """
    directory = Path(directory)
    values = read_json(directory / "config.json")
    cfg = config_of(values, where=str(directory / "config.json"))
    shards = open_shards(directory)
    wanted = layout.wanted(cfg)
    ignored = check_against(shards, wanted, ignored=layout.IGNORED)
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    token_map = _checked_map(directory, cfg, tokenizer)
    model = skeleton(cfg, token_map=token_map)
    if weights == "auto":
        fits = wanted.keys() <= shards.places.keys() and decoded_bytes(cfg) < _SHARE * free_memory()
        weights = "memory" if fits else "disk"
    if weights == "memory":
        with Reader() as reader:
            fill_all(model, Source(cfg=cfg, shards=shards, reader=reader))
    notes = [
        "float32, without the rounding of activations to fp8 that DeepSeek's kernels add",
        "the digest is of config, index and the embedding's beginning",
    ]
    left = (*ignored, *ignored_settings(values))
    notes += [f"ignored on purpose: {', '.join(left)}"] if left else []
    return _subject(
        model, cfg, shards, name=name or directory.resolve().name, tokenizer=tokenizer, notes=notes
    )


def on_disk(model: SubjectModel) -> bool:
    """Whether a model's weights were left on the disk."""
    return isinstance(model.module, DeepSeekV41) and model.module.head.weight.is_meta


def decoded_bytes(cfg: V41Config) -> int:
    """What the weights take in memory, as float32."""
    return 4 * sum(stored.numbers for stored in layout.every(cfg))


def free_memory() -> int:
    """Bytes that can be taken without swapping, as far as the system tells."""
    status = Path("/proc/meminfo")
    if status.exists():
        found = re.search(r"^MemAvailable:\s+(\d+) kB", status.read_text(encoding="utf-8"), flags=re.M)
        if found:
            return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _checked_map(directory: Path, cfg: V41Config, tokenizer: Tokenizer) -> np.ndarray | None:
    if cfg.engram is None:
        return None
    token_map, count = hashing.token_map(tokenizer)
    published = PUBLISHED_MAPS.get((cfg.d_vocab, cfg.n_canonical))
    if published is not None and map_digest(token_map) != published:
        raise InputError(
            f"The tokenizer in {directory} compresses {len(token_map):,} ids to {count:,} canonical ones and "
            "not as the released model's does: every hash would be wrong. Put its own tokenizer.json there."
        )
    if count != cfg.n_canonical or len(token_map) != cfg.d_vocab:
        raise InputError(
            f"The tokenizer in {directory} has {len(token_map):,} ids that compress to {count:,} canonical "
            f"ones, and the model wants {cfg.d_vocab:,} and {cfg.n_canonical:,}: every hash would be wrong. "
            "Put the model's own tokenizer.json there."
        )
    _ = cfg.layout  # checks the tables' rows
    return token_map


def _digest(shards: Shards) -> str:
    digest = hashlib.sha256()
    index = INDEX if (shards.folder / INDEX).is_file() else None
    for file in ("config.json", *([index] if index else [])):
        digest.update((shards.folder / file).read_bytes())
    place = shards.place("embed.weight")
    with place.path.open("rb") as shard:
        shard.seek(place.start)
        digest.update(shard.read(min(_KNOWN_BY, place.bytes)))
    return digest.hexdigest()


class _Head:
    """Final norm and unembedding read from the disk when they are first asked for."""

    def __init__(self, cfg: V41Config, shards: Shards) -> None:
        self.cfg, self.shards = cfg, shards
        self.loaded: tuple[RMSNorm, Tensor] | None = None

    def __call__(self, resid: Tensor) -> Tensor:
        if self.loaded is None:
            with Reader() as reader:
                source = Source(cfg=self.cfg, shards=self.shards, reader=reader)
                _, norm, head = (source.read(stored) for stored in layout.outer(self.cfg))
            final = RMSNorm(self.cfg.d_model, self.cfg.rms_eps)
            final.weight = torch.nn.Parameter(norm, requires_grad=False)
            self.loaded = final, head
        final_norm, weight = self.loaded
        return row_linear(final_norm(resid), weight)


@dataclass(frozen=True, kw_only=True)
class _NotInMemory:
    """Says why the model cannot be run: a shard that is missing, by name, or else the memory."""

    cfg: V41Config
    shards: Shards

    def __call__(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        del ids, mask
        self.shards.require(layout.wanted(self.cfg))
        raise InputError(
            "This model's weights were left on the disk, as was asked for or since they do not fit the "
            "memory. Capture the sites you want (engram-interp capture DIR …), which reads them layer by "
            "layer, and give analyses the capture."
        )


def _subject(
    model: DeepSeekV41, cfg: V41Config, shards: Shards, *, name: str, tokenizer: Tokenizer, notes: list[str]
) -> SubjectModel:
    here = not model.head.weight.is_meta
    return SubjectModel(
        module=model,
        tokenizer=tokenizer,
        name=name,
        family="deepseek_v41",
        sites={site: site for site in model.hook_dict if not site.endswith("hook_conv_out")},  # has none
        n_layers=cfg.n_layers,
        d_model=cfg.d_model,
        d_vocab=cfg.d_vocab,
        n_streams=cfg.n_streams,
        n_ctx=cfg.n_ctx,
        memory_layers=cfg.memory_layers,
        separator_id=cfg.separator_id,
        dead_ids=() if cfg.image_id is None else (cfg.image_id,),
        layout=cfg.layout,
        token_map=model.token_map,
        boundary="none",
        forward=(lambda ids, mask: model(ids, mask=mask)) if here else _NotInMemory(cfg=cfg, shards=shards),
        lens_head=None if here else _Head(cfg, shards),
        final_norm=model.ln_final if here else None,
        unembed=Unembed(weight=model.head.weight.detach()) if here else None,
        collapsed_site="hook_resid_read",
        digest=_digest(shards),
        folder=shards.folder.resolve(),
        notes=tuple(notes),
    )
