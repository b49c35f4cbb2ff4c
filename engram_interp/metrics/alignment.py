"""Which baseline layer does each layer resemble? Indices read off a similarity matrix.

All take S [layer, baseline_layer], or a stack of such matrices with leading axes (a bootstrap), and return
one number per layer, in baseline layers counted from 0. Depth is claimed from differences only: the index
of the Engram model minus the same index of the baseline aligned with itself.

Three estimators of the same thing:

* `soft_index`, the paper's: biased by one to two layers at both ends. For comparison with the paper.
* `peak`: the top of a parabola through the best layer and its neighbours. Noise on a plateau.
* `monotone_path`: all layers at once, never going back. The one to report.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, to_float64

TIE = 1e-7
"""Similarities, and sums along paths, that differ by less count as equal: float32 CKA knows no more."""


def soft_index(
    similarity: Float[Array, "*boot layer baseline_layer"], top_k: int = 5
) -> Float[np.ndarray, "*boot layer"]:
    """Soft alignment index a_j = Σ S_ij·i / Σ S_ij over the top-k baseline layers i (paper eq. 9).

    >>> import numpy as np
    >>> soft_index(np.array([[0.0, 0.5, 1.0, 0.5]]), top_k=3)
    array([2.])

    Similarities below 0 get weight 0. Of equal similarities the lower baseline layer is taken first.
    Biased towards the middle: see `edge_layers`, and compare only with the baseline's own index.

    Args:
        similarity: S [layer, baseline_layer], with any leading axes.
        top_k: how many baseline layers count; all of them where there are fewer.

    Returns:
        float64 [layer], within [0, baseline_layer − 1]. NaN where none is positive or one is NaN.

    Raises:
        InputError: top_k < 1, or S has fewer than two axes.
    """
    if top_k < 1:
        raise InputError(f"top_k must be at least 1, got {top_k}.")
    return soft_indices(similarity, top_k)[..., -1, :]


def soft_indices(similarity: Array, most: int) -> Float[np.ndarray, "*boot k layer"]:
    """The same for every top-k from 1 to `most`, or to the number of baseline layers if that is less."""
    s = _checked(similarity)
    chosen = np.argsort(-s, axis=-1, kind="stable")[..., :most]
    weights = np.clip(np.take_along_axis(s, chosen, axis=-1), 0.0, None)
    total = weights.cumsum(axis=-1)
    total[~(total > 0) | np.isnan(s).any(axis=-1, keepdims=True)] = np.nan
    return np.moveaxis((weights * chosen).cumsum(axis=-1) / total, -1, -2)


def edge_layers(n_layers: int, top_k: int = 5) -> Bool[np.ndarray, " layer"]:
    """Layers whose soft index is biased, lacking neighbours on one side: the first and last ⌊k/2⌋.

    Args:
        n_layers: number of layers, in a model as deep as its baseline.
        top_k: as in `soft_index`.

    Returns:
        bool [layer].
    """
    position = np.arange(n_layers)
    reach = top_k // 2
    return (position < reach) | (position >= n_layers - reach)


def peak(
    similarity: Float[Array, "*boot layer baseline_layer"],
    *,
    stack: Float[Array, "resample layer baseline_layer"] | None = None,
) -> Float[np.ndarray, "*boot layer"]:
    """The most similar baseline layer, refined by the parabola through it and its two neighbours.

    Where the first or last baseline layer is the best, that layer itself. Two neighbours that tie
    (within 1e-7) give the point half-way. The parabola leans towards the side where similarity
    falls more slowly, also for two identical models, so subtract the baseline's own peak.

    Args:
        similarity: S [layer, baseline_layer], with any leading axes.
        stack: bootstrap of S; layers on a `plateau` are then undefined.

    Returns:
        float64 [layer], within [0, baseline_layer − 1]. NaN where undefined: more than two baseline
        layers tie or two that are not neighbours, a similarity is NaN, or the layer is on a plateau.
    """
    s = _checked(similarity)
    best = s.argmax(axis=-1)
    top = np.take_along_axis(s, best[..., None], axis=-1)
    ties = s >= top - TIE
    first, count = ties.argmax(axis=-1), ties.sum(axis=-1)
    last = s.shape[-1] - 1 - ties[..., ::-1].argmax(axis=-1)
    neighbours = (count == 2) & (last == first + 1)
    refined = np.where(neighbours, first + 0.5, best + _parabola(s, best))
    undefined = ((count > 1) & ~neighbours) | np.isnan(s).any(axis=-1)
    if stack is not None:
        undefined = undefined | plateau(stack)
    return np.where(undefined, np.nan, refined)


def plateau(
    stack: Float[Array, "resample layer baseline_layer"], *, level: float = 0.95
) -> Bool[np.ndarray, " layer"]:
    """Layers whose most similar baseline layer is not settled.

    Args:
        stack: bootstrap of S [resample, layer, baseline_layer].
        level: of the interval.

    Returns:
        bool [layer], True where the percentile interval of the best baseline layer holds more than
        two layers, or a similarity is NaN.
    """
    s = _checked(stack)
    if s.ndim != 3:
        raise InputError(f"plateau wants a bootstrap [resample, layer, baseline_layer], got {s.shape}.")
    best = s.argmax(axis=-1)
    tail = (1 - level) / 2
    low = np.quantile(best, tail, axis=0, method="inverted_cdf")
    high = np.quantile(best, 1 - tail, axis=0, method="inverted_cdf")
    return np.asarray((high - low >= 2) | np.isnan(s).any(axis=(0, 2)))


def monotone_path(
    similarity: Float[Array, "*boot layer baseline_layer"],
    *,
    refine: Literal["none", "parabola"] = "none",
) -> Float[np.ndarray, "*boot layer"]:
    """The non-decreasing path of baseline layers with the largest summed similarity.

    >>> import numpy as np
    >>> monotone_path(np.array([[0.9, 0.2, 0.1], [0.9, 0.3, 0.2], [0.1, 0.2, 0.8]]))
    array([0., 0., 2.])

    Found exactly by dynamic programming. Layers may share a baseline layer (a layer that does nothing) and
    baseline layers may be skipped (a layer that does the work of two). A model against itself gives exactly
    j at layer j; a model with an identity layer put in falls behind by exactly one after it.

    Ties: of all best paths (sums within 1e-7) the one that is lowest at every layer; there always is
    one. So a tie never makes a model look deeper.

    Args:
        similarity: S [layer, baseline_layer], with any leading axes; used as it is, also below 0.
        refine: ``parabola`` moves each layer by up to half a layer to the top of the parabola
            through its place on the path, where that is a local maximum, then makes the path
            non-decreasing again by isotonic regression. The identities above then hold only after
            subtracting the baseline's own path.

    Returns:
        float64 [layer]; whole numbers unless refined.

    Raises:
        InputError: a similarity is NaN.
    """
    s = _checked(similarity)
    if np.isnan(s).any():
        raise InputError("monotone_path needs every similarity, got NaN; leave that layer out.")
    best, choices = s[..., 0, :], []
    for layer in range(1, s.shape[-2]):
        reached, before = _running_best(best)
        choices.append(before)
        best = reached + s[..., layer, :]
    path = [_lowest_best(best)]
    for before in reversed(choices):
        path.append(np.take_along_axis(before, path[-1][..., None], axis=-1)[..., 0])
    places = np.stack(path[::-1], axis=-1)
    if refine == "none":
        return places.astype(np.float64)
    return _isotonic(places + _parabola(s, places))


def calibrated_shift(
    path: Float[Array, "*boot layer"], own: Float[Array, "*boot reference_layer"]
) -> Float[np.ndarray, "*boot layer"]:
    """How many reference layers further on each layer reads than the reference does at the same place.

    >>> import numpy as np
    >>> calibrated_shift(np.array([0.0, 2.2, 3.0]), np.array([0.0, 1.4, 2.2, 3.0]))
    array([0., 1., 1.])

    The reference's own path g, layer to reading, is taken as piecewise linear and read backwards:
    shift_j = g⁻¹(path_j) − j. Plain subtraction, path_j − g(j), is wrong where a shift is real, since the
    parabola leans differently at every layer: on made-up pairs that are deeper by exactly one layer its
    95 % interval held the truth 15 to 30 % of the time (`analyses/00_known_answers.py`).

    Where g is flat, many depths give one reading; of these the one nearest to j is taken, so a tie
    never makes a shift. Readings beyond g's ends count as its end layer.

    Args:
        path: refined `monotone_path` of the model.
        own: the same of the reference against the same baseline, non-decreasing, same leading axes.

    Returns:
        float64 [layer], in reference layers.
    """
    readings, g = to_float64(path, "path"), to_float64(own, "own")
    n = g.shape[-1]
    place = np.arange(readings.shape[-1], dtype=np.float64)
    wanted = readings[..., :, None]
    first = (g[..., None, :] < wanted - TIE).sum(axis=-1)
    last = (g[..., None, :] <= wanted + TIE).sum(axis=-1) - 1
    below, above = np.clip(last, 0, n - 1), np.clip(first, 0, n - 1)
    low, high = (np.take_along_axis(g, index, axis=-1) for index in (below, above))
    between = below + (readings - low) / np.where(high > low, high - low, 1.0) * (above - below)
    flat = np.clip(place, first, last)
    return np.asarray(np.where(first <= last, flat, between) - place)


def as_another_seed(
    own: Float[Array, "*boot baseline_layer baseline_layer"],
    similarity: Float[Array, "*boot layer baseline_layer"],
) -> Float[np.ndarray, "*boot baseline_layer baseline_layer"]:
    """The baseline's similarity with itself, its diagonal lowered to what another seed would reach.

    A layer is 1 with itself, noise and all; what another model has of it is less. A parabola through ones
    leans less than one through the model's row, so where layers drift unevenly a model that is no deeper
    would read as shifted. So O_pp becomes S_jp·(O_p,p−1 + O_p,p+1)/(S_j,p−1 + S_j,p+1), j the layers whose
    path is at p (the median of all where none is), never larger or below its neighbours.

    Args:
        own: of the baseline with itself, same leading axes.
        similarity: of the model with the baseline.
    """
    o, s = _checked(own).copy(), _checked(similarity)
    n = o.shape[-1]
    if n <= 2:
        return o
    places, every, inner = monotone_path(s).astype(np.int64), np.arange(n), np.arange(1, n - 1)
    beside = o[..., inner, inner - 1] + o[..., inner, inner + 1]
    at = np.clip(places, 1, n - 2)
    left, middle, right = (np.take_along_axis(s, (at + k)[..., None], axis=-1)[..., 0] for k in (-1, 0, 1))
    theirs, top = (np.take_along_axis(v, at - 1, axis=-1) for v in (beside, o[..., inner, inner]))
    usable = (at == places) & (left + right > 0) & (theirs > 0) & (top > 0)
    kept = np.where(usable, middle / np.where(usable, top * (left + right), 1.0) * theirs, np.nan)
    kept[~usable.any(axis=-1)] = 1.0
    there = (places[..., None] == every) & usable[..., None]
    found = np.where(there, kept[..., None], 0.0).sum(axis=-2) / np.maximum(there.sum(axis=-2), 1)
    kept = np.where(there.any(axis=-2), found, np.nanmedian(kept, axis=-1)[..., None])
    old = o[..., every, every]
    off = np.pad(o[..., every[1:], every[:-1]], [(0, 0)] * (o.ndim - 2) + [(1, 1)], constant_values=-np.inf)
    floor = np.minimum(np.maximum(off[..., 1:], off[..., :-1]), old)
    o[..., every, every] = np.where(kept > 1 - 10 * TIE, old, np.maximum(old * kept, floor))
    return o


def _checked(similarity: Array) -> Floats:
    s = to_float64(similarity, "similarity")
    if s.ndim < 2 or 0 in s.shape:
        raise InputError(f"similarity must be [layer, baseline_layer], got shape {s.shape}.")
    return s


def _lowest_best(scores: Floats) -> npt.NDArray[np.int64]:
    """The lowest baseline layer whose score is the best, within the tie tolerance."""
    good = scores >= scores.max(axis=-1, keepdims=True) - TIE
    return np.asarray(good.argmax(axis=-1))


def _running_best(scores: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Best score at or below each baseline layer, and the lowest layer that has it."""
    reached = np.maximum.accumulate(scores, axis=-1)
    good = scores[..., None, :] >= reached[..., :, None] - TIE
    return reached, good.argmax(axis=-1)


