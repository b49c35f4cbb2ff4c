"""Tests of `engram_interp.metrics.exact`: known values, slow definitions, error texts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engram_interp.errors import InputError
from engram_interp.metrics import centring, exact

Floats = npt.NDArray[np.float64]


def layers(n: int, *widths: int, seed: int = 0) -> list[Floats]:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, 3))
    return [base @ rng.normal(size=(3, width)) + rng.normal(size=(n, width)) + 5 for width in widths]


@pytest.mark.parametrize("form", ["tiled", "feature"])
@pytest.mark.parametrize("n", [9, 512, 700])  # one tile, exactly one, a ragged second one
def test_both_forms_are_hsic1(
    textbook_hsic1: Callable[[Floats, Floats], float], form: exact.Form, n: int
) -> None:
    xs, ys = layers(n, 4, 3, 5), layers(n, 2, 6, seed=1)
    found = exact.traces(xs, ys, diagonal="dropped", form=form)
    scale = n * (n - 3)
    wanted = np.array([[textbook_hsic1(x, y) for y in ys] for x in xs])
    np.testing.assert_allclose(found.xy / scale, wanted, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.xx / scale, [textbook_hsic1(x, x) for x in xs], rtol=1e-9)
    np.testing.assert_allclose(found.yy / scale, [textbook_hsic1(y, y) for y in ys], rtol=1e-9)


@pytest.mark.parametrize("form", ["tiled", "feature"])
def test_both_forms_keep_the_diagonal_when_asked(form: exact.Form) -> None:
    (x,), (y,) = layers(600, 4), layers(600, 7, seed=1)
    found = exact.traces([x], [y], diagonal="kept", form=form)
    product = (x - x.mean(0)).T @ (y - y.mean(0))
    np.testing.assert_allclose(found.xy[0, 0], np.sum(product**2), rtol=1e-10)


def test_the_cheaper_form_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def spy(name: str) -> None:
        original = getattr(exact, name)

        def run(*args: Any) -> Any:
            taken.append(name)
            return original(*args)

        monkeypatch.setattr(exact, name, run)

    spy("_tiled")
    spy("_feature")
    exact.traces(layers(40, 100, 100), layers(40, 100), diagonal="dropped")
    exact.traces(layers(900, 2, 3), layers(900, 4), diagonal="dropped")
    assert taken == ["_tiled", "_feature"]


@pytest.mark.parametrize("form", ["tiled", "feature"])
def test_one_huge_row_is_redone_in_float64(
    textbook_hsic1: Callable[[Floats, Floats], float], form: exact.Form
) -> None:
    (x,) = layers(300, 8)
    x[7] *= 1e5
    x = x.astype(np.float32)
    found = exact.traces([x], [x], diagonal="dropped", form=form)
    assert found.xx[0] / (300 * 297) == pytest.approx(textbook_hsic1(x, x), rel=1e-6)


def test_centred_rows_and_their_norms() -> None:
    (x,) = layers(1100, 5)
    x = (x * 1e9).astype(np.float32)
    layer = centring.centre(x, name="xs[0]")
    wanted = x.astype(np.float64) - x.astype(np.float64).mean(0)
    np.testing.assert_allclose(layer.square_norms, (wanted**2).sum(1), rtol=1e-12)
    import torch

    for dtype in (torch.float32, torch.float64):
        rows = layer.rows(slice(3, 9), dtype).double().numpy() * 2.0**layer.exponent
        np.testing.assert_allclose(rows, wanted[3:9], rtol=3e-7)
    assert 0.2 < float(layer.norms.mean()) < 1


def test_values_too_large_to_square() -> None:
    (x,) = layers(20, 3)
    with pytest.raises(InputError, match=r"xs\[0\] holds rows of length .*; divide it by a constant first"):
        exact.traces([x * 1e80], [x], diagonal="kept")
