"""The arrays that metrics accept, and the checks and error wording they share.

Inputs stay what they are (a torch tensor on any device, a numpy array, a memory-mapped file) until
a piece of them is needed; `take` then hands out that piece as a torch tensor. float64 and integer
inputs are computed in float64, every narrower kind (bfloat16, float16, float32) in float32 or
better.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engram_interp.errors import InputError

Array = Tensor | npt.NDArray[Any]
"""What metrics take."""

Floats = npt.NDArray[np.float64]
"""What metrics return."""

MIN_SAMPLES = 4
"""HSIC₁ divides by n(n−3)."""

FEW_SAMPLES = 64
"""Below this rounding errors do not average out and float64 costs next to nothing."""

_SHARED_WITH_TORCH = (np.float16, np.float32, np.float64)


def to_float64(values: Array, name: str = "values") -> Floats:
    """A float64 numpy copy or view of a small array.

    Args:
        values: torch tensor or numpy array of real numbers, any shape.
        name: what the array is called in an error.

    Returns:
        The same numbers as a float64 numpy array on the CPU.

    Raises:
        InputError: it is no array of real numbers.
    """
    check_real(values, name)
    if isinstance(values, Tensor):
        return values.detach().to(device="cpu", dtype=torch.float64).numpy()
    return np.asarray(values).astype(np.float64, copy=False)


def check_real(values: object, name: str) -> None:
    """Raise unless `values` is a torch or numpy array of real numbers."""
    if isinstance(values, Tensor):
        real = not values.is_complex()
    elif isinstance(values, np.ndarray):
        # Kind V with a name is an extension type such as ml_dtypes' bfloat16.
        real = values.dtype.kind in "fiub" or values.dtype.name == "bfloat16"
    else:
        raise InputError(
            f"{name} must be a torch tensor or a numpy array, got {type(values).__name__}; convert it first."
        )
    if not real:
        raise InputError(f"{name} must hold real numbers, got {values.dtype}; convert it first.")


def take(values: Array, index: slice | npt.NDArray[np.int64]) -> Tensor:
    """Rows of an array as a detached torch tensor, on the array's own device.

    Args:
        values: torch tensor or numpy array, rows first.
        index: a slice, or the row numbers wanted.

    Returns:
        The rows in a floating-point type; a view where that is possible.
    """
    if isinstance(values, Tensor):
        chosen = index if isinstance(index, slice) else torch.from_numpy(index).to(values.device)
        rows = values.detach()[chosen]
        return rows if rows.is_floating_point() else rows.double()
    piece = values[index]
    if piece.dtype not in _SHARED_WITH_TORCH:
        piece = piece.astype(np.float32 if piece.dtype.name == "bfloat16" else np.float64)
    if not piece.flags.writeable or any(stride < 0 for stride in piece.strides):
        piece = piece.copy()  # torch warns about the first and refuses the second
    return torch.from_numpy(piece)


def is_double(values: Array) -> bool:
    """Whether this array is computed in float64: float64 itself, and integers."""
    if isinstance(values, Tensor):
        return values.dtype == torch.float64 or not values.is_floating_point()
    return values.dtype.kind != "V" and values.dtype not in (np.float16, np.float32)


def working_dtype(*layers: Array, n_samples: int) -> torch.dtype:
    """torch.float64 if any of the arrays asks for it or the samples are few, else torch.float32."""
    few = n_samples < FEW_SAMPLES
    return torch.float64 if few or any(is_double(layer) for layer in layers) else torch.float32


def check_layers(
    xs: Sequence[Array], ys: Sequence[Array], *, caller: str, min_samples: int = MIN_SAMPLES
) -> int:
    """Check two lists of layers, and return the number of samples they share.

    Args:
        xs: layers [sample, d], any d per layer.
        ys: layers [sample, d] of the other model, over the same samples.
        caller: the function's name, for the error.
        min_samples: the fewest samples it can work with.

    Returns:
        The number of samples.

    Raises:
        InputError: no layers, not two-dimensional, sample counts that differ, too few samples.
    """
    n_samples = -1
    for side, layers in (("xs", xs), ("ys", ys)):
        if len(layers) == 0:
            raise InputError(f"{caller} needs at least one layer in {side}, got none.")
        for number, layer in enumerate(layers):
            name = f"{side}[{number}]"
            check_real(layer, name)
            if layer.ndim != 2 or layer.shape[1] == 0:
                raise InputError(
                    f"{name} must be [sample, d], got shape {tuple(layer.shape)}; "
                    f"pass {side} as a list with one [sample, d] array per layer."
                )
            if n_samples < 0:
                n_samples = int(layer.shape[0])
            if layer.shape[0] != n_samples:
                raise InputError(
                    f"{name} has {layer.shape[0]} samples but xs[0] has {n_samples}; "
                    "row i of every layer must belong to the same token."
                )
    if n_samples < min_samples:
        raise InputError(
            f"{caller} needs at least {min_samples} samples, got {n_samples}; pool more prompts."
        )
    return n_samples


def check_finite(rows: Tensor, *, name: str, samples: Sequence[int] | npt.NDArray[np.int64] | range) -> None:
    """Raise if a row holds NaN or infinity, naming layer and sample.

    Args:
        rows: [sample, d], or one number per sample.
        name: the layer, as in ``xs[3]``.
        samples: the caller's number of each row.

    Raises:
        InputError: a value is not finite.
    """
    bad = ~torch.isfinite(rows).flatten(1).all(dim=1)
    if bool(bad.any()):
        first = int(torch.nonzero(bad)[0, 0])
        kind = "NaN" if bool(torch.isnan(rows[first]).any()) else "infinity"
        raise InputError(
            f"{name} holds {kind} at sample {int(samples[first])} "
            f"({int(bad.sum())} such samples among {len(rows)} looked at); "
            "leave those samples out of every layer."
        )
