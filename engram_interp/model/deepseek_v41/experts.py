"""The feed-forward: routed experts and one that every token passes."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens.hook_points import HookPoint

from engram_interp.model.deepseek_v41.config import V41Config
from engram_interp.model.deepseek_v41.rows import RowLinear, each


class Expert(nn.Module):
    """``W_out (silu(W_gate x) · W_in x)`` with the two factors bounded."""

    def __init__(self, d_model: int, d_hidden: int, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.gate, self.into = RowLinear(d_model, d_hidden), RowLinear(d_model, d_hidden)
        self.out = RowLinear(d_hidden, d_model)

    def forward(
        self, x: Float[Tensor, "row d_model"], gain: Float[Tensor, " row"] | None = None
    ) -> Float[Tensor, "row d_model"]:
        """Output of every row, times its gain."""
        gate, into = self.gate(x), self.into(x)
        if self.limit > 0:
            gate, into = gate.clamp(max=self.limit), into.clamp(-self.limit, self.limit)
        hidden = each(functional.silu, gate) * into
        output: Tensor = self.out(hidden if gain is None else hidden * gain[:, None])
        return output


class MixtureOfExperts(nn.Module):
    """Top-k routed experts and a shared one.

    Scores are ``sqrt(softplus(x))``. A bias takes part in the choice of experts but not in their weights.
    The experts are empty on a model that is streamed: they come from the disk one at a time.
    """

    def __init__(self, cfg: V41Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.router = RowLinear(cfg.d_model, cfg.n_experts)
        self.bias = nn.Parameter(torch.empty(cfg.n_experts))
        self.shared = Expert(cfg.d_model, cfg.d_expert, cfg.expert_limit)
        self.experts = nn.ModuleList()
        self.hook_router_scores, self.hook_expert_ids = HookPoint(), HookPoint()
        self.hook_expert_weights = HookPoint()

    def route(
        self, x: Float[Tensor, "batch token d_model"]
    ) -> tuple[Int64[Tensor, "batch token choice"], Float[Tensor, "batch token choice"]]:
        """Chosen experts and their weights."""
        logits = self.router(x) / self.cfg.route_temperature
        scores = self.hook_router_scores(each(functional.softplus, logits).sqrt())
        chosen = self.hook_expert_ids((scores + self.bias).topk(self.cfg.experts_per_token, dim=-1).indices)
        weights = scores.gather(-1, chosen)
        if self.cfg.normalise_weights and self.cfg.experts_per_token > 1:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return chosen, self.hook_expert_weights(weights * self.cfg.route_scale)

    def forward(
        self, x: Float[Tensor, "batch token d_model"], alive: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token d_model"]:
        """Routed experts plus the shared one; zero at padding."""
        chosen, weights = self.route(x)
        rows, ids, gains = x[alive], chosen[alive], weights[alive]
        routed = torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            token, choice = (ids == number).nonzero(as_tuple=True)
            if len(token):
                routed = routed.index_add(0, token, expert(rows[token], gains[token, choice]))
        out = torch.zeros_like(x)
        out[alive] = routed + self.shared(rows)
        return out
