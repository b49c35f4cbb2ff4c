"""Tests of `engram_interp.metrics.fused_lens` against float64 definitions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics import divergence, fused_lens

NOISE = (3.0, 1.0, 0.3, 0.03, 0.001, 0.0)
"""How far each layer is from the last."""


def layers(width: int, *, rows: int = 300, massive: float = 1.0) -> list[Tensor]:
    """Residuals after a norm without a gain; one feature is made massive before it."""
    make = torch.Generator().manual_seed(3)
    last = torch.randn(rows, width, generator=make)
    every = [last + size * torch.randn(rows, width, generator=make) for size in NOISE]
    for resid in every:
        resid[:, 5] *= massive
    return [resid / resid.square().mean(-1, keepdim=True).sqrt() for resid in every]


def unembedding(d_vocab: int, width: int, *, scale: float = 1.0) -> Tensor:
    made = torch.randn(d_vocab, width, generator=torch.Generator().manual_seed(4))
    return made.mul_(scale / width**0.5)


def check(found: Tensor, wanted: np.ndarray, *, within: float = 1e-5) -> None:
    """The error is measured by the size of the value, by .1 where that is less."""
    error = np.abs(found.numpy() - wanted) / np.maximum(np.abs(wanted), 0.1)
    assert error.max() <= within, error.max()


@pytest.mark.parametrize("with_bias", [False, True])
def test_every_number_is_its_definition(with_bias: bool) -> None:
    weight = unembedding(2 * fused_lens.COLUMNS + 97, 16)
    bias = torch.randn(len(weight), generator=torch.Generator().manual_seed(5)) if with_bias else None
    every = layers(16)
    targets = torch.randint(len(weight), (300,), generator=torch.Generator().manual_seed(6))
    found = fused_lens.read(
        every[-1], every, weight, bias=bias, targets=targets, want=fused_lens.NAMES, top=7
    )
    logits = [h.double() @ weight.double().mT + (0 if bias is None else bias.double()) for h in every]
    best = logits[-1].argmax(-1, keepdim=True)
    for index, own in enumerate(logits):
        rank = (own > own.gather(-1, best)).sum(-1).numpy()
        wanted = [
            divergence.kl_from_logits(logits[-1], own),
            divergence.kl_from_logits(logits[-1], own, direction="layer||final"),
            divergence.entropy(own),
            -own.log_softmax(-1).gather(-1, targets[:, None])[:, 0].numpy(),
            (own.argmax(-1) == best[:, 0]).numpy().astype(float),
            rank,
        ]
        for place, value in enumerate(wanted):
            check(found.values[:, index, place], value)
        top = own.log_softmax(-1).topk(7)
        np.testing.assert_array_equal(found.top_id[:, index], top.indices)
        check(found.top_logprob[:, index], top.values.numpy())
    assert (found.values[:, -1, :2] == 0).all()
    alone = fused_lens.measure(every[-1], [*every[:2], every[-1].clone()], weight, bias=bias)
    np.testing.assert_array_equal(alone[:, :2, 0], found.values[:, :2, 0])
    assert (alone[:, -1] == 0).all()


CASES: dict[str, tuple[float, float, Callable[[Tensor], Tensor]]] = {
    "massive feature": (1.0, 1000.0, lambda w: w),
    "massive feature, bfloat16": (1.0, 1000.0, lambda w: w.bfloat16()),
    "bfloat16": (1.0, 1.0, lambda w: w.bfloat16()),
    "a direction common to all tokens": (1.0, 1.0, lambda w: w + 1000 * w[0]),
    "float64": (1.0, 1.0, lambda w: w.double()),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_layers_share_costs_no_precision(case: str) -> None:
    scale, massive, change = CASES[case]
    weight = change(unembedding(1531, 48, scale=scale))
    every = [h.to(weight.dtype) for h in layers(48, massive=massive)]
    before = weight.clone()
    bias = torch.randn(1531, generator=torch.Generator().manual_seed(5)) + 1e4
    found = fused_lens.measure(every[-1], every, weight, bias=bias, want=("kl", "reverse_kl", "entropy"))
    logits = [h.double() @ weight.double().mT + bias.double() for h in every]
    for index, own in enumerate(logits):
        check(found[:, index, 0], divergence.kl_from_logits(logits[-1], own))
        check(found[:, index, 1], divergence.kl_from_logits(logits[-1], own, direction="layer||final"))
        check(found[:, index, 2], divergence.entropy(own))
    assert torch.equal(weight, before)


@pytest.mark.parametrize(("scale", "massive"), [(20.0, 1.0), (100.0, 1.0), (100.0, 1000.0)])
def test_logits_spread_over_hundreds(scale: float, massive: float) -> None:
    weight, every = unembedding(1531, 48, scale=scale), layers(48, massive=massive)
    found = fused_lens.measure(every[-1], every, weight, want=("kl", "reverse_kl"))
    logits = [h.double() @ weight.double().mT for h in every]
    for index, own in enumerate(logits):
        # Products are float32: what is left is 1e-7 of the spread, times how much the two differ.
        check(found[:, index, 0], divergence.kl_from_logits(logits[-1], own), within=5e-5)
        reverse = divergence.kl_from_logits(logits[-1], own, direction="layer||final")
        check(found[:, index, 1], reverse, within=1e-4)
    assert (found >= 0).all()


def test_only_rounding_is_taken_for_zero() -> None:
    given = torch.tensor([-9e-7, -2e-6, 3e-9, torch.nan], dtype=torch.float64)
    np.testing.assert_array_equal(fused_lens._without_rounding(given), [0.0, -2e-6, 3e-9, np.nan])


def test_what_cannot_be_read_is_refused() -> None:
    weight, every = unembedding(31, 6), layers(6, rows=4)
    with pytest.raises(InputError, match="give them as targets"):
        fused_lens.measure(every[-1], every, weight, want=("next_loss",))
    with pytest.raises(InputError, match=r"want holds \['kld'\]"):
        fused_lens.measure(every[-1], every, weight, want=("kld",))
    with pytest.raises(InputError, match="lie in 0 … 31, got 32"):
        fused_lens.read(every[-1], every, weight, top=32)
