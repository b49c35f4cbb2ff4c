"""Tests of `engram_interp.metrics.fused_lens` against float64 definitions."""

import numpy as np
import pytest
import torch

from engram_interp.metrics import divergence, fused_lens


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_every_number_is_its_definition(scale: float, with_bias: bool) -> None:
    make = torch.Generator().manual_seed(3)
    weight = torch.randn(97, 16, generator=make) * scale / 4
    bias = torch.randn(97, generator=make) if with_bias else None
    layers = [torch.randn(300, 16, generator=make) for _ in range(3)]
    targets = torch.randint(97, (300,), generator=make)
    found = fused_lens.measure(layers[-1], layers, weight, bias=bias, targets=targets, want=fused_lens.NAMES)
    logits = [h.double() @ weight.double().mT + (0 if bias is None else bias.double()) for h in layers]
    for index, own in enumerate(logits):
        wanted = [
            divergence.kl_from_logits(logits[-1], own),
            divergence.kl_from_logits(logits[-1], own, direction="layer||final"),
            divergence.entropy(own),
            -own.log_softmax(-1).gather(-1, targets[:, None])[:, 0].numpy(),
            (own.argmax(-1) == logits[-1].argmax(-1)).numpy(),
        ]
        for place, value in enumerate(wanted):
            np.testing.assert_allclose(found[:, index, place], value, atol=1e-5 * max(1, scale), rtol=1e-5)
    assert (found[:, -1, :2] == 0).all()
    alone = fused_lens.measure(layers[-1], [*layers[:2], layers[-1].clone()], weight, bias=bias)
    np.testing.assert_allclose(alone[..., 0], found[..., 0], atol=1e-5 * max(1, scale), rtol=1e-5)
    assert (alone[:, -1] == 0).all()
