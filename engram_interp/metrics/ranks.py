"""Where an observation ranks among draws of its null: exact p-values, whatever the distribution.

If the observation was itself drawn as the draws were, then each p-value here is at most α with a
probability of at most α. With k draws no p-value lies below 1/(k+1).
"""

import numpy as np
from jaxtyping import Float

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, to_float64


def rank_p(
    observed: Float[Array, "*rest"], draws: Float[Array, " draw *rest"], *, two_sided: bool = True
) -> Float[np.ndarray, "*rest"]:
    """Rank p-value of each entry among the draws of its null; ties count against the observation's rarity.

    >>> import numpy as np
    >>> float(rank_p(np.array(9.0), np.arange(1.0, 9.0)))  # the largest of nine, on either side
    0.2222222

    Args:
        observed: one value per entry.
        draws: the same under the null, one row per draw.
        two_sided: small and large values are both rare; otherwise only large ones.

    Returns:
        In (0, 1], float64; NaN where a value is NaN.

    Raises:
        InputError: no draws, or entries that differ in shape.
    """
    value, null = _checked(observed, draws)
    above, below = ((1 + side.sum(axis=0)) / (len(null) + 1) for side in (null >= value, null <= value))
    p = np.minimum(1.0, 2 * np.minimum(above, below)) if two_sided else above
    return np.where(np.isnan(value) | np.isnan(null).any(axis=0), np.nan, p)


def joint_p(observed: Float[Array, "*rest"], draws: Float[Array, " draw *rest"]) -> float:
    """One p-value for all entries: the rank of the observation's largest standardised deviation.

    Mean and spread of every entry are those of the draws *and* the observation, so that all of them
    are treated alike and the rank is exact, however the entries depend on each other. Entries that are
    NaN anywhere are left out.

    Arguments and errors are those of `rank_p`.

    Returns:
        In (0, 1]; NaN if no entry is defined.
    """
    value, null = _checked(observed, draws)
    pool = np.concatenate([value[None], null]).reshape(len(null) + 1, -1)
    pool = pool[:, ~np.isnan(pool).any(axis=0)]
    if pool.shape[1] == 0:
        return float("nan")
    spread = pool.std(axis=0)
    deviation = np.abs(pool - pool.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    largest = deviation.max(axis=1)
    return float((largest >= largest[0] - 1e-12).mean())


def _checked(observed: Array, draws: Array) -> tuple[Floats, Floats]:
    value, null = to_float64(observed, "observed"), to_float64(draws, "draws")
    if null.ndim == 0 or len(null) == 0:
        raise InputError("a rank needs at least one draw of the null.")
    if null.shape[1:] != value.shape:
        raise InputError(f"draws must have the shape of the observation {value.shape}, got {null.shape[1:]}.")
    return value, null
