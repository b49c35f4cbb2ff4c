"""What a model costs: parameters it has, parameters a token uses, operations a token takes."""

from dataclasses import dataclass

from torch import nn

from engram_interp.model.feedforward import MixtureOfExperts
from engram_interp.model.transformer import HookedEngramTransformer


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Counts of one model.

    Attributes:
        parameters: All of them; the tied embedding counts once.
        table_parameters: Those in table rows, of which a token reads a few and computes with none.
        active_parameters: Weights a token is multiplied with: its experts, not the others, and no table.
        flops_per_token: Forward operations a token at the full context: two per active weight (a
            convolution's included), and attention's products with an average of half the context. Norms,
            gates, softmax and stream mixes, a few per channel, are left out.
    """

    parameters: int
    table_parameters: int
    active_parameters: int
    flops_per_token: int

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.2f}M parameters, {self.table_parameters / 1e6:.2f}M of them in tables; "
            f"a token uses {self.active_parameters / 1e6:.2f}M and {self.flops_per_token / 1e6:.2f} MFLOP"
        )


def cost(model: HookedEngramTransformer) -> Cost:
    """Count a model's parameters and operations."""
    cfg = model.cfg
    tables = sum(p.numel() for n, p in model.named_parameters() if n.endswith("engram.table.weight"))
    used = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear | nn.Conv1d))
    for mixture in model.modules():
        if isinstance(mixture, MixtureOfExperts):
            idle = len(mixture.experts) - mixture.per_token
            used -= idle * sum(p.numel() for p in mixture.experts[0].parameters())
    used += model.embed.weight.numel()  # as the unembedding
    attention = cfg.n_layers * 4 * cfg.d_model * (cfg.n_ctx + 1) // 2
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        table_parameters=tables,
        active_parameters=used,
        flops_per_token=2 * used + attention,
    )
