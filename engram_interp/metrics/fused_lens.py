"""Divergences of many layers from the final distribution, without every layer's log-probabilities.

With z = W h + b, a layer's logits are the final ones plus δ = W (h_layer − h_final), and

    KL(final ‖ layer) = ln E[exp δ] − E[δ],    KL(layer ‖ final) = E_layer[δ] − ln E[exp δ],

where E is over the final distribution. Every layer costs the one product δ, made in tiles of rows and
pieces of the vocabulary that stay in the cache. The form is exact where the difference of two
log-sum-exps is not: whatever the layers share (a bias, a direction common to all tokens, a residual
feature a thousand times the others) cancels before it is rounded. To that end the unembedding is
centred, δ is counted from that of the final top token, and the rounding of a product enters both
expectations, so that it counts by how much the two distributions differ. Products are float32, sums
float64; the final logits, once for all layers, are float64 where vectors are so long that it would show.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.errors import InputError
from engram_interp.metrics.piecewise import Sums

ROWS = 512
"""Rows whose final log-probabilities are held at a time: 64 MB at 32,768 token ids. What every tile of rows
costs, the final product in float64 and a centred copy of the unembedding, is shared by more of them."""

COLUMNS = 1024
"""Token ids whose logits are held at a time."""

SHORT = 64.0
"""Length of a residual times that of a token's vector up to which the final product is float32: it rounds
logits by some 2⁻²⁴ of that."""

ROUNDING = 1e-6
"""A divergence so little below 0 (nats) is rounding, and 0; one further below is left for all to see."""

NAMES = ("kl", "reverse_kl", "entropy", "next_loss", "agreement", "final_rank")

_EXPECTATIONS = ("kl", "reverse_kl", "entropy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What layers say at some rows.

    Attributes:
        values: What was asked for, float64, names in the order of the question.
        top_id: Token ids with the highest probabilities, the highest first.
        top_logprob: Their log-probabilities, nats, float64.
    """

    values: Float[Tensor, "row layer name"]
    top_id: Int64[Tensor, "row layer rank"]
    top_logprob: Float[Tensor, "row layer rank"]


def measure(
    final: Float[Tensor, "row d_model"],
    layers: Sequence[Float[Tensor, "row d_model"]],
    weight: Float[Tensor, "d_vocab d_model"],
    *,
    bias: Float[Tensor, " d_vocab"] | None = None,
    targets: Int64[Tensor, " row"] | None = None,
    want: Sequence[str] = ("kl",),
) -> Float[Tensor, "row layer name"]:
    """The values of `read` alone."""
    return read(final, layers, weight, bias=bias, targets=targets, want=want).values


@torch.no_grad()
def read(
    final: Float[Tensor, "row d_model"],
    layers: Sequence[Float[Tensor, "row d_model"]],
    weight: Float[Tensor, "d_vocab d_model"],
    *,
    bias: Float[Tensor, " d_vocab"] | None = None,
    targets: Int64[Tensor, " row"] | None = None,
    want: Sequence[str] = ("kl",),
    top: int = 0,
) -> Reading:
    """What is asked of every row and layer, in nats.

    Args:
        final: Residuals after the final norm, of the last layer; any floating-point type.
        layers: The same of every layer that is asked for.
        weight: Unembedding, of any floating-point type.
        bias: Its bias.
        targets: Next tokens, for "next_loss".
        want: Among `NAMES`: KL(final ‖ layer), KL(layer ‖ final), the layer's entropy, its loss on the
            targets, whether its top token is the final one (0 or 1), and the rank that the final top
            token has there (0 is first). Nothing else is worked out.
        top: Token ids of the highest probability to give, at most d_vocab.

    Returns:
        The reading. A layer equal to the final one has divergences of exactly 0.
    """
    _check(len(weight), targets, want, top)
    head = _Head(weight, bias)
    values = torch.zeros((len(final), len(layers), len(want)), dtype=torch.float64, device=final.device)
    logs = values.new_zeros((len(final), len(layers), top))
    ids = torch.zeros_like(logs, dtype=torch.int64)
    room = values.new_empty((min(ROWS, len(final)), len(weight)), dtype=torch.float32)
    for start in range(0, len(final), ROWS):
        rows = slice(start, min(start + ROWS, len(final)))
        aims = targets[rows] if targets is not None and "next_loss" in want else None
        tile = _Tile(head, final[rows], aims, room[: rows.stop - start])
        every = [_Layer(tile, None if h is final else h[rows], want, top) for h in layers]
        for piece in tile.pieces():
            for layer in every:
                layer.add(piece)
        for index, layer in enumerate(every):
            found = layer.values()
            for place, name in enumerate(want):
                values[rows, index, place] = found[name].double()
            if top:
                ids[rows, index], logs[rows, index] = layer.leaders()
    return Reading(values=values, top_id=ids, top_logprob=logs)


