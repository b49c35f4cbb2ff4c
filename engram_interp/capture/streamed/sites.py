"""What passes sites while a model is streamed: shapes known beforehand, rows kept until they are sharded."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram_interp.capture.shards import SiteShape
from engram_interp.capture.sites import kind_of, layer_of
from engram_interp.capture.streamed.state import Batch
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.model.deepseek_v41.config import V41Config

_INTEGERS = {
    "engram.hook_rows": "int64",
    "mlp.hook_expert_ids": "int64",
    "attn.hook_index_selected": "uint8",
    "attn.hook_index_candidates": "uint8",
}
_PLAIN = ("hook_embed", "hook_attn_out", "hook_mlp_out", "hook_resid_read", "ln_final.hook_normalized")
_STREAMED = ("hook_resid_pre", "hook_engram_out", "hook_resid_mid", "hook_resid_post")
_KEYS = ("mem_key", "key_normed", "query_normed", "gated_value")
_MIXES = [f"hc_{part}.hook_{name}" for part in ("attn", "mlp") for name in ("pre", "post")]
_AXES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((*_PLAIN, "engram.hook_mem_value"), ("d_model",)),
    **dict.fromkeys((*_STREAMED, *(f"engram.hook_{name}" for name in _KEYS)), ("stream", "d_model")),
    **dict.fromkeys((*(f"engram.hook_{n}" for n in ("score", "gate_logit", "gate")), *_MIXES), ("stream",)),
    **dict.fromkeys(("hc_attn.hook_comb", "hc_mlp.hook_comb"), ("stream", "stream")),
    **dict.fromkeys(("attn.hook_index_selected", "attn.hook_index_candidates"), ("entry",)),
    **dict.fromkeys(("mlp.hook_expert_ids", "mlp.hook_expert_weights"), ("choice",)),
    "engram.hook_rows": ("column",),
    "engram.hook_memory": ("column", "d_row"),
    "mlp.hook_router_scores": ("expert",),
    "hook_logits": ("d_vocab",),
}
"""Axes after batch and token of every kind of site that a streamed model passes."""


def shape_of(cfg: V41Config, site: str, *, width: int, dtype: torch.dtype) -> SiteShape:
    """What is stored of a site, without running the model.

    Args:
        cfg: The model.
        site: Its name.
        width: Tokens of the longest prompt.
        dtype: What floating-point sites are stored in.
    """
    kind = kind_of(site).removeprefix("blocks.{l}.")
    if kind not in _AXES:
        raise InputError(f"A streamed capture does not know the shape of {site!r}; leave it out.")
    layer = layer_of(site)
    ratio = cfg.ratios[layer] if 0 <= layer < cfg.n_layers else 0
    sizes = {
        "d_model": cfg.d_model,
        "stream": cfg.n_streams,
        "entry": width // ratio if ratio else 0,
        "choice": cfg.experts_per_token,
        "expert": cfg.n_experts,
        "d_vocab": cfg.d_vocab,
        "column": 0 if cfg.engram is None else cfg.engram.columns,
        "d_row": 0 if cfg.engram is None else cfg.engram.d_row,
    }
    passed = _INTEGERS.get(kind, "float32")
    stored = str(dtype).removeprefix("torch.") if passed == "float32" else passed
    return SiteShape(shape=tuple(sizes[axis] for axis in _AXES[kind]), dtype=stored, passed=passed)


class Sink:
    """Takes what passes sites, batch after batch, into one file a site.

    Args:
        folder: Of the files; those of the given sites are begun anew.
        shapes: What is stored of each.
    """

    def __init__(self, folder: Path, shapes: dict[str, SiteShape]) -> None:
        self.folder, self.shapes = folder, shapes
        self.files: dict[str, BinaryIO] = {}
        self.batch: Batch | None = None

    def __enter__(self) -> "Sink":
        self.files = {site: file_of(self.folder, site).open("wb") for site in self.shapes}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self.files.values():
            if kind is None:  # on the disk before the state says that the layer was passed
                file.flush()
                os.fsync(file.fileno())
            file.close()

    def keep(self, site: str, value: Tensor) -> None:
        """Append what passed a site for the batch that runs."""
        assert self.batch is not None
        shape = self.shapes[site]
        rows = self.batch.packed(value)
        if rows.shape[1:] != shape.shape:  # entries, as many as the longest of all prompts has
            rows = functional.pad(rows, (0, shape.shape[0] - rows.shape[1]))
        flat = rows.to(shape.torch_dtype).contiguous().view(-1)
        self.files[site].write(flat.view(torch.uint8).numpy().data)


def file_of(folder: Path, site: str) -> Path:
    """Where a site's rows are kept."""
    return folder / f"{site}.rows"


def read_rows(folder: Path, site: str, shape: SiteShape, rows: slice) -> Tensor:
    """Rows of a site that a `Sink` wrote; mapped, so that only weights count as read."""
    path, count = file_of(folder, site), (rows.stop - rows.start) * shape.bytes
    if not path.is_file() or path.stat().st_size < rows.stop * shape.bytes:
        what = "cut short" if path.is_file() else "missing"
        raise DamagedFileError(f"{path} is {what}; delete {folder} and capture again.")
    if not count:
        return torch.empty((rows.stop - rows.start, *shape.shape), dtype=shape.torch_dtype)
    raw = np.memmap(path, np.uint8, "r", rows.start * shape.bytes, (count,)).copy()
    return torch.from_numpy(raw).view(shape.torch_dtype).view(-1, *shape.shape)


def within(sites: Sequence[str], layer: int) -> list[str]:
    """The sites of one layer."""
    return [site for site in sites if layer_of(site) == layer]
