"""The linear path from what the memory read to a logit, everything else frozen at its values in the run.

The residual that the final norm reads is a sum: every sublayer's output, pushed through the mixes of the
streams that come after it. Inside a memory the value is linear in the rows; the gate, the convolution's norm
and its σ in ``silu(z) = z·σ(z)`` are numbers of the run. So a value read at a source token reaches the
prediction at a position channel by channel, and all parts sum to the logit exactly. What later layers compute
*from* a write is in their own parts (a direct effect leaves it out).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.capture.draws import OtherRows, seeded
from engram_interp.capture.memories import engram_of
from engram_interp.capture.record import Recording
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.conv import ShortConv

_MEMORY_SITES = ("rows", "memory", "gate", "gated_value")
_MIXES = tuple(f"hc_{part}.hook_{kind}" for part in ("attn", "mlp") for kind in ("post", "comb"))
_SCALE, _COLLAPSE = "ln_final.hook_scale", "readout.hook_pre"


@dataclass(frozen=True, kw_only=True)
class MemoryPath:
    """How one memory layer's reads reach the final, normalised residual at one position.

    Attributes:
        layer: The memory layer, counted from 0.
        sources: Tokens whose reads may reach the position, rising; the last is the position itself.
        rows: Table addresses read there.
        memory: Rows read there, float64.
        gate: Gates there, by stream.
        scale: Factor of each channel of a source's value on its way: gate, convolution, later mixes,
            collapse and final norm.
        value: Value projection, one block a column.
        bias: Its bias, zeros without one.
    """

    layer: int
    sources: tuple[int, ...]
    rows: Int64[Tensor, "source column"]
    memory: Float[Tensor, "source column d_row"]
    gate: Float[Tensor, "source stream"]
    scale: Float[Tensor, "source d_model"]
    value: Float[Tensor, "column d_model d_row"]
    bias: Float[Tensor, " d_model"]

    def contributions(
        self,
        direction: Float[Tensor, " d_model"],
        memory: Float[Tensor, "*draw source column d_row"] | None = None,
    ) -> Float[Tensor, "*draw source column"]:
        """What each row gives along a direction of the final, normalised residual.

        Args:
            direction: A token's unembedding, or the difference of two.
            memory: Rows in place of those that were read.
        """
        wanted = torch.einsum("sm,cmr->scr", self.scale * direction, self.value)
        return (wanted * (self.memory if memory is None else memory)).sum(-1)

    def bias_contributions(self, direction: Float[Tensor, " d_model"]) -> Float[Tensor, " source"]:
        """What the value projection's bias gives along a direction, by source."""
        return self.scale @ (self.bias * direction)

    def writes(
        self, memory: Float[Tensor, "*draw source column d_row"]
    ) -> Float[Tensor, "*draw source column d_model"]:
        """Each row's part of the final, normalised residual."""
        return torch.einsum("cmr,...scr->...scm", self.value, memory) * self.scale[:, None]


@dataclass(frozen=True, kw_only=True)
class DirectParts:
    """The final, normalised residual at one position, taken apart.

    Attributes:
        rest: By name as in TransformerLens ("embed", "0_attn_out", …): parts that no memory wrote, float64.
        paths: One per memory layer.
    """

    rest: dict[str, Float[Tensor, " d_model"]]
    paths: tuple[MemoryPath, ...]


def attribution_sites(model: SubjectModel) -> list[str]:
    """The sites whose values must be known to take a prediction apart.

    Raises:
        InputError: If the model has no memory, or one whose inside is not known.
    """
    if not model.memory_layers:
        raise InputError(f"{model.name} has no memory whose writes could be attributed; give one that has.")
    layers = range(model.n_layers)
    sites = [
        "hook_embed",
        _SCALE,
        *(f"blocks.{i}.hook_{part}_out" for i in layers for part in ("attn", "mlp")),
    ]
    sites += [f"blocks.{i}.engram.hook_{name}" for i in model.memory_layers for name in _MEMORY_SITES]
    if model.n_streams > 1:
        sites += [_COLLAPSE, *(f"blocks.{i}.{site}" for i in layers for site in _MIXES)]
    missing = [site for site in sites if site not in model.sites]
    if missing:
        raise InputError(
            f"{model.name} cannot be taken apart: {missing[:3]} ({len(missing)} sites in all) are not known. "
            "Name them in wrap(…, sites=…), the outputs of every sublayer and what their norms divide by, or "
            "give a HookedEngramTransformer."
        )
    for layer in model.memory_layers:
        engram_of(model, layer)
    if model.unembed is None or model.layout is None:
        raise InputError(
            f"{model.name} cannot be taken apart without its unembedding and hash layout; pass "
            "wrap(…, unembed=Unembed(weight=…), layout=…)."
        )
    return sites