def _check(d_vocab: int, targets: Tensor | None, want: Sequence[str], top: int) -> None:
    unknown = [name for name in want if name not in NAMES]
    if unknown:
        raise InputError(f"want holds {unknown}, which no lens measures; choose among {list(NAMES)}.")
    if "next_loss" in want and targets is None:
        raise InputError('"next_loss" is the loss on the next tokens; give them as targets.')
    if not 0 <= top <= d_vocab:
        raise InputError(f"top wants to lie in 0 … {d_vocab}, got {top}.")


class _Head:
    """The unembedding, centred over the vocabulary: a shift of all logits changes no distribution."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        self.cuts = [slice(i, min(i + COLUMNS, len(weight))) for i in range(0, len(weight), COLUMNS)]
        shape = (min(COLUMNS, len(weight)), weight.shape[1])
        self.rooms = {t: weight.new_empty(shape, dtype=t) for t in (torch.float64, torch.float32)}
        self.centre = weight.new_zeros(shape[1:], dtype=torch.float32)
        total = sum(self.piece(cut, torch.float64).sum(0) for cut in self.cuts)
        self.centre = torch.as_tensor(total / len(weight)).float()
        self.longest = max(float(self.piece(cut, torch.float32).norm(dim=-1).max()) for cut in self.cuts)

    def piece(self, cut: slice, dtype: torch.dtype) -> Float[Tensor, "column d_model"]:
        """Rows of it, in a place that the next piece of that type takes."""
        rows = self.weight[cut]
        return self.rooms[dtype][: len(rows)].copy_(rows).sub_(self.centre)


class _Tile:
    """The final distribution at some rows, its log-probabilities held in full."""

    def __init__(self, head: _Head, final: Tensor, targets: Tensor | None, room: Tensor) -> None:
        self.head, self.targets, self.log_p = head, targets, room
        self.final, self.sums = final.double(), Sums(len(head.cuts), room[:, 0])
        short = float(self.final.norm(dim=-1).max()) * head.longest <= SHORT
        self.multiplied = self.final.float() if short else self.final
        levels, totals = self.final.new_zeros((2, len(head.cuts), len(room)))
        exact = head.bias is not None or not short
        places = [
            room.new_empty(len(room) * COLUMNS, dtype=t) for t in (torch.float32, torch.float64)[: 1 + exact]
        ]
        for number, cut in enumerate(head.cuts):
            levels[number] = self._logits(cut, places)
            totals[number] = torch.exp(room[:, cut], out=self._place(cut, places[0])).sum(-1)
        levels -= (levels + totals.log()).logsumexp(0)
        for cut, level in zip(head.cuts, levels.float(), strict=True):
            room[:, cut] += level[:, None]
        self.best = room.argmax(-1)
        self.best_log_p = room.gather(-1, self.best[:, None])
        self.best_weight = head.weight[self.best].double() - head.centre

    def _place(self, cut: slice, place: Tensor) -> Float[Tensor, "row column"]:
        shape = self.log_p[:, cut].shape
        return place[: shape.numel()].view(shape)

    def _logits(self, cut: slice, places: Sequence[Tensor]) -> Float[Tensor, " row"]:
        """Put logits in their place less the highest, which is returned: float32 is finest near 0.

        Working room is given, for large tensors that come and go would leave the heap in holes.
        """
        dtype = self.multiplied.dtype
        logits = self._place(cut, places[int(dtype == torch.float64)])
        torch.mm(self.multiplied, self.head.piece(cut, dtype).mT, out=logits)
        if self.head.bias is not None:
            if dtype == torch.float32:
                logits = self._place(cut, places[1]).copy_(logits)
            logits += self.head.bias[cut].double()
        highest = logits.amax(-1)
        self.log_p[:, cut] = logits.sub_(highest[:, None])
        return highest

    def pieces(self) -> Iterator["_Piece"]:
        """The vocabulary, piece by piece; call it once."""
        places = self.log_p.new_empty((4, len(self.log_p) * COLUMNS))
        for number, cut in enumerate(self.head.cuts):
            log_p = self.log_p[:, cut]
            mass, *rooms = (place[: log_p.numel()].view(log_p.shape) for place in places)
            yield _Piece(
                number=number,
                start=cut.start,
                turned=self.head.piece(cut, torch.float32).mT,
                log_p=log_p,
                mass=self.sums.add(number, log_p, out=mass),
                rooms=rooms,
                best=_inside(self.best, cut),
                targets=None if self.targets is None else _inside(self.targets, cut),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Piece:
    """Some token ids: the final distribution there, where ids of a tile's rows fall, and working room."""

    number: int
    start: int
    turned: Float[Tensor, "d_model column"]
    log_p: Float[Tensor, "row column"]
    mass: Float[Tensor, "row column"]
    rooms: Sequence[Tensor]
    best: tuple[Tensor, Tensor]
    targets: tuple[Tensor, Tensor] | None


