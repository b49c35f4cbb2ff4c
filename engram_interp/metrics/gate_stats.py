"""What a gate does over many tokens: location, spread, share open, and distance from its null.

An untrained gate already varies (mean .5, sd about .2), so no number here says anything without
the same number for a null model beside it. Gates lie in [0, 1]; .5 is neutral, not closed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, to_float64

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STATISTICS = (
    "mean",
    "sd",
    *(f"q{round(100 * share):02d}" for share in QUANTILES),
    "fraction_open",
    "distance",
)
"""What `among` compares models by; the distance is Kolmogorov and Smirnov's to all of them together."""


@dataclass(frozen=True, kw_only=True)
class GateSummary:
    """Statistics over the tokens kept, one per remaining axis entry.

    Attributes:
        mean: in [0, 1].
        sd: with the number of tokens as divisor, in [0, 1/2].
        quantiles: [quantile, *rest], linearly interpolated.
        fraction_open: share of tokens with a gate above the threshold.
        n_tokens: tokens kept.
    """

    mean: Floats
    sd: Floats
    quantiles: Floats
    fraction_open: Floats
    n_tokens: int


def summarise(
    gate: Float[Array, "*axes"],
    mask: Bool[Array, "*token_axes"],
    *,
    quantiles: Sequence[float] = QUANTILES,
    threshold: float = 0.5,
) -> GateSummary:
    """Mean, sd, quantiles and share open of a gate over the tokens of a mask.

    Args:
        gate: values in [0, 1]; the leading axes are those of `mask`, the rest is kept. For one
            layer [batch, token, stream] with mask [batch, token].
        mask: True where there is a token (not padding).
        quantiles: which quantiles.
        threshold: open means above it. It does not carry across model widths: the largest gate an
            untrained model of width d can reach is σ(d^¼).

    Returns:
        The statistics, each over the axes that the mask lacks.

    Raises:
        InputError: a mask that does not fit or is False everywhere; a kept gate outside [0, 1] or NaN.
    """
    kept = kept_gates(gate, mask)
    return GateSummary(
        mean=np.asarray(kept.mean(axis=0)),
        sd=np.asarray(kept.std(axis=0)),
        quantiles=np.asarray(np.quantile(kept, list(quantiles), axis=0)),
        fraction_open=np.asarray((kept > threshold).mean(axis=0)),
        n_tokens=len(kept),
    )


def kept_gates(
    gate: Float[Array, "*axes"], mask: Bool[Array, "*token_axes"]
) -> Float[np.ndarray, " token *rest"]:
    """The gates of the tokens that a mask keeps, as one row per token.

    Arguments and errors are those of `summarise`.
    """
    values = to_float64(gate, "gate")
    used = to_float64(mask, "mask").astype(bool)
    if values.shape[: used.ndim] != used.shape:
        raise InputError(f"the mask must have the leading axes of the gate {values.shape}, got {used.shape}.")
    kept: Floats = values[used]
    if len(kept) == 0:
        raise InputError("the mask keeps no token, so there is no gate to describe.")
    if not ((kept >= 0) & (kept <= 1)).all():
        raise InputError(
            "a gate lies in [0, 1], got NaN or values from "
            f"{np.nanmin(kept):.3g} to {np.nanmax(kept):.3g}; pass the gate, not its score."
        )
    return kept


def density(
    gate: Float[Array, "*axes"], mask: Bool[Array, "*token_axes"], *, n_bins: int = 40
) -> tuple[Float[np.ndarray, "*rest bin"], Float[np.ndarray, " bin"]]:
    """Histogram of a gate over [0, 1], scaled to integrate to 1.

    Args:
        gate: as in `summarise`.
        mask: as in `summarise`.
        n_bins: number of equal bins.

    Returns:
        Density per unit of gate [*rest, bin], and the bins' centres [bin]. A gate of exactly 1
        counts in the last bin.

    Raises:
        InputError: as in `summarise`, or n_bins < 1.
    """
    if n_bins < 1:
        raise InputError(f"density needs at least one bin, got {n_bins}.")
    kept = kept_gates(gate, mask)
    columns = kept.reshape(len(kept), -1)
    place = np.minimum((columns * n_bins).astype(np.int64), n_bins - 1)
    place += np.arange(columns.shape[1]) * n_bins
    counts = np.bincount(place.ravel(), minlength=columns.shape[1] * n_bins)
    heights = counts.reshape(*kept.shape[1:], n_bins) * (n_bins / len(kept))
    return heights, (np.arange(n_bins) + 0.5) / n_bins


def ks_distance(
    a: Float[Array, " _sample *rest"], b: Float[Array, " _other_sample *_rest"]
) -> Float[np.ndarray, "*rest"]:
    """Kolmogorov–Smirnov distance: the largest gap between two empirical distribution functions.

    >>> import numpy as np
    >>> float(ks_distance(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.15, 0.8, 0.9, 1.0])))
    0.75

    With n and m independent values a gap above about 1.36·√((n+m)/nm) is rare (5 %) for equal
    distributions; tokens of one text are not independent, so gaps above that are no proof.

    Args:
        a: one row per token, e.g. from `kept_gates`.
        b: one row per token of the null, any number of rows, the same remaining axes.

    Returns:
        In [0, 1], float64, over the remaining axes: 0 same values, 1 no overlap.

    Raises:
        InputError: no rows, remaining axes that differ, NaN.
    """
    first, second = to_float64(a, "a"), to_float64(b, "b")
    if first.ndim == 0 or second.ndim == 0 or len(first) == 0 or len(second) == 0:
        raise InputError("ks_distance needs at least one value on each side.")
    if first.shape[1:] != second.shape[1:]:
        raise InputError(
            f"ks_distance compares like with like, got remaining axes {first.shape[1:]} "
            f"and {second.shape[1:]}."
        )
    if np.isnan(first).any() or np.isnan(second).any():
        raise InputError("ks_distance got NaN; leave padding out first (kept_gates).")
    left = np.sort(first.reshape(len(first), -1), axis=0).T
    right = np.sort(second.reshape(len(second), -1), axis=0).T
    gaps = [_gap(x, y) for x, y in zip(left, right, strict=True)]
    return np.array(gaps).reshape(first.shape[1:])


def among(
    gates: Sequence[Float[Array, "*axes"]], mask: Bool[Array, "*token_axes"]
) -> Float[np.ndarray, "model statistic *rest"]:
    """The `STATISTICS` of several models' gates on the same tokens, each model treated alike.

    Args:
        gates: of each model, as in `summarise`.
        mask: as in `summarise`.
    """
    kept = [kept_gates(gate, mask) for gate in gates]
    pool = np.concatenate(kept)
    rows = []
    for gate, values in zip(gates, kept, strict=True):
        found = summarise(gate, mask)
        distance = ks_distance(values, pool)
        rows.append(np.stack([found.mean, found.sd, *found.quantiles, found.fraction_open, distance]))
    return np.stack(rows)


def _gap(x: Floats, y: Floats) -> float:
    points = np.concatenate([x, y])
    below_x = np.searchsorted(x, points, side="right") / len(x)
    below_y = np.searchsorted(y, points, side="right") / len(y)
    return float(np.abs(below_x - below_y).max())
