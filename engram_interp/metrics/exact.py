"""HSIC terms over all samples at once, without an n×n matrix in memory.

Two forms give the same numbers, and the cheaper one is taken:

* **tiled**: Gram tiles of 512×512 rows for every layer, then all pairs' traces as in `gram`; centring needs
  the Grams' row sums alone. About n²·Σd operations.
* **feature**: ‖XᵀY‖²_F per pair of layers, with Σk_i l_i taken off where the diagonal must not count.
  About 2n·Σd·Σd' operations.

The work is float32 unless the data are float64 or the samples few. If rounding could show (rows hundreds
of times longer than the rest, or all of them far from the origin), it is done again in float64, where
tiles are U-centred entry by entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from engram_interp.metrics import half_grams
from engram_interp.metrics.arrays import Array, Floats, working_dtype
from engram_interp.metrics.centring import Samples, tiles
from engram_interp.metrics.gram import WORST_LOSS, WORST_TRACE, Workspace, few_rows_decide
from engram_interp.metrics.near_mean import NearMean, near_mean
from engram_interp.metrics.u_centring import centre_term, u_centre, u_share, u_term

Diagonal = Literal["kept", "dropped"]
Form = Literal["cheaper", "tiled", "feature"]

GRAM_TILE = 512
FEATURE_TILE = 1024

_NOTHING_LEFT = 1e-12


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Unnormalised HSIC terms: xy [layer, baseline_layer], xx [layer], yy [baseline_layer]."""

    xy: Floats
    xx: Floats
    yy: Floats


def traces(
    xs: Sequence[Array],
    ys: Sequence[Array],
    *,
    diagonal: Diagonal,
    form: Form = "cheaper",
    samples: Samples = None,
) -> Traces:
    """Σ_ij A_ij B_ij over all samples, for every pair of layers and each layer with itself.

    Args:
        xs: layers [sample, d], already checked.
        ys: layers [sample, d] of the other model. The same list as `xs` costs half.
        diagonal: ``kept`` with column-centred Grams (biased HSIC times (n−1)²), ``dropped`` with
            U-centred ones (HSIC₁ times n(n−3)).
        form: which of the two ways; ``cheaper`` picks by operation count.
        samples: the caller's number of each row, for errors; 0, 1, 2, … if not given.

    Returns:
        The sums, in the layers' own units.

    Raises:
        InputError: NaN or infinity; names layer and sample.
    """
    if form == "cheaper":
        form = "tiled" if _tiled_cost(xs, ys) <= _feature_cost(xs, ys) else "feature"
    dtype = working_dtype(*xs, *ys, n_samples=len(xs[0]))
    for way, precision in ((form, dtype), (form, torch.float64), ("tiled", torch.float64)):
        near = partial(_near_mean, dtype=precision, samples=samples)
        left = near(xs, side="xs")
        right = left if ys is xs else near(ys, side="ys")
        run = _tiled if way == "tiled" else _feature
        found = run(left, right, diagonal)
        if all(_is_sound(way, *side, diagonal) for side in ((left, found.xx), (right, found.yy))):
            break
    return _in_own_units(found, left, right)


def _near_mean(layers: Sequence[Array], *, side: str, dtype: torch.dtype, samples: Samples) -> list[NearMean]:
    return [
        near_mean(layer, dtype, name=f"{side}[{number}]", samples=samples)
        for number, layer in enumerate(layers)
    ]


def _tiled_cost(xs: Sequence[Array], ys: Sequence[Array]) -> int:
    sides = [xs] if xs is ys else [xs, ys]
    width = sum(layer.shape[1] for side in sides for layer in side)
    return len(xs[0]) ** 2 * (width + len(xs) * len(ys))


def _feature_cost(xs: Sequence[Array], ys: Sequence[Array]) -> int:
    widths = [[layer.shape[1] for layer in side] for side in (xs, ys)]
    own = sum(width**2 for side in widths for width in side)
    return 2 * len(xs[0]) * (sum(widths[0]) * sum(widths[1]) + own)


def _tiled(xs: Sequence[NearMean], ys: Sequence[NearMean], diagonal: Diagonal) -> Traces:
    shapes = ((len(xs), len(ys)), (len(xs),), (len(ys),))
    total = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    workspaces = {halved: (Workspace(), Workspace()) for halved in (True, False)}
    pieces = list(tiles(len(xs[0].rows), GRAM_TILE))
    for first, rows in enumerate(pieces):
        for columns in pieces[first:]:
            weight = 1 if rows == columns else 2  # the Gram is symmetric
            room, other_room = workspaces[rows == columns]
            grams = _tile_grams(xs, rows, columns, diagonal, room)
            others = grams if ys is xs else _tile_grams(ys, rows, columns, diagonal, other_room)
            squares = half_grams.square_sums(grams), half_grams.square_sums(others)
            found = half_grams.products(grams, others)[0], *(side[:, 0] for side in squares)
            for old, more in zip(total, found, strict=True):
                old += weight * more.cpu()  # noqa: PLW2901 (in place)
    if not _is_exact(xs):
        term = u_term if diagonal == "dropped" else centre_term
        left, right = (_row_sums(side, diagonal).cpu() for side in (xs, ys))
        total[0] += term(left, right)
        total[1] += term(left, left).diagonal()
        total[2] += term(right, right).diagonal()
    xy, xx, yy = (part.numpy() for part in total)
    return Traces(xy=xy, xx=xx, yy=yy)


