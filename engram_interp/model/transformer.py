"""The hooked transformer with memory."""

from typing import Any, Literal, overload
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint

from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.hashing import Layout
from engram_interp.model.block import Block
from engram_interp.model.config import ModelConfig
from engram_interp.model.norm import RMSNormPre
from engram_interp.model.streams import Readout
from engram_interp.model.surface import LensSurface

ReturnType = Literal["logits", "loss", "both"]


class HookedEngramTransformer(LensSurface):
    """A decoder-only transformer with optional hashed n-gram memory, on TransformerLens's hooks.

    `model(tokens)` gives logits; `run_with_cache`, `hooks` and `run_with_hooks` work as in
    TransformerLens. Embedding and unembedding are tied.

    Args:
        cfg: Shape of the model.
        token_map: Canonical id of every token id, int64 `[d_vocab]`; needed where the memory hashes
            canonical ids.
        layout: Hash layout; by default the one `cfg.engram` prescribes.
        tokenizer: A `tokenizers.Tokenizer`, so that texts can be given in place of token ids.
    """

    def __init__(
        self,
        cfg: ModelConfig,
        *,
        token_map: Int64[np.ndarray, " d_vocab"] | None = None,
        layout: Layout | None = None,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        self.cfg, self.tokenizer = cfg, tokenizer
        canonical = self._canonical(token_map)
        self.register_buffer("token_map", torch.from_numpy(canonical))
        self.layout: Layout | None = None
        if cfg.engram is not None:
            self.layout = layout or cfg.engram.layout(n_ids=int(canonical.max()) + 1)
        self.embed = nn.Embedding(cfg.d_vocab, cfg.d_model)
        self.hook_embed = HookPoint()
        rows = {} if self.layout is None else dict(zip(self.layout.layer_ids, self.layout.rows, strict=True))
        self.blocks = nn.ModuleList(
            Block(cfg, n_rows=int(rows[i]) if i in rows else None) for i in range(cfg.n_layers)
        )
        if cfg.n_streams > 1:
            self.readout = Readout(cfg)
        self.ln_final = RMSNormPre(cfg.rms_eps)
        self.setup()  # type: ignore[no-untyped-call]  # TransformerLens's
        self.reset_parameters()

    def _canonical(self, token_map: np.ndarray | None) -> np.ndarray:
        needed = self.cfg.engram is not None and self.cfg.engram.compression == "canonical"
        if token_map is None:
            if needed:
                raise InputError(
                    "A memory that hashes canonical ids needs token_map=hashing.token_map(tokenizer)[0], or "
                    "compression='none' to hash raw ids."
                )
            return hashing.identity_map(self.cfg.d_vocab)[0]
        if token_map.shape != (self.cfg.d_vocab,):
            raise InputError(
                f"The token map has {token_map.shape[0]} entries but the model has {self.cfg.d_vocab} token "
                "ids; give the tokenizer the model was trained with."
            )
        return np.ascontiguousarray(token_map, dtype=np.int64)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all matrices from `cfg.init_seed`, the same on every call whatever else the model has.

        Matrices and table rows N(0, .02²), output projections divided by sqrt(2 · n_layers). Every
        parameter draws from its own generator, seeded by the model's seed and the parameter's name: a
        baseline and the same backbone with memory can start equal. What is not drawn (norm gains, biases,
        convolutions, the streams' scales and bases) stays as its module made it.
        """
        small = (2 * self.cfg.n_layers) ** -0.5
        for name, weight in self.named_parameters():
            if "norm.weight" in name or ".conv." in name or name.endswith((".scale", ".base", ".bias")):
                continue
            generator = torch.Generator().manual_seed(crc32(name.encode(), self.cfg.init_seed))
            std = 0.02 * small if name.endswith(".out.weight") else 0.02
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)

    def memory_rows(
        self, tokens: Int64[Tensor, "batch token"], alive: Bool[Tensor, "batch token"] | None = None
    ) -> Int64[Tensor, "batch token layer column"] | None:
        """Table addresses that every token reads, by memory layer and column; None without a memory."""
        if self.layout is None or self.cfg.engram is None:
            return None
        segments = hashing.segments(
            tokens, separator_id=self.cfg.separator_id, boundary=self.cfg.engram.boundary
        )
        mapping = self.get_buffer("token_map")
        canonical = mapping[tokens]
        if alive is not None:
            canonical = canonical.masked_fill(~alive, hashing.DEAD)
        pad = int(mapping[self.cfg.engram.pad_token])
        rows = hashing.addresses(canonical, self.layout, pad_id=pad, segment_ids=segments)
        if self.cfg.engram.reads == "own":
            return rows
        return rows[:, torch.from_numpy(self.cfg.engram.sources(tokens.shape[1])).to(rows.device)]

    @overload
    def forward(
        self,
        tokens: Any,
        *,
        mask: Tensor | None = ...,
        return_type: Literal["both"],
        loss_per_token: bool = ...,
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(
        self,
        tokens: Any,
        *,
        mask: Tensor | None = ...,
        return_type: Literal["logits", "loss"] = ...,
        loss_per_token: bool = ...,
    ) -> Tensor: ...
    def forward(
        self,
        tokens: Any,
        *,
        mask: Bool[Tensor, "batch token"] | None = None,
        return_type: ReturnType = "logits",
        loss_per_token: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits `[batch token d_vocab]`, the next-token loss in nats, or both.

        Args:
            tokens: int64 ids `[batch token]` or `[token]`, or a text.
            mask: True at real tokens, False at right padding, which is dead to the hash and masked.
            return_type: What to return.
            loss_per_token: Return the loss of each position `[batch token-1]` rather than the mean.

        Raises:
            InputError: If the ids are out of range or longer than the context.
        """
        ids = self.checked_tokens(tokens)
        alive = None if mask is None or bool(mask.all()) else mask
        resid = self.resid_final(ids, alive)
        logits = self.unembed(self.ln_final(resid))
        if return_type == "logits":
            return logits
        loss = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        ).view(ids.shape[0], -1)
        if not loss_per_token:
            counted = torch.ones_like(loss) if alive is None else alive[:, 1:].to(loss.dtype)
            loss = (loss * counted).sum() / counted.sum().clamp_min(1)
        return loss if return_type == "loss" else (logits, loss)

    def resid_final(
        self, ids: Int64[Tensor, "batch token"], alive: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "batch token d_model"]:
        """The residual that the final norm reads, after the streams' collapse."""
        rows = self.memory_rows(ids, alive)
        embedded: Tensor = self.embed(ids)
        if torch.is_grad_enabled() and any(point.bwd_hooks for point in self.hook_dict.values()):
            embedded.requires_grad_()  # gradients reach the hooks of frozen weights too
        resid: Tensor = self.hook_embed(embedded)
        if self.cfg.n_streams > 1:
            resid = resid[:, :, None].expand(-1, -1, self.cfg.n_streams, -1)
        for number, block in enumerate(self.blocks):
            resid = block(resid, self._rows_of(rows, number), alive)
        collapsed: Tensor = self.readout(resid) if self.cfg.n_streams > 1 else resid
        return collapsed

    def _rows_of(self, rows: Tensor | None, number: int) -> Tensor | None:
        layers = self.cfg.memory_layers
        return rows[:, :, layers.index(number)] if rows is not None and number in layers else None
