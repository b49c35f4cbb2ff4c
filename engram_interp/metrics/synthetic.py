"""Made-up pairs of models whose alignment is known, to try a measure of depth on before it is believed.

A model here is its activations: one array [sample, d] per layer, over tokens of documents. What all
models share is a slowly turning latent state: at depth t it is H(t) = Σ_s w_s(t)·U_s with w_s a bump at
stage s, so that near depths are alike. A layer at depth t shows H(t) through a random rotation of its own
and, in other directions, a state of the same kind that no other model has. The tokens of a document
share part of U_s.

Two models built with the same depths follow the same law: neither is deeper, whatever their rotations
and private states. One built with depths a layer further on is deeper by exactly one layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Floats


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law that pairs are drawn from.

    Attributes:
        n_layers: layers of a model whose depths are the baseline's own.
        n_documents: documents, each of between `tokens[0]` and `tokens[1]` samples.
        tokens: fewest and most samples a document.
        rank: numbers in the latent state of one stage.
        smoothness: width of the bumps in layers: neighbouring layers are the more alike the larger it is.
        private: standard deviation of what a model does not share, where the shared has 1.
        private_smoothness: the same as `smoothness`, of the private state.
        document_share: share of the variance that the tokens of a document have in common.
        jitter: how unevenly depths are spaced: each step between layers lies within 1 ± jitter.
    """

    n_layers: int = 10
    n_documents: int = 150
    tokens: tuple[int, int] = (4, 20)
    rank: int = 12
    smoothness: float = 1.5
    private: float = 0.7
    private_smoothness: float = 1.5
    document_share: float = 0.3
    jitter: float = 0.4

    def __post_init__(self) -> None:
        low, high = self.tokens
        if self.n_layers < 2 or self.n_documents < 1 or not 1 <= low <= high or self.rank < 1:
            raise InputError(
                "a law wants at least 2 layers, 1 document, 1 token a document and rank 1, got "
                f"{self.n_layers} layers, {self.n_documents} documents, tokens {self.tokens}, "
                f"rank {self.rank}."
            )
        if not 0 <= self.document_share <= 1 or not 0 <= self.jitter < 1:
            raise InputError(
                "document_share wants to lie in [0, 1] and jitter in [0, 1), got "
                f"{self.document_share} and {self.jitter}."
            )


@dataclass(frozen=True, kw_only=True)
class World:
    """One draw of a law: documents, the state all models share, and how deep each layer is.

    Attributes:
        law: what it was drawn from.
        document: the document of each sample.
        shared: latent state by stage.
        depths: depth of each layer of the baseline, and of those that would follow it.
    """

    law: Law
    document: Int64[np.ndarray, " sample"]
    shared: Float[np.ndarray, "stage sample rank"]
    depths: Float[np.ndarray, " layer"]


_BEYOND = 4
"""Stages on either side of the layers, so that no depth lies at an end of the latent state."""


def world(law: Law, generator: np.random.Generator) -> World:
    """Draw documents, a shared state and depths."""
    low, high = law.tokens
    lengths = generator.integers(low, high + 1, size=law.n_documents)
    document = np.repeat(np.arange(law.n_documents), lengths)
    steps = generator.uniform(1 - law.jitter, 1 + law.jitter, size=law.n_layers + _BEYOND)
    return World(
        law=law,
        document=document,
        shared=_state(law, document, generator),
        depths=steps.cumsum() - steps[0],
    )


def model(
    drawn: World,
    generator: np.random.Generator,
    *,
    layers: Sequence[float | int] | None = None,
    width: int = 32,
) -> list[Float[np.ndarray, "sample d"]]:
    """Activations of one model in this world.

    Args:
        drawn: the world.
        generator: of the rotations and of the private state.
        layers: which baseline layer each layer works at, fractions between layers; ``0, 1, 2, …`` if
            not given. ``[0, 1, 1, 2]`` has an identity layer put in, ``[0, 2, 3]`` does the work of two
            in its second; `law.n_layers` and a little beyond may be asked for.
        width: d, at least twice the rank.

    Returns:
        float32 [sample, d] per layer, each with a mean of its own.

    Raises:
        InputError: layers beyond what the world has, or a width below twice the rank.
    """
    law = drawn.law
    wanted = np.arange(law.n_layers, dtype=float) if layers is None else np.asarray(layers, dtype=float)
    if wanted.min() < 0 or wanted.max() > len(drawn.depths) - 1:
        raise InputError(
            f"layers want to lie in 0 … {len(drawn.depths) - 1}, got {wanted.min()} … {wanted.max()}."
        )
    if width < 2 * law.rank:
        raise InputError(f"a width of at least {2 * law.rank} is wanted, twice the rank, got {width}.")
    depths = np.interp(wanted, np.arange(len(drawn.depths)), drawn.depths)
    private = _state(law, drawn.document, generator)
    found = []
    for depth in depths:
        own = law.private * _at(private, depth, law.private_smoothness)
        state = np.concatenate([_at(drawn.shared, depth, law.smoothness), own], axis=1)
        rotation = np.linalg.qr(generator.normal(size=(width, 2 * law.rank)))[0]
        found.append((state @ rotation.T + generator.normal(size=width)).astype(np.float32))
    return found


def one_layer_deeper(law: Law, *, start: int) -> list[float]:
    """Layers of a model that works one baseline layer further on from layer `start`.

    >>> one_layer_deeper(Law(n_layers=5), start=2)
    [0.0, 1.0, 3.0, 4.0, 5.0]
    """
    return [float(layer + (layer >= start)) for layer in range(law.n_layers)]


def _state(law: Law, document: Int64[np.ndarray, " sample"], generator: np.random.Generator) -> Floats:
    stages = 2 * law.n_layers + 4 * _BEYOND
    common = generator.normal(size=(stages, law.n_documents, law.rank))[:, document]
    own = generator.normal(size=(stages, len(document), law.rank))
    mixed: Floats = np.sqrt(law.document_share) * common + np.sqrt(1 - law.document_share) * own
    return mixed


def _at(state: Floats, depth: float, smoothness: float) -> Floats:
    """The state at a depth, of unit variance in every direction."""
    stages = np.arange(len(state)) - _BEYOND
    weights = np.exp(-((stages - depth) ** 2) / (2 * smoothness**2))
    mixed: Floats = np.tensordot(weights / np.linalg.norm(weights), state, axes=1)
    return mixed
