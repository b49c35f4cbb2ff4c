"""Depth read off stitched losses: along the baseline, where does each Engram layer serve best?

A monotone path of lowest loss, read on the reference's own; intervals resample documents, the maps staying
as they were fitted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from engram_interp.metrics import alignment, bootstrap
from engram_interp.provenance import too_few


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What was run: the summed loss of every document, and the layer that first reads memory.

    Attributes:
        engram: after every Engram layer.
        own: after every layer of the reference.
        null: after an Engram layer whose tokens are shuffled.
        intact: nothing replaced.
        tokens: how many tokens of a document were predicted.
        first: the first layer that reads memory; the number of layers where none does.
    """

    engram: Float[np.ndarray, "document layer baseline_layer"]
    own: Float[np.ndarray, "document reference_layer baseline_layer"]
    null: Float[np.ndarray, "document baseline_layer"]
    intact: Float[np.ndarray, " document"]
    tokens: Int64[np.ndarray, " document"]
    first: int

    @property
    def referred(self) -> Bool[np.ndarray, " layer"]:
        """Layers that the reference has too."""
        return np.asarray(np.arange(self.engram.shape[1]) < self.own.shape[1])

    @property
    def pre_memory(self) -> Bool[np.ndarray, " layer"]:
        """Layers before the first read: the internal control."""
        return np.asarray((np.arange(self.engram.shape[1]) < self.first) & self.referred)

    @property
    def interior(self) -> Bool[np.ndarray, " layer"]:
        """Layers the headline is a mean over."""
        n_layers = self.engram.shape[1]
        after = np.arange(n_layers) >= self.first
        return np.asarray(~alignment.edge_layers(n_layers, 5) & after & self.referred)

    def losses(
        self, weights: Float[np.ndarray, "boot document"]
    ) -> tuple[Float[np.ndarray, "boot layer _"], Float[np.ndarray, "boot reference_layer _"]]:
        """Loss per token of both stitches, in nats, with every document counted as often as weighted."""
        tokens = (weights @ self.tokens)[:, None, None]
        return np.tensordot(weights, self.engram, 1) / tokens, np.tensordot(weights, self.own, 1) / tokens


def variables(sums: Sums, resamples: Float[np.ndarray, "boot document"]) -> dict[str, Any]:
    """The losses per token, and the depths and shifts read off them with their intervals."""
    whole = np.ones((1, len(sums.tokens)))
    losses, own = sums.losses(np.concatenate([whole, resamples]))
    intact, null = (part.sum(0) / sums.tokens.sum() for part in (sums.intact, sums.null))
    depth, depth_self = (alignment.monotone_path(-part, refine="parabola") for part in (losses, own))
    shift = np.where(sums.referred, alignment.calibrated_shift(depth, depth_self), np.nan)
    settled = ~alignment.plateau(-losses[1:])
    return {
        "loss": losses[0],
        "loss_self": own[0],
        "null_loss": null,
        "recovered": (null - losses[0]) / (null - intact),
        "document_loss": sums.engram,
        "document_loss_self": sums.own,
        "document_tokens": sums.tokens,
        "intact_loss": intact,
        "best": np.where(settled, alignment.peak(-losses[0]), np.nan),
        "depth": depth[0],
        "depth_self": _lengthened(depth_self[0], len(sums.referred)),
        "pre_memory": sums.pre_memory,
        "interior": sums.interior,
        **_bounded("shift", shift, len(sums.tokens)),
        **_bounded("headline", _mean(shift[:, sums.interior]), len(sums.tokens)),
        **_bounded("control_shift", _mean(shift[:, sums.pre_memory]), len(sums.tokens)),
    }


def _bounded(name: str, values: Float[np.ndarray, " boot *rest"], n_documents: int) -> dict[str, Any]:
    """The value on all documents, which comes first, with the interval that the resamples give."""
    low, high = bootstrap.interval(values[1:], n_groups=n_documents)
    return {name: values[0], f"{name}_low": low, f"{name}_high": high}


def missing(sums: Sums) -> dict[str, str]:
    """Why values are undefined, by variable."""
    ends = ("_low", "_high")
    reasons = {"best": "the minimum is not settled: its interval holds three or more layers, or layers tie"}
    reasons |= dict.fromkeys(
        ["depth_self", "shift", "shift_low", "shift_high"], "the reference has fewer layers"
    )
    reasons |= too_few(
        len(sums.tokens), [name + end for name in ("shift", "headline", "control_shift") for end in ends]
    )
    for name, chosen, where in (
        ("headline", sums.interior, "interior, after"),
        ("control_shift", sums.pre_memory, "before"),
    ):
        if not chosen.any():
            reasons |= {name + end: f"no such layer: {where} the first memory read" for end in ("", *ends)}
    return reasons


def _lengthened(values: Float[np.ndarray, " _"], length: int) -> Float[np.ndarray, " layer"]:
    """The first `length` values, NaN where there are fewer."""
    return np.concatenate([values, np.full(max(length - len(values), 0), np.nan)])[:length]


def _mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan))
