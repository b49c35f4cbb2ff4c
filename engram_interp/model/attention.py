"""Causal self-attention with rotary positions."""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint

from engram_interp.model.config import ModelConfig


def _hooked(point: HookPoint) -> bool:
    # HookPoint.has_hooks() sees TransformerLens's hooks only, not torch's own.
    return bool(point._forward_hooks or point._backward_hooks)


class Attention(nn.Module):
    """Multi-head causal attention through torch's `scaled_dot_product_attention`.

    Scores and pattern exist only in the explicit form, which runs when one of their hook points (or
    `hook_result`) is hooked; it agrees with the fused one to float32 rounding.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.d_head, self.n_ctx = cfg.n_heads, cfg.d_head, cfg.n_ctx
        self.qkv = nn.Linear(cfg.d_model, 3 * cfg.d_model, bias=False)
        self.out = nn.Linear(cfg.d_model, cfg.d_model, bias=False)
        frequency = cfg.rope_theta ** (-torch.arange(0, cfg.d_head, 2) / cfg.d_head)
        angle = torch.arange(cfg.n_ctx)[:, None] * frequency
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None], persistent=False)
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()
        self.hook_rot_q, self.hook_rot_k = HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()
        self.hook_z, self.hook_result = HookPoint(), HookPoint()

    @property
    def W_O(self) -> Float[Tensor, "head d_head d_model"]:
        """Output weights per head."""
        return rearrange(self.out.weight, "d_model (head d_head) -> head d_head d_model", head=self.n_heads)

    def _projection(self, part: int) -> Float[Tensor, "head d_model d_head"]:
        return rearrange(
            self.qkv.weight.chunk(3)[part], "(head d_head) d_model -> head d_model d_head", head=self.n_heads
        )

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        """Query weights per head."""
        return self._projection(0)

    @property
    def W_K(self) -> Float[Tensor, "head d_model d_head"]:
        """Key weights per head."""
        return self._projection(1)

    @property
    def W_V(self) -> Float[Tensor, "head d_model d_head"]:
        """Value weights per head."""
        return self._projection(2)

    def _rotate(
        self, x: Float[Tensor, "batch token head d_head"]
    ) -> Float[Tensor, "batch token head d_head"]:
        cos, sin = self.get_buffer("cos")[: x.shape[1]], self.get_buffer("sin")[: x.shape[1]]
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def forward(
        self,
        x: Float[Tensor, "batch token d_model"],
        alive: Bool[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch token d_model"]:
        """Attention output; keys at positions that are not alive are never attended."""
        split = "batch token (part head d_head) -> part batch token head d_head"
        q, k, v = rearrange(self.qkv(x), split, part=3, head=self.n_heads)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        q, k = self.hook_rot_q(self._rotate(q)), self.hook_rot_k(self._rotate(k))
        mask = None
        if alive is not None:
            length = x.shape[1]
            causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
            # A padded query sees itself, so that its row is defined; nobody reads it.
            mask = causal & (alive[:, None, None, :] | torch.eye(length, dtype=torch.bool, device=x.device))
        q, k, v = (rearrange(t, "batch token head d_head -> batch head token d_head") for t in (q, k, v))
        # In bfloat16 on a CPU torch's fused kernel takes twice the explicit form's time, gradients included.
        slow = v.dtype == torch.bfloat16 and v.device.type == "cpu" and v.requires_grad
        if slow or _hooked(self.hook_pattern) or _hooked(self.hook_attn_scores):
            z = self._explicit(q, k, v, mask)
        else:
            z = functional.scaled_dot_product_attention(
                query=q, key=k, value=v, attn_mask=mask, is_causal=mask is None
            )
        z = self.hook_z(rearrange(z, "batch head token d_head -> batch token head d_head"))
        if _hooked(self.hook_result):
            result: Tensor = self.hook_result(torch.einsum("bthd,hdm->bthm", z, self.W_O))
            return result.sum(2)
        output: Tensor = self.out(z.flatten(-2))
        return output

    def _explicit(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        length = q.shape[-2]
        if mask is None:
            mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
        # Added rather than filled in: the sum needs no mask on the way back.
        ahead = torch.zeros_like(mask, dtype=v.dtype).masked_fill(~mask, -torch.inf)
        scores = (q / math.sqrt(self.d_head)) @ k.mT + ahead
        pattern: Tensor = self.hook_pattern(self.hook_attn_scores(scores).softmax(-1))
        return pattern @ v
