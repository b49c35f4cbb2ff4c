"""HSIC terms over all samples at once, without an n×n matrix in memory.

A centred copy of every layer is held.

Two forms give the same numbers, and the cheaper one is taken:

* **tiled**: Gram tiles of 512×512 rows for every layer, then all pairs' traces as in `gram`; U-centring
  needs the row norms alone (centred rows make Σ_j K_ij = 0). About n²·Σd operations.
* **feature**: ‖XᵀY‖²_F per pair of layers, with Σk_i l_i taken off where the diagonal must not count.
  About 2n·Σd·Σd' operations.

The work is float32 unless the data are float64 or the samples few. If rounding could show (rows hundreds
of times longer than the rest), it is done again in float64, where tiles are U-centred entry by entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engram_interp.metrics.arrays import Array, Floats, working_dtype
from engram_interp.metrics.centring import CentredLayer, centre, tiles
from engram_interp.metrics.gram import (
    WORST_LOSS,
    WORST_TRACE,
    Workspace,
    blocks,
    filled,
    n_entries,
    products,
    square_sums,
    write_blocks,
)
from engram_interp.metrics.u_centring import u_centre, u_share, u_term

Diagonal = Literal["kept", "dropped"]
Form = Literal["cheaper", "tiled", "feature"]

GRAM_TILE = 512
FEATURE_TILE = 4096

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
    samples: range | npt.NDArray[np.int64] | None = None,
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
    left = [centre(layer, name=f"xs[{l}]", samples=samples) for l, layer in enumerate(xs)]
    right = left
    if ys is not xs:
        right = [centre(layer, name=f"ys[{l}]", samples=samples) for l, layer in enumerate(ys)]
    if form == "cheaper":
        form = "tiled" if _tiled_cost(left, right) <= _feature_cost(left, right) else "feature"
    dtype = working_dtype(*xs, *ys, n_samples=len(left[0].norms))
    ways = [(form, dtype), (form, torch.float64), ("tiled", torch.float64)]
    for way, precision in ways:
        run = _tiled if way == "tiled" else _feature
        found = run(left, right, diagonal, precision)
        if _is_sound(way, precision, found, left, right):
            break
    return _in_own_units(found, left, right)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Centred rows [layer, sample, d] of layers of one width, and what U-centring adds to each row."""

    centred: Tensor
    norms: Tensor
    share: Tensor

    @classmethod
    def of(cls, layers: Sequence[CentredLayer], dtype: torch.dtype) -> "_Rows":
        shape = (len(layers), len(layers[0].norms), len(layers[0].mean))
        centred = torch.empty(shape, dtype=dtype, device=layers[0].norms.device)
        for out, layer in zip(centred, layers, strict=True):
            for rows in tiles(shape[1], GRAM_TILE):
                layer.write(rows, out=out[rows])
        norms = torch.stack([layer.norms for layer in layers])
        # Centred rows of a Gram sum to zero, so its off-diagonal rows sum to −k_i.
        share = torch.stack([u_share(-norm, -norm.sum()) for norm in norms])
        return cls(centred=centred, norms=norms, share=share.to(dtype))

    @classmethod
    def by_width(cls, layers: Sequence[CentredLayer], dtype: torch.dtype) -> "list[_Rows]":
        """All layers in order, those of equal width together where they follow each other."""
        return [cls.of(list(same), dtype) for _, same in groupby(layers, key=lambda layer: len(layer.mean))]


def _tiled_cost(left: Sequence[CentredLayer], right: Sequence[CentredLayer]) -> int:
    sides = [left] if left is right else [left, right]
    width = sum(len(layer.mean) for side in sides for layer in side)
    return len(left[0].norms) ** 2 * (width + len(left) * len(right))


def _feature_cost(left: Sequence[CentredLayer], right: Sequence[CentredLayer]) -> int:
    widths = [[len(layer.mean) for layer in side] for side in (left, right)]
    own = sum(width**2 for side in widths for width in side)
    return 2 * len(left[0].norms) * (sum(widths[0]) * sum(widths[1]) + own)


def _tiled(
    left: Sequence[CentredLayer], right: Sequence[CentredLayer], diagonal: Diagonal, dtype: torch.dtype
) -> Traces:
    xs = _Rows.by_width(left, dtype)
    ys = xs if right is left else _Rows.by_width(right, dtype)
    shapes = ((len(left), len(right)), len(left), len(right))
    total = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
    workspaces = (Workspace(), Workspace())
    pieces = list(tiles(len(left[0].norms), GRAM_TILE))
    for first, rows in enumerate(pieces):
        for columns in pieces[first:]:
            weight = 1 if rows == columns else 2  # the Gram is symmetric
            grams = _tile_grams(xs, rows, columns, diagonal, workspaces[0])
            others = grams if ys is xs else _tile_grams(ys, rows, columns, diagonal, workspaces[1])
            found = products(grams, others), square_sums(grams), square_sums(others)
            for old, more in zip(total, found, strict=True):
                old += weight * more.cpu()  # noqa: PLW2901 (in place)
    xy, xx, yy = total
    if diagonal == "dropped" and dtype != torch.float64:
        sums, others = (-torch.cat([part.norms for part in side]).cpu() for side in (xs, ys))
        xy += u_term(sums, others)
        xx += u_term(sums, sums).diagonal()
        yy += u_term(others, others).diagonal()
    return Traces(xy=xy.numpy(), xx=xx.numpy(), yy=yy.numpy())


