"""Slow float64 definitions, and synthetic residual streams with known answers."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

Floats = npt.NDArray[np.float64]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Matrices this small lose more to waiting for a second thread than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _centred_gram(x: Floats) -> Floats:
    x = x.astype(np.float64)
    x = x - x.mean(axis=0)
    return x @ x.T


def _hsic1(x: Floats, y: Floats) -> float:
    """Song et al. 2012, equation by equation."""
    n = len(x)
    k, l = _centred_gram(x), _centred_gram(y)
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(l, 0.0)
    ones = np.ones(n)
    trace = np.sum(k * l.T)
    sums = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float((trace + sums - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3)))


def _hsic0(x: Floats, y: Floats) -> float:
    return float(np.sum(_centred_gram(x) * _centred_gram(y)))


def _cka(x: Floats, y: Floats, *, estimator: str, batch_size: int) -> float:
    if estimator == "biased":
        return float(_hsic0(x, y) / np.sqrt(_hsic0(x, x) * _hsic0(y, y)))
    size = min(batch_size, len(x)) if estimator == "minibatch" else len(x)
    terms = []
    for start in range(0, len(x) - size + 1, size):
        a, b = x[start : start + size], y[start : start + size]
        terms.append([_hsic1(a, b), _hsic1(a, a), _hsic1(b, b)])
    xy, xx, yy = np.mean(terms, axis=0)
    return float(xy / np.sqrt(xx * yy))


@pytest.fixture(scope="session")
def textbook_hsic1() -> Callable[[Floats, Floats], float]:
    return _hsic1


@pytest.fixture(scope="session")
def textbook_cka() -> Callable[..., Floats]:
    """CKA of every pair of layers, the slow way, in float64."""

    def matrix(
        xs: list[Floats], ys: list[Floats], *, estimator: str = "minibatch", batch_size: int = 256
    ) -> Floats:
        return np.array([[_cka(x, y, estimator=estimator, batch_size=batch_size) for y in ys] for x in xs])

    return matrix


@pytest.fixture(scope="session")
def random_stream() -> Callable[..., list[Floats]]:
    """A residual stream: every layer adds its own noise to what came before."""

    def make(n_layers: int, *, n: int = 384, d: int = 24, step: float = 0.5, seed: int = 0) -> list[Floats]:
        rng = np.random.default_rng(seed)
        state = rng.normal(size=(n, d))
        layers = []
        for _ in range(n_layers):
            state = state + step * rng.normal(size=(n, d))
            layers.append(state)
        return layers

    return make