def _parabola(s: Floats, places: npt.NDArray[np.int64]) -> Floats:
    """Offset within ±½ of the parabola's top; 0 at the ends and where `places` is no local maximum."""
    n = s.shape[-1]
    inside = (places > 0) & (places < n - 1)
    at = np.where(inside, places, min(1, n - 1))
    left, middle, right = (
        np.take_along_axis(s, np.clip(at + step, 0, n - 1)[..., None], axis=-1)[..., 0] for step in (-1, 0, 1)
    )
    bend = left - 2 * middle + right
    local = inside & (middle >= left) & (middle >= right) & (bend < 0)
    return np.where(local, 0.5 * (left - right) / np.where(local, bend, 1.0), 0.0)


def _isotonic(values: Floats) -> Floats:
    """Nearest non-decreasing sequence in least squares, by max-min of means over stretches."""
    n = values.shape[-1]
    sums = np.concatenate([np.zeros_like(values[..., :1]), values.cumsum(axis=-1)], axis=-1)
    start, stop = np.arange(n)[:, None], np.arange(n)[None, :]
    means = (sums[..., None, 1:] - sums[..., :-1, None]) / np.maximum(stop - start + 1, 1)
    result = np.empty_like(values)
    for place in range(n):
        result[..., place] = means[..., : place + 1, place:].min(axis=-1).max(axis=-1)
    # Means of sums come out a rounding beyond what they average.
    return np.clip(result, values.min(axis=-1, keepdims=True), values.max(axis=-1, keepdims=True))