def _is_exact(layers: Sequence[NearMean]) -> bool:
    """Whether rows are about their mean itself, and tiles are U-centred entry by entry."""
    return layers[0].rows.dtype == torch.float64


def _row_sums(layers: Sequence[NearMean], diagonal: Diagonal) -> Tensor:
    """Row sums of the Grams that the tiles make up, float64 [layer, sample]."""
    dropped = diagonal == "dropped"
    return torch.stack([layer.sums - layer.norms if dropped else layer.sums for layer in layers])


def _tile_grams(
    layers: Sequence[NearMean], rows: slice, columns: slice, diagonal: Diagonal, workspace: Workspace
) -> list[Tensor]:
    """One tile of every layer's Gram; by half on the diagonal, or in float64 U-centred where asked."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    halved = rows == columns and not _is_exact(layers)
    whole: list[tuple[int, ...]] = [(len(layers), 1, height, width)]
    shapes = half_grams.level_shapes(len(layers), 1, height) if halved else whole
    levels = workspace.room(shapes, like=layers[0].rows)
    if halved:
        for number, layer in enumerate(layers):
            half_grams.write(
                half_grams.filled(layer.rows[None, rows]), out=half_grams.of_layer(levels, number)
            )
        if diagonal == "dropped":
            half_grams.diagonals(levels).zero_()
        return levels
    for gram, layer in zip(levels[0][:, 0], layers, strict=True):
        torch.mm(layer.rows[rows], layer.rows[columns].T, out=gram)
        if diagonal == "dropped" and _is_exact(layers):
            # Centred rows of a Gram sum to zero, so its off-diagonal rows sum to −k_i.
            share = u_share(-layer.norms, -layer.norms.sum())
            u_centre(gram, share[rows], share[columns])
            if rows == columns:
                gram.fill_diagonal_(0)
    return levels


def _feature(xs: Sequence[NearMean], ys: Sequence[NearMean], diagonal: Diagonal) -> Traces:
    return Traces(
        xy=np.array([[_feature_term(x, y, diagonal) for y in ys] for x in xs]),
        xx=np.array([_feature_term(x, x, diagonal) for x in xs]),
        yy=np.array([_feature_term(y, y, diagonal) for y in ys]),
    )


def _feature_term(a: NearMean, b: NearMean, diagonal: Diagonal) -> float:
    n = len(a.rows)
    parts = [(a.rows[rows].T @ b.rows[rows]).double() for rows in tiles(n, FEATURE_TILE)]
    product = torch.stack(parts).sum(0) - torch.outer(a.total, b.total) / n
    term = product.square().sum()
    if diagonal == "dropped":
        k, l = a.centred_norms, b.centred_norms
        term += k.sum() * l.sum() / ((n - 1) * (n - 2)) - n / (n - 2) * (k @ l)
    return float(term)


def _is_sound(way: Form, layers: Sequence[NearMean], squares: Floats, diagonal: Diagonal) -> bool:
    """Whether what cancels is small enough beside what is left.

    Tiles are rounded relative to tr K, and in float32 the row sums are taken off afterwards, 2/n Σr²; the
    feature form takes off the diagonal, Σk².
    """
    dtype = layers[0].rows.dtype
    for layer, sums, square in zip(layers, _row_sums(layers, diagonal), squares, strict=True):
        trace = float(layer.norms.sum())
        if not layer.is_safe:
            return False
        if trace == 0:
            continue
        if square <= (_NOTHING_LEFT * trace) ** 2:
            return False
        lost = float(layer.norms.square().sum())
        if way == "tiled":
            lost = 2 / len(sums) * float(sums.square().sum())
            if trace > WORST_TRACE[dtype] * square**0.5:
                return False
            if dtype == torch.float32 and bool(few_rows_decide(layer.norms)):
                return False
        if lost > WORST_LOSS[dtype] * square:
            return False
    return True


def _in_own_units(found: Traces, left: Sequence[NearMean], right: Sequence[NearMean]) -> Traces:
    """Undo the scales, and set to exactly zero what is only the rounding of a layer without variation."""
    p, q = (np.array([layer.exponent for layer in side]) for side in (left, right))
    floors = [
        np.array([_NOTHING_LEFT * float(layer.norms.sum()) for layer in side]) ** 2 for side in (left, right)
    ]
    keep_x, keep_y = found.xx > floors[0], found.yy > floors[1]
    return Traces(
        xy=np.ldexp(found.xy * keep_x[:, None] * keep_y, 2 * (p[:, None] + q)),
        xx=np.ldexp(found.xx * keep_x, 4 * p),
        yy=np.ldexp(found.yy * keep_y, 4 * q),
    )
