"""Our own format: config.json, model.safetensors, tokenizer.json, and how the model was trained."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from engram_interp.checkpoints.files import (
    file_digest,
    load_tokenizer,
    read_json,
    read_tensors,
    replacing,
    save_tokenizer,
    write_json,
)
from engram_interp.checkpoints.stored import Dtype, Tables, restored, stored
from engram_interp.checkpoints.subject import SubjectModel, Unembed
from engram_interp.checkpoints.tuned_lens import FACTS
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import counts as ngram_counts
from engram_interp.memory import hashing
from engram_interp.model.config import ModelConfig
from engram_interp.model.transformer import HookedEngramTransformer

MODEL_TYPE = "engram_interp"
FORMAT = 1


def map_digest(token_map: np.ndarray) -> str:
    """SHA-256 of a token map as little-endian int64."""
    return hashlib.sha256(np.ascontiguousarray(token_map, dtype="<i8").tobytes()).hexdigest()


def layout_digest(layout: hashing.Layout | None) -> str | None:
    """SHA-256 of a hash layout's primes and multipliers as little-endian int64; None without one."""
    if layout is None:
        return None
    raw = layout.primes.astype("<i8").tobytes() + layout.multipliers.astype("<i8").tobytes()
    return hashlib.sha256(raw).hexdigest()


def refuse_foreign(directory: Path) -> None:
    """Let only a directory pass whose config.json is missing or one that `save_native` wrote.

    Raises:
        InputError: If the file is another's.
    """
    path = directory / "config.json"
    if not path.exists():
        return
    try:
        kind = read_json(path).get("model_type")
    except InputError:
        kind = None
    if kind != MODEL_TYPE:
        raise InputError(
            f"{path} was not written by engram-interp and was not changed; give another directory, or move "
            "the file away."
        )


def save_native(
    directory: str | Path,
    model: HookedEngramTransformer,
    *,
    tokenizer: Tokenizer,
    dtype: Dtype = "float32",
    tables: Tables = "float32",
    hits: list[Tensor] | None = None,
) -> Path:
    """Write a model directory that `load_model` opens.

    Args:
        directory: Made if missing; only config.json, model.safetensors and tokenizer.json are written.
        model: The model.
        tokenizer: Its tokenizer.
        dtype: Stored precision of everything but the tables; "int8" keeps a scale per 32 neighbours in a
            row, and bfloat16 for what is no matrix.
        tables: Stored precision of the table rows; "float8_e4m3" keeps a scale per 32 channels.
        hits: Training hits of every row, one int32 tensor per memory layer.

    Raises:
        InputError: If the directory holds another's config.json, or the hits are not one tensor per
            memory layer.
    """
    directory, counts = Path(directory), hits or []
    if counts and len(counts) != len(model.cfg.memory_layers):
        raise InputError(
            f"Training hits want one tensor per memory layer {model.cfg.memory_layers}, or none at all; got "
            f"{len(counts)}."
        )
    refuse_foreign(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = stored(model.state_dict(), dtype=dtype, tables=tables)
    if counts:
        for layer, count in zip(model.cfg.memory_layers, counts, strict=True):
            tensors[f"blocks.{layer}.engram.hits"] = count
    config = {
        "model_type": MODEL_TYPE,
        "format": FORMAT,
        "model": model.cfg.to_dict(),
        "weights": {"dtype": dtype, "tables": tables},
        "token_map_sha256": map_digest(model.get_buffer("token_map").cpu().numpy()),
        "layout_sha256": layout_digest(model.layout),
    }
    memory, layout = model.cfg.engram, model.layout
    if memory is not None and layout is not None and memory.hash_rule == "explicit":
        config["layout"] = {"primes": layout.primes.tolist(), "multipliers": layout.multipliers.tolist()}
    with replacing(directory / "model.safetensors") as temporary:
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary)
        temporary.chmod(0o644)  # safetensors lets only the owner read
    save_tokenizer(directory / "tokenizer.json", tokenizer)
    write_json(directory / "config.json", config)
    return directory


def load_native(directory: str | Path, *, name: str | None = None) -> SubjectModel:
    """Open a model directory that `save_native` wrote.

    Raises:
        InputError: If a file is missing, the format is another, or the tokenizer's compressed vocabulary
            or the hash layout disagrees with the checkpoint.
        DamagedFileError: If a file is cut short, or does not fit the others.
    """
    directory = Path(directory)
    config = read_json(directory / "config.json")
    if config.get("format") != FORMAT:
        raise InputError(
            f"{directory} has native format {config.get('format')!r} and this version reads {FORMAT}; "
            "upgrade engram-interp."
        )
    cfg = _model_config(directory, config)
    tokenizer = load_tokenizer(directory / "tokenizer.json")
    token_map = _checked_map(directory, config, cfg, tokenizer)
    layout = _explicit_layout(directory, config, cfg)
    model = HookedEngramTransformer(cfg, token_map=token_map, layout=layout, tokenizer=tokenizer)
    if layout_digest(model.layout) != config.get("layout_sha256"):
        raise InputError(
            f"The hash layout rebuilt for {directory} differs from the one it was trained with; its rows "
            "would be read at wrong addresses. Open it with the version that made it."
        )
    hits = _load_weights(model, directory / "model.safetensors")
    model.eval().requires_grad_(False)
    subject = subject_of(
        model,
        tokenizer,
        name=name or directory.resolve().name,
        hits=hits,
        digest=file_digest(directory / "model.safetensors"),
    )
    lens = directory if (directory / FACTS).is_file() else None
    counted = directory / ngram_counts.FILE
    known = ngram_counts.read(counted, token_map_digest=map_digest(token_map)) if counted.is_file() else None
    return replace(subject, tuned_lens=lens, counts=known, folder=directory.resolve())


