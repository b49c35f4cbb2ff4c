"""Which compressed entries each token attends to."""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from engram_interp.model.deepseek_v41 import fake_quantise
from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.rope import rotate
from engram_interp.model.deepseek_v41.rows import RMSNorm, RowLinear
from engram_interp.model.deepseek_v41.shared import Shared


def candidate_blocks(
    scores: Float[Tensor, "token entry"], visible: Int64[Tensor, " token"], *, blocks: int, size: int
) -> Bool[Tensor, "token entry"]:
    """The entries in each token's best blocks; a block is as good as its best entry.

    The block of the newest visible entry is always kept: it may be only partly filled.

    Args:
        scores: −∞ at entries that the token cannot see.
        visible: How many it can see.
        blocks: Blocks that are kept, at most.
        size: Entries a block.
    """
    width = scores.shape[1]
    best = functional.pad(scores, (0, -width % size), value=-torch.inf).unflatten(1, (-1, size)).amax(-1)
    newest = torch.arange(best.shape[1], device=scores.device) == ((visible - 1) // size)[:, None]
    best = best.masked_fill(newest, torch.inf)
    return _highest(best, blocks).repeat_interleave(size, dim=1)[:, :width]


def _highest(scores: Float[Tensor, "token place"], count: int) -> Bool[Tensor, "token place"]:
    """The best places of each token, at most `count` and none of −∞.

    Of equal scores (ReLU makes many zeros) the first wins: `topk` breaks ties by the width it is given, which
    grows with the tokens that come later.
    """
    order = scores.sort(dim=-1, descending=True, stable=True)
    best, places = order.values[:, :count], order.indices[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, places, best > -torch.inf)


class Indexer(nn.Module):
    """Scores entries with small rounded queries and keys, and keeps the best of each token.

    A layer that compresses makes the keys; a later one scores them anew with its own queries.
    """

    def __init__(self, cfg: V41Config, layer: int) -> None:
        super().__init__()
        self.cfg, self.ratio = cfg, cfg.ratios[layer]
        self.is_candidate_source = layer == cfg.candidate_source
        self.q = RowLinear(cfg.q_rank, cfg.n_index_heads * cfg.d_index)
        self.head_weights = RowLinear(cfg.d_model, cfg.n_index_heads)
        if layer in cfg.key_sources:
            self.k = RowLinear(cfg.d_head, cfg.d_index)
            self.k_norm = RMSNorm(cfg.d_index, cfg.rms_eps)

    def forward(
        self,
        x: Float[Tensor, "token d_model"],
        query: Float[Tensor, "token q_rank"],
        latent: Float[Tensor, "entry d_head"] | None,
        shared: Shared,
        frequency: Float[Tensor, " pair"],
        *,
        chunk: int,
    ) -> Shared:
        """What is shared, with a new choice of entries (and new keys from new latents).

        Args:
            x: What the attention reads.
            query: Its normalised low-rank query.
            latent: New latents, not rotated; None to score the keys that are there.
            shared: From the layers before.
            frequency: Of the rotation.
            chunk: Tokens at a time.
        """
        keys, limits = shared.keys, shared.candidates
        if latent is not None:
            positions = torch.arange(len(latent), device=x.device) * self.ratio
            keys = fake_quantise.fp4(rotate(self.k_norm(self.k(latent)), frequency, positions))
        assert keys is not None
        selected = torch.zeros(len(x), len(keys), dtype=torch.bool, device=x.device)
        kept = torch.zeros_like(selected) if self.is_candidate_source else None
        for start in range(0, len(x), chunk):
            stop = min(start + chunk, len(x))
            seen = stop // self.ratio
            if not seen:
                continue
            visible = torch.arange(start + 1, stop + 1, device=x.device) // self.ratio
            positions = torch.arange(start, stop, device=x.device)
            scores = self._scores(x[start:stop], query[start:stop], keys[:seen], frequency, positions)
            hidden = torch.arange(seen, device=x.device) >= visible[:, None]
            scores = scores.masked_fill(hidden, -torch.inf)
            if kept is not None:
                kept[start:stop, :seen] = candidate_blocks(
                    scores, visible, blocks=self.cfg.candidate_blocks, size=self.cfg.candidate_block_size
                )
            elif limits is not None:
                scores = scores.masked_fill(~limits[start:stop, :seen], -torch.inf)
            selected[start:stop, :seen] = _highest(scores, self.cfg.index_top_k)
        return replace(shared, keys=keys, selected=selected, candidates=limits if kept is None else kept)

    def _scores(
        self,
        x: Float[Tensor, "token d_model"],
        query: Float[Tensor, "token q_rank"],
        keys: Float[Tensor, "entry d_index"],
        frequency: Float[Tensor, " pair"],
        positions: Int64[Tensor, " token"],
    ) -> Float[Tensor, "token entry"]:
        heads = self.cfg.n_index_heads
        q = rearrange(self.q(query), "token (head d_index) -> head token d_index", head=heads)
        q = fake_quantise.fp4(rotate(q, frequency, positions))
        products = torch.relu(q.flatten(0, 1) @ keys.mT) * self.cfg.d_index**-0.5
        weights = self.head_weights(x) * heads**-0.5
        scores: Tensor = (products.unflatten(0, (heads, -1)) * weights.mT[..., None]).sum(0)
        return scores