def _tile_grams(
    parts: Sequence[_Rows], rows: slice, columns: slice, diagonal: Diagonal, workspace: Workspace
) -> Tensor:
    """One tile of every layer's Gram [layer, chunk, entry]; in float64 it is U-centred where asked."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    n_layers, like = sum(len(part.centred) for part in parts), parts[0].centred
    halved = rows == columns and like.dtype != torch.float64
    kept = n_entries(height) if halved else height * width
    entries = workspace.room(n_layers, kept, like=like)
    flat = entries.view(n_layers, -1)[:, :kept].split([len(part.centred) for part in parts])
    for part, out in zip(parts, flat, strict=True):
        if halved:
            write_blocks(filled(part.centred[:, rows]), out=out)
            if diagonal == "dropped":
                blocks(out)[0].diagonal(dim1=2, dim2=3).zero_()
            continue
        gram = out.unflatten(1, (height, width))
        torch.bmm(part.centred[:, rows], part.centred[:, columns].mT, out=gram)
        if diagonal == "dropped" and like.dtype == torch.float64:
            for tile, share in zip(gram, part.share, strict=True):
                u_centre(tile, share[rows], share[columns])
            if rows == columns:
                gram.diagonal(dim1=1, dim2=2).zero_()
    return entries


def _feature(
    left: Sequence[CentredLayer], right: Sequence[CentredLayer], diagonal: Diagonal, dtype: torch.dtype
) -> Traces:
    xs = [_Rows.of([layer], dtype) for layer in left]
    ys = xs if right is left else [_Rows.of([layer], dtype) for layer in right]
    return Traces(
        xy=np.array([[_feature_term(x, y, diagonal) for y in ys] for x in xs]),
        xx=np.array([_feature_term(x, x, diagonal) for x in xs]),
        yy=np.array([_feature_term(y, y, diagonal) for y in ys]),
    )


def _feature_term(a: _Rows, b: _Rows, diagonal: Diagonal) -> float:
    n = a.norms.shape[1]
    parts = [(a.centred[0, rows].T @ b.centred[0, rows]).double() for rows in tiles(n, FEATURE_TILE)]
    product = torch.stack(parts).sum(0)
    term = product.square().sum()
    if diagonal == "dropped":
        term -= n / (n - 2) * (a.norms[0] @ b.norms[0])
        term += a.norms.sum() * b.norms.sum() / ((n - 1) * (n - 2))
    return float(term)


def _is_sound(
    way: Form, dtype: torch.dtype, found: Traces, left: Sequence[CentredLayer], right: Sequence[CentredLayer]
) -> bool:
    """Whether what cancels is small enough beside what is left.

    Tiles are rounded relative to tr K, and in float32 the row sums are taken off afterwards, 2/n Σk²; the
    feature form takes off the diagonal, Σk².
    """
    n = len(left[0].norms)
    for layers, squares in ((left, found.xx), (right, found.yy)):
        for layer, square in zip(layers, squares, strict=True):
            trace, lost = float(layer.norms.sum()), float(layer.norms.square().sum())
            if trace == 0:
                continue
            if square <= (_NOTHING_LEFT * trace) ** 2:
                return False
            if way == "tiled":
                lost *= 2 / n
                if trace > WORST_TRACE[dtype] * square**0.5:
                    return False
            if lost > WORST_LOSS[dtype] * square:
                return False
    return True


def _in_own_units(found: Traces, left: Sequence[CentredLayer], right: Sequence[CentredLayer]) -> Traces:
    """Undo the scales, and set to exactly zero what is only the rounding of a layer without variation."""
    p = np.array([layer.exponent for layer in left])
    q = np.array([layer.exponent for layer in right])
    keep_x = found.xx > np.array([_NOTHING_LEFT * float(layer.norms.sum()) for layer in left]) ** 2
    keep_y = found.yy > np.array([_NOTHING_LEFT * float(layer.norms.sum()) for layer in right]) ** 2
    return Traces(
        xy=np.ldexp(found.xy * keep_x[:, None] * keep_y, 2 * (p[:, None] + q)),
        xx=np.ldexp(found.xx * keep_x, 4 * p),
        yy=np.ldexp(found.yy * keep_y, 4 * q),
    )
