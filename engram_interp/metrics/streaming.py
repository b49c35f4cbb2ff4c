"""Exact CKA over all samples from one pass, holding no samples.

With centred rows x_i, y_i and a_i = |x_i|², b_i = |y_i|², both HSIC of all samples follow from sums:

    biased ∝ ‖XᵀY‖²_F,   HSIC₁ ∝ ‖XᵀY‖²_F − n/(n−2)·Σa_i b_i + Σa·Σb/((n−1)(n−2)).

The true means are known only at the end. Rows are therefore taken relative to the mean of the first
batch (of all so far, if that one turns out to lie apart), and the few sums that a later change of origin
needs are kept beside: XᵀY, Σx, Σa, Σab, Σax, Σay, Σbx, Σby and the Grams XᵀX, YᵀY. All of it is float64,
so an offset common to all samples costs nothing and a drift of the means between batches costs digits only
in second order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engram_interp.errors import InputError
from engram_interp.metrics.arrays import Array, Floats, check_finite, check_layers, take

_NOTHING_LEFT = 1e-12


def _pair_keys(n_x: int, n_y: int) -> list[tuple[int, int]]:
    """Layers of both models counted through; every pair across and every layer with itself."""
    across = [(x, n_x + y) for x in range(n_x) for y in range(n_y)]
    return across + [(layer, layer) for layer in range(n_x + n_y)]


def _rows(xs: Sequence[Array], ys: Sequence[Array]) -> list[Floats]:
    """Copies in float64 of all layers of one batch, checked."""
    n = check_layers(xs, ys, caller="Accumulator.update", min_samples=1)
    names = [f"xs[{l}]" for l in range(len(xs))] + [f"ys[{l}]" for l in range(len(ys))]
    rows = []
    for name, layer in zip(names, [*xs, *ys], strict=True):
        piece = take(layer, slice(None))
        check_finite(piece, name=name, samples=range(n))
        rows.append(np.array(piece.cpu().double().numpy()))
    return rows


@dataclass(kw_only=True)
class Sums:
    """What a set of samples adds up to, relative to one origin per layer.

    Memory is 8 bytes times Σd·Σd' + Σd² over both models' layers (twelve layers of 512 a side: 350 MB),
    whatever the number of samples.

    Attributes:
        n_x: layers of the first model; the second's follow in all lists.
        n: samples so far.
        origin: what rows are relative to, per layer [d].
        row: Σx per layer [d].
        norm: Σa per layer.
        product: XᵀY per pair [d, d'].
        mixed: Σab per pair.
        weighted: Σ a_i y_i by (layer of a, layer of y), [d of y].
    """

    n_x: int
    n: int
    origin: list[Floats]
    row: list[Floats]
    norm: list[float]
    product: dict[tuple[int, int], Floats]
    mixed: dict[tuple[int, int], float]
    weighted: dict[tuple[int, int], Floats]

    @classmethod
    def of(cls, xs: Sequence[Array], ys: Sequence[Array]) -> "Sums":
        """Sums of a first batch of any size ≥ 1, about its own means; raises as `absorb` does."""
        origin = [layer.mean(axis=0) for layer in _rows(xs, ys)]
        widths = [len(middle) for middle in origin]
        keys = _pair_keys(len(xs), len(ys))
        both = {key for a, b in keys for key in ((a, b), (b, a))}
        empty = cls(
            n_x=len(xs),
            n=0,
            origin=origin,
            row=[np.zeros(width) for width in widths],
            norm=[0.0] * len(widths),
            product={(a, b): np.zeros((widths[a], widths[b])) for a, b in keys},
            mixed=dict.fromkeys(keys, 0.0),
            weighted={(a, b): np.zeros(widths[b]) for a, b in both},
        )
        empty.absorb(xs, ys)
        return empty

    def absorb(self, xs: Sequence[Array], ys: Sequence[Array]) -> None:
        """Add a batch of any size ≥ 1 in place.

        Raises:
            InputError: sample counts or widths that differ, NaN or infinity (names layer and sample).
        """
        rows = _rows(xs, ys)
        self._check_widths([layer.shape[1] for layer in rows])
        for layer, middle in zip(rows, self.origin, strict=True):
            layer -= middle  # noqa: PLW2901 (in place)
        norms = [np.einsum("nd,nd->n", layer, layer) for layer in rows]
        self.n += len(rows[0])
        self.row = [old + layer.sum(axis=0) for old, layer in zip(self.row, rows, strict=True)]
        self.norm = [old + float(norm.sum()) for old, norm in zip(self.norm, norms, strict=True)]
        for a, b in self.product:
            self.product[a, b] += rows[a].T @ rows[b]
            self.mixed[a, b] += float(norms[a] @ norms[b])
        for a, b in self.weighted:
            self.weighted[a, b] += norms[a] @ rows[b]
        if self._strayed():
            vars(self).update(vars(self.moved(self._means())))

    def _means(self) -> list[Floats]:
        return [origin + row / self.n for origin, row in zip(self.origin, self.row, strict=True)]

    def _strayed(self) -> bool:
        """Whether an origin lies so far from the mean, after an odd first batch, that digits are lost."""
        away = [float(row @ row) / self.n for row in self.row]
        return any(far > 0.5 * norm for far, norm in zip(away, self.norm, strict=True))

    def _check_widths(self, widths: list[int]) -> None:
        wanted = [len(middle) for middle in self.origin]
        if widths != wanted:
            raise InputError(f"layers must keep their widths: they were {wanted}, now {widths}.")

    def moved(self, origin: list[Floats]) -> "Sums":
        """The same samples relative to another origin; exact algebra."""
        steps = [old - new for old, new in zip(self.origin, origin, strict=True)]
        if not any(step.any() for step in steps):
            return self
        n, row, norm = self.n, self.row, self.norm
        square = [float(step @ step) for step in steps]
        along = [float(step @ total) for step, total in zip(steps, row, strict=True)]
        product, mixed, weighted = {}, {}, {}
        for a, b in self.product:
            product[a, b] = (
                self.product[a, b] + np.outer(steps[a], row[b]) + np.outer(row[a] + n * steps[a], steps[b])
            )
            # a' = a + 2 d·x + |d|², b' likewise
            mixed[a, b] = float(
                self.mixed[a, b]
                + 2 * steps[b] @ self.weighted[a, b]
                + 2 * steps[a] @ self.weighted[b, a]
                + square[b] * norm[a]
                + square[a] * norm[b]
                + 4 * steps[a] @ self.product[a, b] @ steps[b]
                + 2 * square[b] * along[a]
                + 2 * square[a] * along[b]
                + n * square[a] * square[b]
            )
        for a, b in self.weighted:
            cross = self.product[a, b] if (a, b) in self.product else self.product[b, a].T
            total = norm[a] + 2 * along[a] + n * square[a]
            weighted[a, b] = (
                self.weighted[a, b] + 2 * steps[a] @ cross + square[a] * row[b] + total * steps[b]
            )
        return Sums(
            n_x=self.n_x,
            n=n,
            origin=list(origin),
            row=[total + n * step for total, step in zip(row, steps, strict=True)],
            norm=[v + 2 * m + n * s for v, m, s in zip(norm, along, square, strict=True)],
            product=product,
            mixed=mixed,
            weighted=weighted,
        )

    def plus(self, other: "Sums") -> "Sums":
        """Both sets of samples, relative to their common mean."""
        self._check_widths([len(middle) for middle in other.origin])
        share = other.n / (self.n + other.n)
        means = zip(self._means(), other._means(), strict=True)
        middle = [mine + share * (theirs - mine) for mine, theirs in means]
        return self.moved(middle)._added(other.moved(middle))

    def _added(self, other: "Sums") -> "Sums":
        """Both sets of samples, of one origin."""
        return Sums(
            n_x=self.n_x,
            n=self.n + other.n,
            origin=self.origin,
            row=[a + b for a, b in zip(self.row, other.row, strict=True)],
            norm=[a + b for a, b in zip(self.norm, other.norm, strict=True)],
            product={key: value + other.product[key] for key, value in self.product.items()},
            mixed={key: value + other.mixed[key] for key, value in self.mixed.items()},
            weighted={key: value + other.weighted[key] for key, value in self.weighted.items()},
        )

    def traces(self, *, unbiased: bool) -> tuple[Floats, Floats, Floats]:
        """Unnormalised HSIC about the means: xy [layer, baseline_layer], xx [layer], yy [baseline_layer].

        A layer whose own term is nothing but rounding has 0.
        """
        means = self._means()
        about = self.moved(means)
        n, n_all = self.n, len(self.origin)
        found = {}
        for (a, b), product in about.product.items():
            term = float(np.vdot(product, product))
            if unbiased:
                term -= n / (n - 2) * about.mixed[a, b]
                term += about.norm[a] * about.norm[b] / ((n - 1) * (n - 2))
            found[a, b] = term
        own = np.array([found[layer, layer] for layer in range(n_all)])
        floor = [_NOTHING_LEFT * max(norm, 0.0) ** 2 for norm in about.norm]
        size = [self.n * float(middle @ middle) for middle in means]
        flat = (own <= floor) | (np.array(about.norm) <= _NOTHING_LEFT**2 * np.array(size))
        own[flat] = 0.0
        xy = np.array([[found[x, y] for y in range(self.n_x, n_all)] for x in range(self.n_x)])
        return xy, own[: self.n_x], own[self.n_x :]
