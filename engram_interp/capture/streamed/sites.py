"""What passes sites while a model is streamed: shapes known beforehand, rows kept until they are sharded."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import torch
from torch import Tensor
from torch.nn import functional

from engram_interp.capture.shards import SiteShape
from engram_interp.capture.sites import kind_of
from engram_interp.capture.streamed.state import Batch
from engram_interp.errors import InputError
from engram_interp.model.deepseek_v41.config import V41Config

AFTER = 1 << 30
"""Stands for the layer of what follows the last block."""
_INTEGERS = {"rows": "int64", "expert_ids": "int64", "index_selected": "uint8", "index_candidates": "uint8"}


def shape_of(cfg: V41Config, site: str, *, width: int, dtype: torch.dtype) -> SiteShape:
    """What is stored of a site, without running the model.

    Args:
        cfg: The model.
        site: Its name.
        width: Tokens of the longest prompt.
        dtype: What floating-point sites are stored in.
    """
    kind = kind_of(site).removeprefix("blocks.{l}.")
    m, d = cfg.n_streams, cfg.d_model
    ratio = cfg.ratios[layer_of(site)] if 0 <= layer_of(site) < cfg.n_layers else 0
    columns, d_row = (0, 0) if cfg.engram is None else (cfg.engram.columns, cfg.engram.d_row)
    known: dict[tuple[int, ...], tuple[str, ...]] = {
        (d,): (
            *("hook_embed", "ln_final.hook_normalized", "hook_attn_out", "hook_mlp_out", "hook_resid_read"),
            "engram.hook_mem_value",
        ),
        (m, d): (
            *("hook_resid_pre", "hook_engram_out", "hook_resid_mid", "hook_resid_post"),
            *(f"engram.hook_{s}" for s in ("mem_key", "key_normed", "query_normed", "gated_value")),
        ),
        (m,): (
            *(f"engram.hook_{s}" for s in ("score", "gate_logit", "gate")),
            *(f"hc_{part}.hook_{s}" for part in ("attn", "mlp") for s in ("pre", "post")),
        ),
        (m, m): ("hc_attn.hook_comb", "hc_mlp.hook_comb"),
        (columns,): ("engram.hook_rows",),
        (columns, d_row): ("engram.hook_memory",),
        (width // ratio if ratio else 0,): ("attn.hook_index_selected", "attn.hook_index_candidates"),
        (cfg.n_experts,): ("mlp.hook_router_scores",),
        (cfg.experts_per_token,): ("mlp.hook_expert_ids", "mlp.hook_expert_weights"),
        (cfg.d_vocab,): ("hook_logits",),
    }
    for shape, kinds in known.items():
        if kind in kinds:
            passed = _INTEGERS.get(kind.rpartition("hook_")[2], "float32")
            stored = str(dtype).removeprefix("torch.") if passed == "float32" else passed
            return SiteShape(shape=shape, dtype=stored, passed=passed)
    raise InputError(f"A streamed capture does not know the shape of {site!r}; leave it out.")


def layer_of(site: str) -> int:
    """The layer a site is in: -1 for the embedding, `AFTER` for what follows the last block."""
    if site.startswith("blocks."):
        return int(site.split(".")[1])
    return -1 if site == "hook_embed" else AFTER


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
    """Rows of a site that a `Sink` wrote."""
    count = rows.stop - rows.start
    out = torch.empty((count, *shape.shape), dtype=shape.torch_dtype)
    flat = out.view(-1).view(torch.uint8).numpy().data
    with file_of(folder, site).open("rb") as file:
        file.seek(rows.start * shape.bytes)
        got = file.readinto(flat) if flat else 0
    if got != len(flat):
        raise InputError(f"{file_of(folder, site)} is cut short; delete {folder} and capture again.")
    return out


def within(sites: Sequence[str], layer: int) -> list[str]:
    """The sites of one layer."""
    return [site for site in sites if layer_of(site) == layer]
