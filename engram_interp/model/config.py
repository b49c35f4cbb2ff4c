"""The native model's configuration, with the attribute names TransformerLens's tools look for."""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from engram_interp.errors import InputError
from engram_interp.memory.config import EngramConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of a decoder-only transformer, dense or mixture-of-experts, with or without memory.

    Attributes:
        n_layers: Blocks.
        d_model: Width of the residual stream.
        n_heads: Attention heads; d_model / n_heads is the head width.
        d_mlp: Hidden width of the dense SwiGLU feed-forward (of the shared expert with experts).
        d_vocab: Token ids.
        n_ctx: Longest input, in tokens.
        rope_theta: Base of the rotary frequencies.
        rms_eps: Added to the mean square in every norm. The norms have no gains: a gain would be
            folded into the matrix that follows, as TransformerLens does on loading.
        n_streams: Residual streams M; above 1 they are mixed by hyper-connections.
        sinkhorn_steps: Row-column normalisations that make the stream mix doubly stochastic.
        n_experts: Routed experts, 0 for a dense feed-forward.
        d_expert: Hidden width of a routed expert.
        experts_per_token: Routed experts each token uses.
        balance_rate: Step of the loss-free load balancing bias.
        separator_id: Token id that opens every document.
        engram: The memory, or None for a baseline.
        init_seed: Seed of the initial weights (the untrained null re-creates them).
    """

    n_layers: int
    d_model: int
    n_heads: int
    d_mlp: int
    d_vocab: int
    n_ctx: int
    rope_theta: float = 10_000.0
    rms_eps: float = 1e-6
    n_streams: int = 1
    sinkhorn_steps: int = 20
    n_experts: int = 0
    d_expert: int = 128
    experts_per_token: int = 2
    balance_rate: float = 1e-3
    separator_id: int = 0
    engram: EngramConfig | None = None
    init_seed: int = 0

    normalization_type: ClassVar[str] = "RMSPre"
    act_fn: ClassVar[str] = "silu"
    positional_embedding_type: ClassVar[str] = "rotary"
    attn_only: ClassVar[bool] = False
    gated_mlp: ClassVar[bool] = True
    model_name: ClassVar[str] = "engram-interp-native"
    n_key_value_heads: ClassVar[None] = None
    device: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise InputError(
                f"Rotary attention wants d_model divisible into heads of even width, got d_model="
                f"{self.d_model} and n_heads={self.n_heads}."
            )
        if min(self.n_layers, self.d_vocab, self.n_ctx, self.n_streams, self.d_mlp) < 1:
            raise InputError("n_layers, d_vocab, n_ctx, n_streams and d_mlp want to be at least 1.")
        if self.n_experts and not 1 <= self.experts_per_token <= self.n_experts:
            raise InputError(
                f"experts_per_token wants to lie in 1 … {self.n_experts}, got {self.experts_per_token}."
            )
        if self.engram is not None and any(i >= self.n_layers for i in self.engram.layer_ids):
            raise InputError(
                f"Memory layers {self.engram.layer_ids} want to lie in 0 … {self.n_layers - 1} (counted "
                "from 0; the paper counts from 1)."
            )

    @property
    def d_head(self) -> int:
        """Width of an attention head."""
        return self.d_model // self.n_heads

    @property
    def memory_layers(self) -> tuple[int, ...]:
        """Layers with a memory, counted from 0; empty for a baseline."""
        return () if self.engram is None else self.engram.layer_ids

    def to_dict(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The configuration that `to_dict` wrote.

        Raises:
            InputError: If a key is unknown or a required one is missing.
        """
        return cls(**_checked(cls, values, "model"))


def _checked(kind: type, values: dict[str, Any], name: str) -> dict[str, Any]:
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    required = {"n_layers", "d_model", "n_heads", "d_mlp", "d_vocab", "n_ctx"} if name == "model" else set()
    missing = sorted((required | ({"layer_ids"} if name == "engram" else set())) - set(values))
    if unknown or missing:
        raise InputError(
            f"The {name} configuration has unknown keys {unknown} and lacks {missing}; it was made by "
            "another version or is not a native configuration."
        )
    out: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    memory = out.get("engram")
    if isinstance(memory, dict):
        out["engram"] = EngramConfig(**_checked(EngramConfig, memory, "engram"))
    return out