def _inside(ids: Int64[Tensor, " row"], cut: slice) -> tuple[Tensor, Tensor]:
    """Rows whose id lies in the piece, and its column there."""
    rows = ((ids >= cut.start) & (ids < cut.stop)).nonzero()[:, 0]
    return rows, ids[rows] - cut.start


class _Layer:
    """A layer at the rows of a tile: what is asked of it, summed over the vocabulary."""

    def __init__(self, tile: _Tile, rows: Tensor | None, want: Sequence[str], top: int) -> None:
        shape = tile.sums.highest.shape
        self.tile, self.want, self.sums = tile, want, Sums(len(tile.head.cuts), tile.best_log_p[:, 0])
        self.apart = None if rows is None else (rows.double() - tile.final).float()
        if self.apart is not None:
            self.shift = torch.linalg.vecdot(self.apart.double(), tile.best_weight).float()[:, None]
        self.parts = {name: self.sums.totals.new_zeros(shape) for name in want if name in _EXPECTATIONS}
        self.above = torch.zeros_like(tile.best)
        self.target = self.sums.totals.new_zeros(shape[1])
        self.leading = self.sums.totals.new_full((*shape, top), -torch.inf)
        self.leading_ids = torch.zeros_like(self.leading, dtype=torch.int64)

    def add(self, piece: _Piece) -> None:
        """Take a piece of the vocabulary in: δ is `apart`, and `logits` are ln p_final + δ."""
        number, (apart, logits, room) = piece.number, piece.rooms
        if self.apart is None:
            apart.zero_()
        else:
            torch.mm(self.apart, piece.turned, out=apart).sub_(self.shift)
            apart[piece.best] = 0.0
        torch.add(apart, piece.log_p, out=logits)
        if "kl" in self.want:
            self.parts["kl"][number] = torch.mul(piece.mass, apart, out=room).sum(-1)
        if self.leading.shape[-1]:
            found = logits.topk(min(self.leading.shape[-1], logits.shape[1]))
            kept = (number, slice(None), slice(found.values.shape[1]))
            self.leading[kept], self.leading_ids[kept] = found.values.double(), found.indices + piece.start
        if "agreement" in self.want or "final_rank" in self.want:
            self.above += (logits > self.tile.best_log_p).sum(-1)
        if piece.targets is not None:
            self.target[piece.targets[0]] = logits[piece.targets].double()
        mass = self.sums.add(number, logits, out=room)
        if "reverse_kl" in self.want:
            self.parts["reverse_kl"][number] = apart.mul_(mass).sum(-1)
        if "entropy" in self.want:
            self.parts["entropy"][number] = logits.mul_(mass).sum(-1)

    def values(self) -> dict[str, Tensor]:
        """What was asked for, after the last piece."""
        total, final = self.sums.logarithm(), self.tile.sums
        rise = total - final.logarithm()
        found: dict[str, Tensor] = {"final_rank": self.above, "agreement": self.above == 0}
        if "kl" in self.want:
            found["kl"] = _without_rounding(rise - final.mean(self.parts["kl"]))
        if "reverse_kl" in self.want:
            found["reverse_kl"] = _without_rounding(self.sums.mean(self.parts["reverse_kl"]) - rise)
        if "entropy" in self.want:
            found["entropy"] = total - self.sums.mean(self.parts["entropy"])
        if "next_loss" in self.want:
            found["next_loss"] = total - self.target
        return found

    def leaders(self) -> tuple[Int64[Tensor, "row rank"], Float[Tensor, "row rank"]]:
        """The top token ids and their log-probabilities."""
        values, ids = (t.movedim(0, 1).flatten(1) for t in (self.leading, self.leading_ids))
        found = values.topk(self.leading.shape[-1])
        return ids.gather(-1, found.indices), found.values - self.sums.logarithm()[:, None]


def _without_rounding(divergence: Tensor) -> Tensor:
    return torch.where(divergence.abs() < ROUNDING, divergence.clamp(min=0.0), divergence)
