"""From similarity of layers to shifts of depth, and their intervals from stored HSIC terms.

Three readings of depth (`alignment`) are made of the model against the baseline and of a reference
against the same baseline. A shift is the difference of the two; for the path it is calibrated
(`alignment.calibrated_shift`). Intervals resample groups of whole documents: nothing but the groups'
HSIC terms is needed. Coverage was measured on exchangeable made-up pairs only: see
`analyses/00_known_answers.py`. Where neighbouring layers are so alike that sampling moves the path by
whole layers, intervals are too wide rather than too narrow.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engram_interp.metrics import alignment, bootstrap, hsic
from engram_interp.metrics.arrays import Floats

READINGS = {"depth": "shift", "peak": "peak_shift", "path": "path_shift"}
"""Each reading of depth, and what the shift of it is called."""

BY_K = {"depth_by_k": "shift_by_k"}
"""The soft index and its shift at every k: whether a finding hangs on the k that was chosen."""

MOST_K = 10
"""The soft index is kept for each k up to this one."""

MEANS = ("headline", "control_shift", "soft_headline")
"""Means over layers: of the path after and before the first read, of the soft index after it."""

WITHOUT_SEED = 1.15
"""How much wider intervals are made where no other seed of the baseline stands beside the model.

Documents drawn again tell nothing of what the baseline's own seed does to its path. By three laws of made-up
pairs, 240 to 400 exchangeable ones each, drawn three times, intervals left as they were held 0 in 90 to 95 %.
"""

POWER = 0.84
"""Standard errors beyond its interval's reach that show a true shift in 80 % of samples of a normal law.