def direct_parts(model: SubjectModel, rec: Recording, position: int) -> DirectParts:
    """Take the prediction at one position of a recorded prompt apart.

    Args:
        model: The model.
        rec: One prompt, recorded at `attribution_sites(model)`.
        position: Token whose prediction it is.
    """
    final = rec[_SCALE][0, position].double()
    weights = _collapse(model, rec, position)
    rest: dict[str, Tensor] = {}
    arriving: dict[int, Tensor] = {}  # by layer, the weight in the end of what is added to each stream there
    for layer in reversed(range(model.n_layers)):
        for part in ("mlp", "attn"):
            output = rec[f"blocks.{layer}.hook_{part}_out"][0, position].double() / final
            if model.n_streams > 1:
                post, comb = (
                    rec[f"blocks.{layer}.hc_{part}.hook_{kind}"][0, position].double()
                    for kind in ("post", "comb")
                )
                output, weights = output * (weights @ post), weights @ comb
            rest[f"{layer}_{part}_out"] = output
        arriving[layer] = weights
    rest["embed"] = rec["hook_embed"][0, position].double() * weights.sum() / final
    sources = _sources(model, position)
    return DirectParts(
        rest=dict(reversed(rest.items())),
        paths=tuple(
            _path(model, rec, layer, sources, weights=arriving[layer], final=final)
            for layer in model.memory_layers
        ),
    )


def _collapse(model: SubjectModel, rec: Recording, position: int) -> Tensor:
    """The weight of each stream in the residual that the final norm reads."""
    if model.n_streams == 1:
        return torch.ones(1, dtype=torch.float64)
    return rec[_COLLAPSE][0, position].double()


def _sources(model: SubjectModel, position: int) -> tuple[int, ...]:
    """Every token that some memory layer's convolution spreads to the position, and the position."""
    found = {position}
    for layer in model.memory_layers:
        conv = engram_of(model, layer).conv
        if conv is not None:
            step = conv.conv.dilation[0]
            found |= {position - lag for lag in range(0, conv.reach + 1, step)}
    return tuple(sorted(source for source in found if source >= 0))


def _path(
    model: SubjectModel, rec: Recording, layer: int, sources: Sequence[int], *, weights: Tensor, final: Tensor
) -> MemoryPath:
    engram, at = engram_of(model, layer), f"blocks.{layer}.engram.hook_"
    rows, memory, gate, gated = (rec[at + name][0][list(sources)] for name in _MEMORY_SITES)
    memory, gate, gated = memory.double(), gate.double(), gated.double()
    spread = torch.zeros_like(gated)
    spread[-1] = 1
    if engram.conv is not None:
        spread += _convolved(engram.conv, gated, sources)
    weight = engram.value.weight.detach().cpu().double()
    bias = engram.value.bias
    return MemoryPath(
        layer=layer,
        sources=tuple(sources),
        rows=rows,
        memory=memory,
        gate=gate,
        scale=torch.einsum("s,ts,tsm->tm", weights, gate, spread) / final,
        value=weight.unflatten(-1, memory.shape[1:]).movedim(1, 0),
        bias=weight.new_zeros(len(weight)) if bias is None else bias.detach().cpu().double(),
    )


def _convolved(
    conv: ShortConv, gated: Float[Tensor, "source stream d_model"], sources: Sequence[int]
) -> Float[Tensor, "source stream d_model"]:
    """What the convolution makes of one unit of each source's gated value at the last source."""
    taps = conv.conv.weight.detach().cpu().double()[:, 0].unflatten(0, gated.shape[1:])
    lags = [(sources[-1] - source, row) for row, source in enumerate(sources)]
    step = conv.conv.dilation[0]
    unit = torch.rsqrt(gated.square().mean(-1, keepdim=True) + conv.norm.eps)
    unit = unit * conv.norm.gain.detach().cpu().double()
    spread = torch.zeros_like(gated)
    for lag, row in lags:
        if lag % step == 0 and lag <= conv.reach:
            spread[row] = unit[row] * taps[..., taps.shape[-1] - 1 - lag // step]
    opened = torch.sigmoid((spread * gated).sum(0))
    return spread * opened


def other_rows(
    model: SubjectModel, path: MemoryPath, *, draws: int, seed: int
) -> Float[Tensor, "draw source column d_row"]:
    """Rows drawn at random in place of those read, as `draws.OtherRows` draws them.

    Args:
        model: The model.
        path: What was read.
        draws: How many times.
        seed: Of the draws; every layer draws its own.
    """
    chance = torch.rand((draws, *path.rows.shape), generator=seeded(seed, path.layer), dtype=torch.float64)
    chosen = OtherRows.of(model, path.layer)(path.rows, chance)
    table = engram_of(model, path.layer).table.weight.detach()
    return table[chosen.to(table.device)].cpu().double()