def _model_config(directory: Path, config: dict[str, Any]) -> ModelConfig:
    try:
        return ModelConfig.from_dict(config.get("model", {}))
    except (TypeError, AttributeError) as cause:  # a value of the wrong type
        raise DamagedFileError(
            f"The model described in {directory / 'config.json'} cannot be built ({cause}); fetch the file "
            "again."
        ) from cause


def _checked_map(
    directory: Path, config: dict[str, Any], cfg: ModelConfig, tokenizer: Tokenizer
) -> np.ndarray:
    if tokenizer.get_vocab_size() != cfg.d_vocab:
        raise InputError(
            f"The tokenizer in {directory} has {tokenizer.get_vocab_size():,} ids and the model "
            f"{cfg.d_vocab:,}; put the model's own tokenizer.json there."
        )
    canonical = cfg.engram is not None and cfg.engram.compression == "canonical"
    token_map, count = hashing.token_map(tokenizer) if canonical else hashing.identity_map(cfg.d_vocab)
    if map_digest(token_map) != config.get("token_map_sha256"):
        raise InputError(
            f"The tokenizer in {directory} compresses to another vocabulary ({count:,} canonical ids) than "
            "the checkpoint was trained with, so every hash would be wrong; put the model's own "
            "tokenizer.json there."
        )
    return token_map


def _explicit_layout(directory: Path, config: dict[str, Any], cfg: ModelConfig) -> hashing.Layout | None:
    if cfg.engram is None or cfg.engram.hash_rule != "explicit":
        return None
    kept = config.get("layout")
    if not isinstance(kept, dict) or not {"primes", "multipliers"} <= set(kept):
        raise DamagedFileError(
            f"{directory / 'config.json'} says its hash layout is explicit and holds none; fetch it again."
        )
    return hashing.Layout(
        primes=np.asarray(kept["primes"], np.int64),
        multipliers=np.asarray(kept["multipliers"], np.int64),
        layer_ids=cfg.memory_layers,
    )


def _load_weights(model: HookedEngramTransformer, path: Path) -> dict[int, np.ndarray]:
    tensors = read_tensors(path)
    hits = {int(k.split(".")[1]): tensors.pop(k) for k in list(tensors) if k.endswith("engram.hits")}
    tensors = restored(tensors)
    wanted = model.state_dict()
    wrong = [
        f"{k} ({list(tensors[k].shape)} for {list(v.shape)})" if k in tensors else f"{k} (missing)"
        for k, v in wanted.items()
        if k not in tensors or tensors[k].shape != v.shape
    ] + [f"{k} (unknown)" for k in tensors if k not in wanted]
    rows = {} if model.layout is None else dict(zip(model.layout.layer_ids, model.layout.rows, strict=True))
    wrong += [
        f"hits of layer {i} ({len(h)} for {rows.get(i)})" for i, h in hits.items() if len(h) != rows.get(i)
    ]
    if wrong:
        raise DamagedFileError(
            f"{path} does not fit its config.json: {', '.join(wrong[:4])}"
            f"{f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''}; the two files belong to different "
            "models."
        )
    model.load_state_dict({k: v.to(wanted[k].dtype) for k, v in tensors.items()})
    return {layer: count.numpy().astype(np.int64) for layer, count in hits.items()}


def subject_of(
    model: HookedEngramTransformer,
    tokenizer: Tokenizer,
    *,
    name: str,
    hits: dict[int, np.ndarray] | None = None,
    digest: str = "",
) -> SubjectModel:
    """A `SubjectModel` around a native model."""

    def rebuild() -> HookedEngramTransformer:
        mapping = model.get_buffer("token_map").cpu().numpy()
        fresh = HookedEngramTransformer(
            model.cfg, token_map=mapping, layout=model.layout, tokenizer=tokenizer
        )
        return fresh.eval().requires_grad_(False)

    def head(resid: Tensor) -> Tensor:
        return model.unembed(model.ln_final(resid))

    shuffled = model.cfg.engram is not None and model.cfg.engram.reads == "shuffled"
    return SubjectModel(
        module=model,
        tokenizer=tokenizer,
        name=name,
        family="native",
        sites={site: site for site in model.hook_dict},
        n_layers=model.cfg.n_layers,
        d_model=model.cfg.d_model,
        d_vocab=model.cfg.d_vocab,
        n_streams=model.cfg.n_streams,
        n_ctx=model.cfg.n_ctx,
        memory_layers=model.cfg.memory_layers,
        separator_id=model.cfg.separator_id,
        layout=None if shuffled else model.layout,  # it would name n-grams that are not read
        token_map=model.get_buffer("token_map").cpu().numpy(),
        boundary="none" if model.cfg.engram is None else model.cfg.engram.boundary,
        forward=lambda ids, mask: model(ids, mask=mask),
        readout=model.readout if model.cfg.n_streams > 1 else None,
        lens_head=head,
        final_norm=model.ln_final,
        unembed=Unembed(weight=model.embed.weight.detach()),
        rebuild=rebuild,
        hits=hits or {},
        digest=digest,
    )
