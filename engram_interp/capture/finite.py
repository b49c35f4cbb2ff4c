"""Activations that no measure can use, named by model and layer: no numbers, or everywhere the same."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from engram_interp.capture.encode import Encoded
from engram_interp.capture.samples import Samples
from engram_interp.errors import InputError

_ROUNDING = 1e-6
"""Of the largest value of a column: what float32 rounding may make of a constant."""


def check_finite(
    name: str,
    layers: Sequence[Float[np.ndarray, "_sample _d"]],
    encoded: Encoded,
    samples: Samples,
    which: int,
) -> None:
    """Raise if a layer holds NaN or infinity at a sample.

    Args:
        name: The model's name.
        layers: Activations at the samples, layer by layer.
        encoded: The prompts as this model encodes them.
        samples: Which tokens the rows are of.
        which: The model's row in `samples.position`.

    Raises:
        InputError: Names model, layer, prompt, position and token id of the first such sample.
    """
    for layer, rows in enumerate(layers):
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if not len(bad):
            continue
        first = int(bad[0])
        prompt, position = int(samples.document[first]), int(samples.position[which][first])
        kind = "NaN" if np.isnan(rows[first]).any() else "infinity"
        raise InputError(
            f"{name} has {kind} in the residual after layer {layer} at token {position} of prompt "
            f"{encoded.names[prompt]!r} (token id {int(encoded.tokens[prompt, position])}), and at "
            f"{len(bad)} of {len(rows)} samples in all; mend the weights or leave those prompts out."
        )


def check_varies(name: str, layers: Sequence[Float[np.ndarray, "_sample _d"]]) -> None:
    """Raise if a layer holds the same at every sample, up to rounding.

    Args:
        name: The model's name.
        layers: Activations at the samples, layer by layer, all finite.

    Raises:
        InputError: Names model and layer.
    """
    for layer, rows in enumerate(layers):
        if np.all(np.ptp(rows, axis=0) <= _ROUNDING * np.abs(rows).max(axis=0)):
            raise InputError(
                f"{name} has the same residual after layer {layer} at all {len(rows)} samples, so that layer "
                "resembles nothing and serves for nothing; mend the weights or give other text."
            )
