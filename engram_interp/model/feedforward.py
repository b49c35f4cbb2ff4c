"""Feed-forward layers: dense SwiGLU, or a mixture of SwiGLU experts."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint

from engram_interp.model.config import ModelConfig

_TILE = 64


class SwiGLU(nn.Module):
    """``W_out (silu(W_gate x) · W_in x)``; `hook_post` is the product `[batch token d_mlp]`."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.gate_and_in = nn.Linear(d_model, 2 * d_mlp, bias=False)
        self.out = nn.Linear(d_mlp, d_model, bias=False)
        self.hook_pre, self.hook_pre_linear, self.hook_post = HookPoint(), HookPoint(), HookPoint()

    @property
    def W_out(self) -> Float[Tensor, "d_mlp d_model"]:
        """What each neuron writes."""
        return self.out.weight.mT

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Feed-forward output, same shape."""
        gate, linear = self.gate_and_in(x).chunk(2, dim=-1)
        post = self.hook_post(functional.silu(self.hook_pre(gate)) * self.hook_pre_linear(linear))
        output: Tensor = self.out(post)
        return output


def _whole_tiles(token: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and gains with rows of gain 0 at the end: every new size costs a compiled kernel on a CPU."""
    short = -len(token) % _TILE
    return functional.pad(token, (0, short)), functional.pad(gain, (0, 0, 0, short))


class MixtureOfExperts(nn.Module):
    """Top-k routed experts and one shared expert, balanced without an auxiliary loss.

    Scores are sigmoids; a bias per expert, moved against its load after every training step, takes
    part in the choice of experts but not in their weights (Wang et al. 2024, arXiv 2408.15664). The
    chosen scores are normalised to sum to 1.
    """

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.per_token, self.rate = cfg.experts_per_token, cfg.balance_rate
        self.router = nn.Linear(cfg.d_model, cfg.n_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(cfg.d_model, cfg.d_expert) for _ in range(cfg.n_experts))
        self.shared = SwiGLU(cfg.d_model, cfg.d_mlp)
        self.register_buffer("balance", torch.zeros(cfg.n_experts))
        self.register_buffer("load", torch.zeros(cfg.n_experts), persistent=False)
        self.hook_router_scores, self.hook_expert_ids = HookPoint(), HookPoint()
        self.hook_expert_weights = HookPoint()

    def route(
        self, x: Float[Tensor, "batch token d_model"]
    ) -> tuple[Int64[Tensor, "batch token choice"], Float[Tensor, "batch token choice"]]:
        """Chosen experts and their weights, which sum to 1 per token."""
        scores = self.hook_router_scores(torch.sigmoid(self.router(x)))
        chosen = (scores + self.get_buffer("balance")).topk(self.per_token, dim=-1).indices
        chosen = self.hook_expert_ids(chosen)
        weights = scores.gather(-1, chosen)
        weights = self.hook_expert_weights(weights / weights.sum(-1, keepdim=True))
        return chosen, weights

    def forward(self, x: Float[Tensor, "batch token d_model"]) -> Float[Tensor, "batch token d_model"]:
        """Shared expert plus the weighted routed ones, same shape."""
        chosen, weights = self.route(x)
        flat, ids, gains = x.flatten(0, 1), chosen.flatten(0, 1), weights.flatten(0, 1)
        if self.training:
            self.get_buffer("load").add_(torch.bincount(ids.flatten(), minlength=len(self.experts)))
        routed = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            token, choice = (ids == number).nonzero(as_tuple=True)
            if len(token):
                gain = gains[token, choice, None]
                if self.training:
                    token, gain = _whole_tiles(token, gain)
                output = expert(flat[token]) * gain
                routed = routed.index_add(0, token, output.to(routed.dtype))
        shared: Tensor = self.shared(x)
        return shared + routed.view_as(x)

    @torch.no_grad()
    def rebalance(self) -> None:
        """Move the selection bias one step towards equal load, and forget the load counted so far."""
        load = self.get_buffer("load")
        self.get_buffer("balance").add_(self.rate * torch.sign(load.mean() - load))
        load.zero_()
