"""Tests of `engram_interp.metrics.near_mean`: where copies are saved, and what makes up for the origin."""

import pytest
import torch

from engram_interp.errors import InputError
from engram_interp.metrics.near_mean import NearMean, near_mean


def near(values: torch.Tensor, dtype: torch.dtype = torch.float32) -> NearMean:
    return near_mean(values, dtype, name="xs[3]", samples=None)


@pytest.mark.parametrize("offset", [0.0, 0.2, 3.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_sums_and_norms_are_those_of_the_rows(offset: float, dtype: torch.dtype) -> None:
    values = torch.randn(700, 5) + offset
    layer = near(values, dtype)
    rows = layer.rows.double()
    torch.testing.assert_close(layer.norms, rows.square().sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.sums, (rows @ rows.T).sum(1), rtol=1e-4, atol=2e-2)
    torch.testing.assert_close(layer.total, rows.sum(0), rtol=1e-4, atol=2e-2)
    centred = (values.double() - values.double().mean(0)) * 2.0**-layer.exponent
    torch.testing.assert_close(layer.centred_norms, centred.square().sum(1), rtol=1e-4, atol=1e-4)
    assert layer.is_safe


def test_a_short_mean_needs_no_copy() -> None:
    values = torch.randn(300, 40) + 0.2
    assert near(values).rows.data_ptr() == values.data_ptr()
    assert near(values + 5).rows.mean(0).abs().max() < 1e-5
    assert near(values.bfloat16()).rows.dtype == torch.float32


@pytest.mark.parametrize(
    "values",
    [
        torch.full((80, 3), 0.1),
        torch.full((80, 3), 1e19),
        torch.randn(80, 3) * 1e-3 + 1e4,
        torch.randn(80, 3) * 1e-9,
        torch.randn(80, 3) * 1e12,
        torch.randn(80, 3).index_fill_(0, torch.tensor([7]), torch.nan),
        torch.randn(80, 3).index_fill_(0, torch.tensor([7]), torch.inf),
    ],
    ids=["constant", "large constant", "far away", "tiny", "huge", "NaN", "infinity"],
)
def test_what_float32_cannot_hold_is_said(values: torch.Tensor) -> None:
    assert not near(values).is_safe


def test_float64_names_what_is_not_finite() -> None:
    values = torch.randn(8, 3)
    values[5, 1] = torch.inf
    with pytest.raises(InputError, match=r"xs\[3\] holds infinity at sample 5"):
        near(values, torch.float64)
