"""The parts of a logit against the slow definition: run the model frozen, take one part out, look."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from engram_interp.capture import record
from engram_interp.capture.attribute import attribution_sites, direct_parts, other_rows
from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.memory.module import Engram
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support

POSITION, TOKENS, TARGET = 8, 11, 17
IDS = support.token_ids(1, TOKENS, seed=3)
MEMORIES: list[tuple[int, dict[str, Any]]] = [
    (1, {"bias": True}),
    (4, {"bias": True}),
    (1, {"conv_kernel": 0}),
    (4, {"conv_kernel": 3, "conv_dilation": 2, "norm": "zero_centred", "bias": True}),
]


def double_subject(**changes: Any) -> SubjectModel:
    memory = support.memory_config(**changes.pop("memory"))
    model = support.model(support.model_config(memory=memory, **changes)).double()
    return subject_of(model, support.tokenizer(), name="tiny")


def slow_conv(engram: Engram, seen: Tensor, gated: Tensor) -> Tensor:
    """The convolution written as a loop, its norm and σ as they were with `seen`."""
    conv, (kernel, step) = engram.conv, (engram.config.conv_kernel, engram.config.dilation)
    assert conv is not None
    divisor = (seen.square().mean(-1, keepdim=True) + engram.config.conv_norm_eps).sqrt()
    weight = conv.norm.weight + (1 if conv.norm.zero_centred else 0)
    taps = conv.conv.weight.view(*weight.shape, kernel)

    def spread(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for token in range(x.shape[1]):
            for tap in range(kernel):
                source = token - (kernel - 1 - tap) * step
                if source >= 0:
                    out[:, token] += taps[..., tap] * weight * x[:, source] / divisor[:, source]
        return out

    return spread(gated) * torch.sigmoid(spread(seen))


def logits_without(model: HookedEngramTransformer, site: str, index: Sequence[tuple[int, ...]]) -> Tensor:
    """The target's logit with one entry of a site set to zero: one batch row for each entry of `index`.

    Everything that is not linear in the memory's rows or the sublayers' outputs stays as it was in the run.
    """
    _, cache = model.run_with_cache(IDS)
    endings = ("hook_gate", "_out", "hook_post", "hook_comb", "readout.hook_pre", "ln_final.hook_scale")
    moving = ("engram_out", "conv_out", ".mlp.")
    kept = [name for name in cache if name.endswith(endings) and not any(part in name for part in moving)]
    hooks: list[Any] = [
        (name, lambda x, hook: cache[hook.name].expand(len(index), *x.shape[1:])) for name in kept
    ]

    def drop(x: Tensor, hook: Any) -> Tensor:
        x = x.clone()
        for row, entry in enumerate(index):
            x[(row, *entry)] = 0
        return x

    with pytest.MonkeyPatch.context() as patch:
        for layer in model.cfg.memory_layers:
            engram = model.get_submodule(f"blocks.{layer}.engram")
            assert isinstance(engram, Engram)
            if engram.conv is not None:
                seen = cache[f"blocks.{layer}.engram.hook_gated_value"]
                patch.setattr(engram.conv, "forward", lambda x, e=engram, s=seen: slow_conv(e, s, x))
        found: Tensor = model.run_with_hooks(IDS.expand(len(index), -1), fwd_hooks=[*hooks, (site, drop)])
    return found[:, POSITION, TARGET]


@pytest.mark.parametrize(("n_streams", "memory"), MEMORIES)
def test_every_part_is_what_the_frozen_model_loses_without_it(n_streams: int, memory: dict[str, Any]) -> None:
    subject = double_subject(memory=memory, n_streams=n_streams, n_experts=5)
    model: Any = subject.module
    rec = record(subject, IDS, sites=attribution_sites(subject), dtype=torch.float64)
    parts = direct_parts(subject, rec, POSITION)
    direction, whole = model.W_U[:, TARGET], rec.logits[0, POSITION, TARGET]
    kernel, step = memory.get("conv_kernel", 4), memory.get("conv_dilation", 3)
    sources = [t for t in (POSITION - lag * step for lag in reversed(range(max(kernel, 1)))) if t >= 0]
    entries = [(token, column) for token in range(TOKENS) for column in range(6)]
    for path in parts.paths:
        assert list(path.sources) == sources
        expected = torch.zeros(TOKENS, 6, dtype=torch.float64)
        expected[sources] = path.contributions(direction)
        assert (expected[sources].abs() > 1e-6).all()
        without = logits_without(model, f"blocks.{path.layer}.engram.hook_memory", entries)
        torch.testing.assert_close((whole - without).view(TOKENS, 6), expected, atol=1e-9, rtol=0)
    for name in ("embed", "0_mlp_out", "2_attn_out"):
        site = "hook_embed" if name == "embed" else "blocks.{}.hook_{}_out".format(*name.split("_"))
        lost = whole - logits_without(model, site, [(POSITION,)])
        torch.testing.assert_close((parts.rest[name] @ direction)[None], lost, atol=1e-9, rtol=0)
    total = sum(part @ direction for part in parts.rest.values())
    for path in parts.paths:
        total = total + path.contributions(direction).sum() + path.bias_contributions(direction).sum()
    torch.testing.assert_close(total, whole, atol=1e-9, rtol=0)


def test_writes_are_the_vectors_behind_the_contributions() -> None:
    subject = double_subject(memory={"bias": True}, n_streams=4)
    rec = record(subject, IDS, sites=attribution_sites(subject), dtype=torch.float64)
    for path in direct_parts(subject, rec, POSITION).paths:
        direction = torch.linspace(-1, 2, 20, dtype=torch.float64)
        torch.testing.assert_close(path.writes(path.memory) @ direction, path.contributions(direction))


def test_other_rows_are_of_the_same_head_and_never_the_same() -> None:
    subject = double_subject(memory={"rows": (2, 3), "heads": 1})
    assert subject.layout is not None
    rec = record(subject, IDS, sites=attribution_sites(subject), dtype=torch.float64)
    for index, path in enumerate(direct_parts(subject, rec, POSITION).paths):
        engram: Any = subject.module.get_submodule(f"blocks.{path.layer}.engram")
        drawn = other_rows(subject, path, draws=60, seed=1)
        sizes, offsets = subject.layout.primes[index].ravel(), subject.layout.offsets[index]
        for source, column in torch.cartesian_prod(torch.arange(len(path.sources)), torch.arange(2)).tolist():
            first = int(offsets[column])
            head = engram.table.weight[first : first + int(sizes[column])]
            found = (drawn[:, source, column, None] == head).all(-1)
            assert bool(found.any(-1).all())
            chosen = set((found.int().argmax(-1) + first).tolist())
            assert chosen == set(range(first, first + len(head))) - {int(path.rows[source, column])}
        assert other_rows(subject, path, draws=60, seed=1).equal(drawn)
        assert not other_rows(subject, path, draws=60, seed=2).equal(drawn)
