"""The Engram: look rows up, decide how much of them to let in, spread it a little, write it."""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from engram_interp.errors import InputError
from engram_interp.memory.config import EngramConfig, GateKind
from engram_interp.memory.conv import ShortConv
from engram_interp.memory.norm import StreamRMSNorm

_SMALLEST_SCORE = 1e-6


def gate_logit(score: Float[Tensor, "*shape"], kind: GateKind) -> Float[Tensor, "*shape"]:
    """What the gate's sigmoid is taken of: the score's signed square root, or the score itself.

    The paper's equation 4 prints the plain score; the demo and both released model families take
    ``sign(s) · sqrt(max(|s|, 1e-6))``.
    """
    if kind == "signed_sqrt":
        return score.abs().clamp_min(_SMALLEST_SCORE).sqrt() * score.sign()
    return score


class Engram(nn.Module):
    """Conditional memory of one layer (paper section 2, eqs. 1-5), with every tensor on a hook point.

    The retrieved vector e is the token's rows side by side; a key per residual stream and one shared
    value are linear in it. The gate is ``sigmoid(f(⟨norm(h), norm(k)⟩ / sqrt(d_model)))`` per token and
    stream, in (0, 1), neutral at 0.5. The write is the gated value plus its short convolution.

    Args:
        config: Shape and rules of the memory.
        d_model: Width of the residual stream.
        n_streams: Residual streams M.
        n_rows: Rows of this layer's table.
    """

    def __init__(self, config: EngramConfig, *, d_model: int, n_streams: int = 1, n_rows: int) -> None:
        super().__init__()
        self.config, self.d_model, self.n_streams = config, d_model, n_streams
        self.table = nn.Embedding(n_rows, config.d_row, sparse=True)
        self.key = nn.Linear(config.d_memory, n_streams * d_model, bias=config.bias)
        self.value = nn.Linear(config.d_memory, d_model, bias=config.bias)
        self.key_norm = StreamRMSNorm(n_streams, d_model, eps=config.norm_eps, kind=config.norm)
        self.query_norm = StreamRMSNorm(n_streams, d_model, eps=config.norm_eps, kind=config.norm)
        self.conv = ShortConv(config, d_model=d_model, n_streams=n_streams) if config.conv_kernel else None
        self.hook_rows = HookPoint()
        self.hook_memory = HookPoint()
        self.hook_mem_key = HookPoint()
        self.hook_mem_value = HookPoint()
        self.hook_key_normed = HookPoint()
        self.hook_query_normed = HookPoint()
        self.hook_score = HookPoint()
        self.hook_gate_logit = HookPoint()
        self.hook_gate = HookPoint()
        self.hook_gated_value = HookPoint()
        self.hook_conv_out = HookPoint()
        self.reset_parameters()

    def reset_parameters(self, *, std: float = 0.02) -> None:
        """Initial weights: rows and projections N(0, std²), norms neutral, convolution zero."""
        nn.init.normal_(self.table.weight, std=std)
        for linear in (self.key, self.value):
            nn.init.normal_(linear.weight, std=std)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def retrieve(
        self, rows: Int64[Tensor, "batch token column"]
    ) -> Float[Tensor, "batch token column d_row"]:
        """The table rows at these addresses.

        Raises:
            InputError: If an address lies outside the table or the number of columns is wrong.
        """
        if rows.shape[-1] != self.config.columns:
            raise InputError(
                f"This memory reads {self.config.columns} rows a token, got {rows.shape[-1]} columns."
            )
        try:
            read = self.table(self.hook_rows(rows))
        except IndexError as cause:  # on a GPU torch stops the process's kernels itself
            raise InputError(
                f"An address lies outside this memory's {self.table.num_embeddings:,} rows (got "
                f"{int(rows.min())} … {int(rows.max())}); it was made with another hash layout."
            ) from cause
        if torch.is_grad_enabled() and self.hook_memory.bwd_hooks:
            read.requires_grad_()  # gradients reach the hook of a frozen table too
        memory: Tensor = self.hook_memory(read)
        return memory

    def gate(
        self,
        hidden: Float[Tensor, "batch token stream d_model"],
        memory: Float[Tensor, "batch token column d_row"],
    ) -> Float[Tensor, "batch token stream"]:
        """How much of the memory each stream lets in at each token, in (0, 1); 1 if ungated."""
        key = self.key(memory.flatten(-2)).unflatten(-1, (self.n_streams, self.d_model))
        key = self.hook_key_normed(self.key_norm(self.hook_mem_key(key)))
        query = self.hook_query_normed(self.query_norm(hidden))
        score = self.hook_score((query * key).sum(-1) / math.sqrt(self.d_model))
        return self._opened(self.hook_gate_logit(gate_logit(score, self.config.gate)))

    def gate_of(
        self,
        query: Float[Tensor, "batch token stream d_model"],
        key: Float[Tensor, "batch token stream d_model"],
    ) -> Float[Tensor, "batch token stream"]:
        """The gate that a normalised query and key would give, past no hook point; for null models."""
        score = (query * key).sum(-1) / math.sqrt(self.d_model)
        return self._opened(gate_logit(score, self.config.gate))

    def _opened(self, logit: Float[Tensor, "batch token stream"]) -> Float[Tensor, "batch token stream"]:
        return torch.ones_like(logit) if self.config.gate == "open" else torch.sigmoid(logit)

    def forward(
        self,
        hidden: Float[Tensor, "batch token stream d_model"],
        rows: Int64[Tensor, "batch token column"],
        dead: Bool[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch token stream d_model"]:
        """What the memory writes into every stream; the caller adds it.

        Args:
            hidden: Residual streams before attention.
            rows: Table addresses, offsets included.
            dead: Positions whose gate is shut because the memory must not see them.
        """
        memory = self.retrieve(rows)
        gate = self.gate(hidden, memory)
        if dead is not None:
            gate = gate.masked_fill(dead[..., None], 0.0)
        gate = self.hook_gate(gate)
        value = self.hook_mem_value(self.value(memory.flatten(-2)))
        gated: Tensor = self.hook_gated_value(gate[..., None] * value[..., None, :])
        if self.conv is None:
            return gated
        written: Tensor = gated + self.hook_conv_out(self.conv(gated))
        return written