Of made-up pairs with such a shift 73 to 75 % showed it: their spread is wider than that of pairs without.
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which layers count for what.

    Attributes:
        n_layers: layers of the model.
        n_reference: layers of the reference.
        first: first layer with a memory; `n_layers` where there is none.
        top_k: of the soft index, whose edge layers are left out of the headline.
    """

    n_layers: int
    n_reference: int
    first: int
    top_k: int

    @property
    def edge(self) -> Bool[np.ndarray, " layer"]:
        """Layers where the soft index is biased."""
        return np.asarray(alignment.edge_layers(self.n_layers, self.top_k))

    @property
    def pre_memory(self) -> Bool[np.ndarray, " layer"]:
        """Residuals before the first read."""
        return np.asarray(np.arange(self.n_layers) < self.first)

    @property
    def referred(self) -> Bool[np.ndarray, " layer"]:
        """Layers that the reference has too."""
        return np.asarray(np.arange(self.n_layers) < self.n_reference)

    @property
    def interior(self) -> Bool[np.ndarray, " layer"]:
        """Layers that the headline is a mean over."""
        return np.asarray(~self.edge & ~self.pre_memory & self.referred)


def measure(
    similarity: Float[np.ndarray, "*boot layer baseline_layer"],
    own: Float[np.ndarray, "*boot reference_layer baseline_layer"],
    place: Place,
    *,
    itself: bool = False,
) -> dict[str, Floats]:
    """Every reading of depth, that of the reference, the shifts, and the means of shifts.

    Args:
        similarity: of the model with the baseline.
        own: of the reference with the baseline, same leading axes.
        place: which layers count for what.
        itself: whether the reference is the baseline itself, whose path is then read as another seed's
            would be (`alignment.as_another_seed`).

    Returns:
        ``depth`` ``depth_self`` ``shift``, the same for ``peak`` and ``path`` [*boot, layer], ``depth_by_k``
        ``depth_by_k_self`` ``shift_by_k`` [*boot, k, layer], and `MEANS` [*boot]. NaN where a similarity is
        undefined, or the reference has no such layer.
    """
    undefined = np.isnan(similarity).any(axis=(-2, -1)) | np.isnan(own).any(axis=(-2, -1))
    found: dict[str, Floats] = {}
    readings = {}
    whole = {
        end: np.where(undefined[..., None, None], 0.0, values)
        for end, values in (("", similarity), ("_self", own))
    }
    for end, values in whole.items():
        readings["depth_by_k" + end] = alignment.soft_indices(values, MOST_K)
        readings["depth" + end] = alignment.soft_index(values, top_k=place.top_k)
        readings["peak" + end] = alignment.peak(values)
    if itself:
        whole["_self"] = alignment.as_another_seed(whole["_self"], whole[""])
    for end, values in whole.items():
        readings["path" + end] = alignment.monotone_path(values, refine="parabola")
    for name, shift in (READINGS | BY_K).items():
        found[name] = readings[name]
        found[f"{name}_self"] = _fitted(readings[f"{name}_self"], place)
        found[shift] = found[name] - found[f"{name}_self"]
    found["path_shift"] = np.where(
        place.referred, alignment.calibrated_shift(readings["path"], readings["path_self"]), np.nan
    )
    control = place.pre_memory & place.referred
    found["headline"] = _mean(found["path_shift"], place.interior)
    found["control_shift"] = _mean(found["path_shift"], control)
    found["soft_headline"] = _mean(found["shift"], place.interior)
    for values in found.values():
        values[undefined] = np.nan
    return found


def estimates(
    terms: hsic.Terms,
    own: hsic.Terms,
    place: Place,
    *,
    n_boot: int,
    seed: int | np.random.Generator,
    itself: bool = False,
) -> dict[str, Floats]:
    """What `measure` gives over all groups, with 95 % intervals and the shift that could be seen.

    Args:
        terms: HSIC terms of the model with the baseline by group of documents.
        own: of the reference with the baseline, same groups.
        place: which layers count for what.
        n_boot: resamples of the groups.
        seed: of the resamples.
        itself: as in `measure`.

    Returns:
        As `measure`, with ``_low`` and ``_high`` of every shift and mean (`WITHOUT_SEED` wider with
        `itself`), and ``detectable``. Peaks on a plateau are NaN. Bounds are NaN with fewer than 20 groups.
    """
    n_groups = len(terms.xy)
    found = measure(hsic.cka_from_terms(terms), hsic.cka_from_terms(own), place, itself=itself)
    bounded = (*READINGS.values(), *BY_K.values(), *MEANS)
    if n_groups < bootstrap.MIN_GROUPS:
        return found | unbounded(found)
    weights = bootstrap.group_weights(n_groups, n_boot, seed)
    similarity, reference = hsic.cka_from_terms(terms, weights), hsic.cka_from_terms(own, weights)
    draws = measure(similarity, reference, place, itself=itself)
    wider = WITHOUT_SEED if itself else 1.0
    for name in bounded:
        low, high = bootstrap.interval(draws[name], n_groups=n_groups)
        found[f"{name}_low"], found[f"{name}_high"] = widened(low, high, itself=itself)
    needed = wider * bootstrap.reach(0.95, n_groups) + POWER
    found["detectable"] = np.asarray(needed * np.std(draws["headline"]))
    _drop_plateaus(found, alignment.plateau(similarity), alignment.plateau(reference), place)
    return found


def widened(low: Floats, high: Floats, *, itself: bool) -> tuple[Floats, Floats]:
    """Bounds of a shift, `WITHOUT_SEED` further apart where the baseline itself is the reference."""
    more = (WITHOUT_SEED - 1) / 2 * (high - low) if itself else 0.0
    return np.asarray(low - more), np.asarray(high + more)


def interval_name(*, itself: bool) -> str:
    """What intervals of shifts are, for the provenance."""
    wider = f", {WITHOUT_SEED} times as wide for want of another seed" if itself else ""
    return f"expanded percentiles over groups of documents{wider}"


def unbounded(found: dict[str, Floats]) -> dict[str, Floats]:
    """Bounds, and the shift that could be seen, where there are none."""
    bounds = {
        f"{name}{end}": np.full_like(found[name], np.nan)
        for name in (*READINGS.values(), *BY_K.values(), *MEANS)
        for end in ("_low", "_high")
    }
    return bounds | {"detectable": np.asarray(np.nan)}


def _drop_plateaus(
    found: dict[str, Floats],
    flat: Bool[np.ndarray, " layer"],
    flat_reference: Bool[np.ndarray, " reference_layer"],
    place: Place,
) -> None:
    flat_self = np.ones_like(flat)
    n_common = min(place.n_layers, place.n_reference)
    flat_self[:n_common] = flat_reference[:n_common]
    found["peak"] = np.where(flat, np.nan, found["peak"])
    found["peak_self"] = np.where(flat_self, np.nan, found["peak_self"])
    for end in ("", "_low", "_high"):
        found[f"peak_shift{end}"] = np.where(flat | flat_self, np.nan, found[f"peak_shift{end}"])


def _fitted(values: Floats, place: Place) -> Floats:
    """The reference's readings at the model's layers; NaN where it has none."""
    fitted = np.full((*values.shape[:-1], place.n_layers), np.nan)
    n_common = min(place.n_layers, place.n_reference)
    fitted[..., :n_common] = values[..., :n_common]
    return fitted


def _mean(values: Floats, layers: Bool[np.ndarray, " layer"]) -> Floats:
    chosen = values[..., layers]
    return np.asarray(chosen.mean(-1) if chosen.shape[-1] else np.full(chosen.shape[:-1], np.nan))
