"""The whole backbone."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule

from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.model.deepseek_v41 import streams
from engram_interp.model.deepseek_v41.block import Block
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.rows import RMSNorm, RowLinear, row_linear
from engram_interp.model.deepseek_v41.shared import Shared

VOCABULARY_ROWS = 8192
"""Token ids whose logits are worked out at a time."""


def unembed(
    x: Float[Tensor, "*batch d_model"], parts: Iterable[Float[Tensor, "_part d_model"]]
) -> Float[Tensor, "*batch d_vocab"]:
    """Logits of a normalised residual, from the unembedding in parts of `VOCABULARY_ROWS`.

    The same parts whether the whole is in memory or comes from the disk piece by piece: the same bits.
    """
    return torch.cat([row_linear(x, part) for part in parts], dim=-1)


class FinalNorm(RMSNorm):
    """The final norm; `hook_normalized` is what the unembedding reads."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "*row width"]) -> Float[Tensor, "*row width"]:
        """Normalised and scaled, same shape."""
        normalised: Tensor = self.hook_normalized(super().forward(x))
        return normalised


class DeepSeekV41(HookedRootModule):
    """DeepSeek-V4.1's text backbone on TransformerLens's hooks; `model(tokens)` gives logits.

    Prefill in float32: the model's own rounding of keys to fp8 and fp4 is part of it, the rounding of
    activations that DeepSeek's kernels add is not.

    Args:
        cfg: Shape of the model.
        token_map: Canonical id of every token id; needed with a memory.
    """

    def __init__(self, cfg: V41Config, *, token_map: Int64[np.ndarray, " d_vocab"] | None = None) -> None:
        super().__init__()
        self.cfg, self.token_map = cfg, token_map
        if cfg.engram is not None and (token_map is None or len(token_map) != cfg.d_vocab):
            raise InputError(f"A memory wants a token map of {cfg.d_vocab:,} ids.")
        self.embed = nn.Embedding(cfg.d_vocab, cfg.d_model)
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.n_layers))
        self.ln_final = FinalNorm(cfg.d_model, cfg.rms_eps)
        self.head = RowLinear(cfg.d_model, cfg.d_vocab)  # see `unembed`
        self.hook_logits = HookPoint()
        self.setup()  # type: ignore[no-untyped-call]  # TransformerLens's

    def remembered(
        self, tokens: Int64[Tensor, "batch token"], alive: Bool[Tensor, "batch token"]
    ) -> Bool[Tensor, "batch token"]:
        """Which tokens the memory sees: all but padding and images, which attention does see."""
        return alive if self.cfg.image_id is None else alive & (tokens != self.cfg.image_id)

    def memory_rows(
        self, tokens: Int64[Tensor, "batch token"], seen: Bool[Tensor, "batch token"]
    ) -> Int64[Tensor, "batch token layer column"] | None:
        """Table addresses of every token, memory layer and column; None without a memory.

        Args:
            tokens: Ids.
            seen: Which of them the memory sees (`remembered`).
        """
        layout, engram = self.cfg.layout, self.cfg.engram
        if layout is None or engram is None or self.token_map is None:
            return None
        canonical = torch.from_numpy(self.token_map)[tokens].masked_fill(~seen, hashing.DEAD)
        return hashing.addresses(canonical, layout, pad_id=int(self.token_map[engram.pad_token]))

    def enter(
        self, tokens: Int64[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch token stream d_model"], Float[Tensor, "batch token stream"]]:
        """The streams before the first block, all alike, and the mix it reads: the first stream alone."""
        embedded = self.hook_embed(self.embed(tokens))
        pre = embedded.new_zeros(*tokens.shape, self.cfg.n_streams)
        pre[..., 0] = 1.0
        return embedded[:, :, None].expand(-1, -1, self.cfg.n_streams, -1), pre

    def leave(
        self, resid: Float[Tensor, "batch token stream d_model"], pre: Float[Tensor, "batch token stream"]
    ) -> Float[Tensor, "batch token d_vocab"]:
        """Logits of the residual after the last block."""
        normalised = self.ln_final(streams.read(resid, pre))
        logits: Tensor = self.hook_logits(unembed(normalised, self.head.weight.split(VOCABULARY_ROWS)))
        return logits

    def forward(
        self, tokens: Any, *, mask: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "batch token d_vocab"]:
        """Logits.

        Args:
            tokens: int64 ids `[batch token]` or `[token]`.
            mask: True at real tokens, False at right padding.

        Raises:
            InputError: If the ids are out of range, or the mask leaves holes.
        """
        ids = self.checked_tokens(tokens)
        alive = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        lengths = checked_lengths(alive)
        seen = self.remembered(ids, alive)
        rows = self.memory_rows(ids, seen)
        resid, pre = self.enter(ids)
        shared = [Shared() for _ in lengths]
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            resid = block.remember(resid, self.rows_of(rows, layer), seen)
            mid, pre, shared = block.attend(resid, pre, lengths, shared)
            resid, pre = block.feed(mid, pre, alive)
        return self.leave(resid, pre)

    def rows_of(self, rows: Tensor | None, layer: int) -> Int64[Tensor, "batch token column"] | None:
        """The addresses of one layer; None where it has no memory."""
        layers = self.cfg.memory_layers
        return rows[:, :, layers.index(layer)] if rows is not None and layer in layers else None

    def checked_tokens(self, tokens: Any) -> Int64[Tensor, "batch token"]:
        """Token ids as a rectangle, or an error that says what is wrong."""
        ids = torch.as_tensor(tokens)
        ids = ids[None] if ids.ndim == 1 else ids
        if ids.ndim != 2 or ids.is_floating_point() or ids.numel() == 0:
            raise InputError(
                f"The model wants integer ids [batch, token], got {ids.dtype} {tuple(ids.shape)}."
            )
        if int(ids.min()) < 0 or int(ids.max()) >= self.cfg.d_vocab:
            raise InputError(
                f"Token ids want to lie in 0 … {self.cfg.d_vocab - 1}, got {int(ids.min())} … "
                f"{int(ids.max())}; was the text encoded with another tokenizer?"
            )
        return ids.long()


def checked_lengths(alive: Bool[Tensor, "batch token"]) -> list[int]:
    """Tokens of each prompt.

    Raises:
        InputError: If padding stands anywhere but on the right.
    """
    lengths: list[int] = alive.sum(1).tolist()
    if not all(bool(row[:length].all()) for row, length in zip(alive, lengths, strict=True)):
        raise InputError("Prompts want their padding on the right; mask the tokens after each prompt only.")
    return lengths
