"""The tiled loss against torch's own on the full logits, value and gradients."""

import pytest
import torch
from torch.nn import functional

from engram_interp.model.training.loss import tiled_cross_entropy


@pytest.mark.parametrize("rows", [1, 7, 512, 1100])
def test_loss_and_gradients_equal_torchs(rows: int) -> None:
    unembed = torch.randn(37, 9, requires_grad=True)
    hidden = (torch.randn(rows, 9) * 3).requires_grad_()
    targets = torch.randint(0, 37, (rows,))
    found = torch.autograd.grad(tiled_cross_entropy(hidden, unembed, targets) * 2.5, (hidden, unembed))
    wanted = functional.cross_entropy(hidden @ unembed.mT, targets)
    torch.testing.assert_close(tiled_cross_entropy(hidden, unembed, targets), wanted)
    for ours, theirs in zip(found, torch.autograd.grad(wanted * 2.5, (hidden, unembed)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_huge_logits_stay_finite() -> None:
    hidden = torch.full((3, 4), 500.0, requires_grad=True)
    loss = tiled_cross_entropy(hidden, torch.eye(5, 4) * 100, torch.tensor([0, 1, 4]))
    loss.backward()
    assert loss.isfinite()
    assert hidden.grad is not None and hidden.grad.isfinite().all()


def test_autocast_rounds_the_products_alone() -> None:
    unembed = torch.randn(37, 16, requires_grad=True)
    hidden = torch.randn(600, 16, requires_grad=True)
    targets = torch.randint(0, 37, (600,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = tiled_cross_entropy(hidden, unembed, targets)
    found = torch.autograd.grad(loss, (hidden, unembed))
    wanted = functional.cross_entropy(hidden @ unembed.mT, targets)
    assert loss.dtype == torch.float32 and loss != wanted
    torch.testing.assert_close(loss, wanted, atol=5e-3, rtol=0)
    for ours, theirs in zip(found, torch.autograd.grad(wanted, (hidden, unembed)), strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02
