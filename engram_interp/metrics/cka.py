"""Linear centred kernel alignment between the layers of two models.

    CKA = HSIC(K,L) / √(HSIC(K,K)·HSIC(L,L)),  K = XXᵀ, L = YYᵀ

1 for representations equal up to rotation, shift and scale. Three estimators of HSIC:

* ``minibatch`` (Nguyen et al. 2021, what the Engram paper §6.1.2 uses): HSIC₁ of each minibatch, the
  three terms averaged over batches before the ratio. Choose it by default: memory does not grow with
  the number of samples, and shards add up exactly.
* ``unbiased``: HSIC₁ over all samples. Choose it to check that batches do no harm.
* ``biased`` (Kornblith et al. 2019): grows towards 1 as d/n grows. Choose it only to compare with
  published numbers.

No value is clamped: ``minibatch`` and ``unbiased`` may be slightly negative. A few huge rows or
directions can decide CKA (Davari et al. 2023): look at `outliers` beside it. float64 and integer
layers are computed in float64; narrower ones in float32 after centring, in float64 where that would
not do. Sums are float64.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from engram_interp.errors import InputError
from engram_interp.metrics import exact, gram, hsic, streaming
from engram_interp.metrics.arrays import MIN_SAMPLES, Array, Floats, check_finite, check_layers, take

Estimator = Literal["minibatch", "biased", "unbiased"]


def matrix(
    xs: Sequence[Float[Array, "_sample _d_model"]],
    ys: Sequence[Float[Array, "_sample _d_model"]],
    estimator: Estimator = "minibatch",
    *,
    batch_size: int = 256,
) -> Float[np.ndarray, "layer baseline_layer"]:
    """CKA of every layer of one model with every layer of another.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(512, 8))
    >>> matrix([x, x[:, :4]], [3 * x + 100]).round(2)
    array([[1.  ],
           [0.68]])

    Args:
        xs: layers [sample, d], any d per layer. The rows' order makes the minibatches: consecutive
            slices, so shuffle first.
        ys: layers [sample, d] of the other model; row i belongs to the same token. Passing `xs`
            itself again costs half.
        estimator: which HSIC, see above.
        batch_size: rows of a minibatch, at least 4. A shorter tail is dropped; with fewer samples
            than one batch there is one batch of all of them. Only ``minibatch`` looks at it.

    Returns:
        float64 [layer, baseline_layer], at most about 1.

    Raises:
        InputError: fewer than 4 samples, sample counts that differ, NaN or infinity (names layer
            and sample), a layer that does not vary.
    """
    n_samples = check_layers(xs, ys, caller="cka.matrix")
    _check_estimator(estimator)
    if estimator == "minibatch":
        return _minibatch(xs, ys, n_samples, batch_size)
    found = exact.traces(xs, ys, diagonal="kept" if estimator == "biased" else "dropped")
    return _ratio(hsic.Terms(xy=found.xy[None], xx=found.xx[None], yy=found.yy[None]))


def _check_estimator(estimator: str) -> None:
    if estimator not in get_args(Estimator):
        raise InputError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {estimator!r}.")


def _minibatch(xs: Sequence[Array], ys: Sequence[Array], n_samples: int, batch_size: int) -> Floats:
    if batch_size < MIN_SAMPLES:
        raise InputError(f"batch_size must be at least {MIN_SAMPLES}, got {batch_size}.")
    size = min(batch_size, n_samples)
    whole = n_samples - n_samples % size
    sums: hsic.Terms | None = None
    room = gram.Workspace()
    starts = range(0, whole, size)
    for run in hsic.together(len(starts)):
        several, rows = len(starts[run]), range(starts[run][0], starts[run][-1] + size)
        found = hsic.batch_terms(xs, ys, rows, room, n_batches=several)
        total = hsic.Terms(xy=found.xy.sum(0)[None], xx=found.xx.sum(0)[None], yy=found.yy.sum(0)[None])
        sums = _add(sums, total)
    for side, layers in (("xs", xs), ("ys", ys)):
        for number, layer in enumerate(layers):
            tail = take(layer, slice(whole, n_samples))
            check_finite(tail, name=f"{side}[{number}]", samples=range(whole, n_samples))
    assert sums is not None
    return _ratio(sums)


def _add(sums: hsic.Terms | None, terms: hsic.Terms) -> hsic.Terms:
    if sums is None:
        return terms
    return hsic.Terms(xy=sums.xy + terms.xy, xx=sums.xx + terms.xx, yy=sums.yy + terms.yy)


def _ratio(sums: hsic.Terms) -> Floats:
    for side, squares in (("xs", sums.xx[0]), ("ys", sums.yy[0])):
        if np.any(squares <= 0):
            raise InputError(
                f"{side}[{int(np.argmin(squares))}] does not vary between samples (its rows are equal, "
                "or all but one are), so its CKA is undefined; leave that layer out."
            )
    return hsic.cka_from_terms(sums)


class Accumulator:
    """CKA from batches that come one at a time; memory does not grow with the samples.

    ``minibatch``: one `update` is one minibatch, and batches must have equal size, so that each term
    estimates the same. ``biased`` and ``unbiased`` give what `matrix` gives over all samples at once, from
    batches of any size, and hold 8 bytes · (Σd·Σd' + Σd² + Σd'²), sums over the layers of both models.
    `merge` adds another accumulator's batches; the order of updates and merges does not matter.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> total = Accumulator(1, 2)
    >>> for _ in range(3):
    ...     x = rng.normal(size=(32, 6))
    ...     total.update([x], [x, x[:, :3]])
    >>> total.matrix().shape
    (1, 2)
    """

    def __init__(self, n_x: int, n_y: int, *, estimator: Estimator = "minibatch") -> None:
        if n_x < 1 or n_y < 1:
            raise InputError(f"Accumulator needs at least one layer on each side, got {n_x} and {n_y}.")
        _check_estimator(estimator)
        self.n_x = n_x
        self.n_y = n_y
        self.estimator = estimator
        self.batch_size: int | None = None
        self.n_batches = 0
        self._sums: hsic.Terms | streaming.Sums | None = None
        self._room = gram.Workspace()

    def update(
        self,
        xs: Sequence[Float[Array, "_sample _d_model"]],
        ys: Sequence[Float[Array, "_sample _d_model"]],
    ) -> None:
        """Add one batch.

        Args:
            xs: n_x layers [sample, d].
            ys: n_y layers [sample, d], the same samples.

        Raises:
            InputError: another number of layers, NaN or infinity; for ``minibatch`` a batch size that
                differs from the first or fewer than 4 samples; else another width than the first batch's.
                The sums are then as before.
        """
        if (len(xs), len(ys)) != (self.n_x, self.n_y):
            raise InputError(
                f"this Accumulator takes {self.n_x} and {self.n_y} layers, got {len(xs)} and {len(ys)}."
            )
        if self.estimator == "minibatch":
            size = check_layers(xs, ys, caller="Accumulator.update")
            self._check_size(size)
            self._add(hsic.batch_terms(xs, ys, range(size), self._room))
            self.batch_size = size
        elif isinstance(self._sums, streaming.Sums):
            self._sums.absorb(xs, ys)
        else:
            self._sums = streaming.Sums.of(xs, ys)
        self.n_batches += 1

    def merge(self, other: "Accumulator") -> None:
        """Add the batches of another accumulator, which stays as it is.

        Raises:
            InputError: another estimator, number of layers, batch size or width.
        """
        if other.estimator != self.estimator:
            raise InputError(f"cannot merge {other.estimator} sums into {self.estimator} ones.")
        if (other.n_x, other.n_y) != (self.n_x, self.n_y):
            raise InputError(
                f"cannot merge an Accumulator of {other.n_x} and {other.n_y} layers into one of "
                f"{self.n_x} and {self.n_y}."
            )
        if other._sums is None:
            return
        if other.batch_size is not None:
            self._check_size(other.batch_size)
        self._add(other._sums)
        self.batch_size = other.batch_size
        self.n_batches += other.n_batches

    def matrix(self) -> Float[np.ndarray, "layer baseline_layer"]:
        """CKA over all batches so far, float64 [layer, baseline_layer].

        Raises:
            InputError: no batch yet, fewer than 4 samples, or a layer that does not vary.
        """
        if self._sums is None:
            raise InputError("this Accumulator has seen no batch; call update first.")
        if isinstance(self._sums, hsic.Terms):
            return _ratio(self._sums)
        if self._sums.n < MIN_SAMPLES:
            raise InputError(
                f"CKA needs at least {MIN_SAMPLES} samples, this Accumulator has seen {self._sums.n}; "
                "add more."
            )
        xy, xx, yy = self._sums.traces(unbiased=self.estimator == "unbiased")
        return _ratio(hsic.Terms(xy=xy[None], xx=xx[None], yy=yy[None]))

    def _add(self, more: hsic.Terms | streaming.Sums) -> None:
        if isinstance(more, streaming.Sums):
            mine = self._sums
            self._sums = mine.plus(more) if isinstance(mine, streaming.Sums) else deepcopy(more)
        else:
            self._sums = _add(self._sums if isinstance(self._sums, hsic.Terms) else None, more)

    def _check_size(self, size: int) -> None:
        if self.batch_size not in (None, size):
            raise InputError(
                f"every minibatch must have the same size: this Accumulator holds batches of "
                f"{self.batch_size}, got one of {size}; drop the shorter tail."
            )
