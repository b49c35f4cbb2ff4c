"""At which baseline layer does an Engram layer do the baseline's work?

Residual j of the Engram model is mapped affinely to baseline residual i (ridge; if asked, a few steps
down the loss), and the baseline's rest runs on it. Documents are split into two folds, each evaluated with
maps fitted on the other. The layer i of lowest loss is a statement about function, within limits: an
affine map of finite data may miss what is there, and a layer that holds more than the baseline's may
fit anywhere, even better than the baseline itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from engram_interp.capture.encode import Encoded, encode
from engram_interp.capture.samples import Samples, Streams, residuals
from engram_interp.capture.stitch import Rest
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics import alignment, bootstrap, ridge
from engram_interp.provenance import describe
from engram_interp.results.stitching import StitchingResult

__all__ = ["compare"]

_FEWEST = 8
_HELD = 4  # every fourth training document chooses penalties and judges steps
_STEP = 0.3  # of the target's spread, for the first step
_STEP_PENALTY = 1e-2


def compare(
    engram: SubjectModel,
    baseline: SubjectModel,
    texts: Any,
    *,
    reference: SubjectModel | None = None,
    steps: int = 0,
    max_tokens: int = 64,
    streams: Streams = "concat",
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 16,
) -> StitchingResult:
    """Loss of the baseline's rest after every layer of `engram`, on documents the maps never saw.

    Args:
        engram: The model with memory.
        baseline: The model without; one residual stream.
        texts: Texts, a `PromptSet`, or token ids.
        reference: Another seed of the baseline; by default the baseline itself stands for it.
        steps: Steps down the loss after ridge (each costs some three runs of the baseline a layer pair);
            the model's weights stay as they are.
        max_tokens: Of each document its first so many tokens are used.
        streams: How M > 1 residual streams of `engram` enter.
        n_boot: Bootstrap samples over documents (the maps stay as fitted); intervals are 95 %.
        seed: Of the folds, the shuffled null and the bootstrap.
        batch_size: Prompts per forward pass.

    Raises:
        InputError: If there are fewer than 8 documents, the models cut them into different tokens, the
            baseline has several streams, or an activation is not finite.
    """
    models = [engram, baseline, reference or baseline]
    encoded = _encoded(models, texts, max_tokens)
    fold = np.random.default_rng(seed).permutation(len(encoded)) % 2
    samples = _every_token(encoded, len(models))
    acts = [
        _finite(m, residuals(m, encoded, samples, n, streams=streams, batch_size=batch_size), samples)
        for n, m in enumerate(models)
    ]
    rest = Rest(baseline, encoded, batch_size=batch_size)
    stitcher = _Stitcher(rest=rest, document=samples.document, fold=fold, steps=steps)
    shuffled = np.random.default_rng(seed + 1).permutation(len(samples))
    sums = [stitcher.stitched(xs, acts[1]) for xs in (acts[0], acts[2])]
    sums.append(stitcher.stitched([acts[0][-1][shuffled]], acts[1], steps=0))
    facts = describe(engram, encoded)
    facts["engram"], facts["engram_digest"] = facts.pop("model"), facts.pop("model_digest")
    facts["baseline"], facts["baseline_digest"] = baseline.name, baseline.digest or "unknown"
    facts["reference"] = "the baseline itself" if reference is None else reference.name
    facts |= {
        "n_documents": len(encoded),
        "n_boot": n_boot,
        "seed": seed,
        "streams": str(streams),
        "steps": steps,
    }
    facts["maps"] = "affine, ridge; two folds of documents, each evaluated with the other's maps"
    first = min(engram.memory_layers, default=engram.n_layers)
    variables, missing = _measured(sums, rest, first=first, n_boot=n_boot, seed=seed)
    coords = {
        "layer": np.arange(len(acts[0])),
        "baseline_layer": np.arange(len(acts[1])),
        "reference_layer": np.arange(len(acts[2])),
        "document": np.arange(len(encoded)),
    }
    return StitchingResult.from_arrays(coords=coords, variables=variables, provenance=facts, missing=missing)


def _encoded(models: Sequence[SubjectModel], texts: Any, max_tokens: int) -> Encoded:
    baseline = models[1]
    if baseline.n_streams > 1:
        raise InputError(f"Stitching wants a baseline with one stream; {baseline.name} has several.")
    limit = min((m.n_ctx for m in models if m.n_ctx is not None), default=None)
    encodings = [encode(model, texts, limit=limit) for model in models]
    tokens = encodings[1].tokens.cpu()
    if not all(e.tokens.shape == tokens.shape and bool((e.tokens.cpu() == tokens).all()) for e in encodings):
        raise InputError("The models cut these texts into different tokens; stitching wants the same ids.")
    if len(tokens) < _FEWEST:
        raise InputError(f"Stitching wants at least {_FEWEST} documents, got {len(tokens)}; give more.")
    if max_tokens < 2:
        raise InputError(
            f"max_tokens wants to be at least 2, so that a token is predicted; got {max_tokens}."
        )
    return replace(
        encodings[1], tokens=encodings[1].tokens[:, :max_tokens], mask=encodings[1].mask[:, :max_tokens]
    )


def _every_token(encoded: Encoded, n_models: int) -> Samples:
    document, position = (part.numpy() for part in encoded.mask.cpu().nonzero(as_tuple=True))
    return Samples(document=document, position=np.tile(position, (n_models, 1)), what="every token")


def _finite(model: SubjectModel, acts: list[np.ndarray], samples: Samples) -> list[np.ndarray]:
    for layer, rows in enumerate(acts):
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        if len(bad):
            where = f"token {samples.position[0, bad[0]]} of document {samples.document[bad[0]]}"
            raise InputError(f"{model.name} has values that are not finite in layer {layer} at {where}.")
    return acts


@dataclass(frozen=True, kw_only=True)
class _Stitcher:
    """Maps fitted on one fold of documents and run on the other."""

    rest: Rest
    document: Int64[np.ndarray, " sample"]
    fold: Int64[np.ndarray, " document"]
    steps: int

    def stitched(
        self, xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], *, steps: int | None = None
    ) -> Float[np.ndarray, "document layer baseline_layer"]:
        """Summed loss of each document, with maps fitted on the other fold."""
        steps = self.steps if steps is None else steps
        out = np.empty((len(self.fold), len(xs), len(ys)))
        for side in (0, 1):
            test = np.flatnonzero(self.fold == side)
            training = np.flatnonzero(self.fold != side)
            rows = self.fold[self.document] != side
            held = np.isin(self.document, training[::_HELD])
            for j, x in enumerate(xs):
                maps = ridge.fit(x[rows], [y[rows] for y in ys], held[rows])
                solver = ridge.Ridge(x[rows & ~held]) if steps else None
                for i, fitted in enumerate(maps):
                    found = fitted
                    if solver is not None:
                        size = _STEP * float(ys[i][rows].std(0).mean())
                        found = self._descend(x, fitted, solver, layer=i, training=training, size=size)
                    out[test, j, i] = self.rest.losses(x @ found[0] + found[1], i, test)[0]
        return out

    def _descend(
        self,
        x: np.ndarray,
        best: ridge.Affine,
        solver: ridge.Ridge,
        *,
        layer: int,
        training: np.ndarray,
        size: float,
    ) -> ridge.Affine:
        """A few steps down the loss: the gradient by the rows, brought into the reach of an affine map.

        A step counts only if the loss falls on the training documents it was not made from; if it does
        not, the step is undone and halved.
        """
        held, used = training[::_HELD], np.delete(training, np.s_[::_HELD])
        lowest = self.rest.losses(x @ best[0] + best[1], layer, held)[0].sum()
        slope = None
        for _ in range(self.steps):
            if slope is None:
                slope = self.rest.losses(x @ best[0] + best[1], layer, used, gradient=True)[1]
                assert slope is not None
                down = solver.affine(-slope, [_STEP_PENALTY])[0]
                change = x @ down[0] + down[1]
                scale = max(float(np.sqrt(np.square(change).mean())), 1e-30)
            trial = best[0] + down[0] * (size / scale), best[1] + down[1] * (size / scale)
            loss = self.rest.losses(x @ trial[0] + trial[1], layer, held)[0].sum()
            if loss < lowest:
                best, lowest, slope = trial, loss, None
            else:
                size /= 2
        return best


def _measured(
    sums: Sequence[np.ndarray], rest: Rest, *, first: int, n_boot: int, seed: int
) -> tuple[dict[str, Any], dict[str, str]]:
    n_documents, n_layers, _ = sums[0].shape
    layer, tokens = np.arange(n_layers), rest.tokens
    referred = layer < sums[1].shape[1]
    pre_memory = (layer < first) & referred
    interior = ~alignment.edge_layers(n_layers, 5) & (layer >= first) & referred
    enough = n_documents >= bootstrap.MIN_GROUPS
    weights = np.ones((1, n_documents))
    if enough:
        weights = np.concatenate([weights, bootstrap.group_weights(n_documents, n_boot, seed)])
    losses = [np.tensordot(weights, s, 1) / (weights @ tokens)[:, None, None] for s in sums]
    depth, own = (alignment.monotone_path(-loss, refine="parabola") for loss in losses[:2])
    depth_self = np.full_like(depth, np.nan)
    depth_self[:, referred] = own[:, :n_layers]
    intact, null = float(rest.intact().sum() / tokens.sum()), losses[2][0, 0]
    shift = np.where(referred, alignment.calibrated_shift(depth, own), np.nan)
    variables: dict[str, Any] = {
        "loss": losses[0][0],
        "loss_self": losses[1][0],
        "null_loss": null,
        "recovered": (null - losses[0][0]) / (null - intact),
        "document_loss": sums[0],
        "document_loss_self": sums[1],
        "document_tokens": tokens,
        "intact_loss": intact,
        "best": _settled(losses[0]),
        "depth": depth[0],
        "depth_self": depth_self[0],
        "pre_memory": pre_memory,
        "interior": interior,
    }
    draws = {"shift": shift, "headline": _mean(shift[:, interior])}
    draws["control_shift"] = _mean(shift[:, pre_memory])
    for name, values in draws.items():
        nothing = np.full_like(values[0], np.nan)
        low, high = bootstrap.interval(values[1:]) if enough else (nothing, nothing)
        variables |= {name: values[0], f"{name}_low": low, f"{name}_high": high}
    reasons = {"best": "the minimum is not settled: its interval holds three or more layers, or layers tie"}
    reasons |= dict.fromkeys(
        ["depth_self", "shift", "shift_low", "shift_high"], "the reference has fewer layers"
    )
    if not enough:
        few = f"an interval wants at least {bootstrap.MIN_GROUPS} documents, got {n_documents}"
        reasons |= {f"{name}{end}": few for name in draws for end in ("_low", "_high")}
    for name, chosen in (("headline", interior), ("control_shift", pre_memory)):
        if not chosen.any():
            why = "no such layer: " + ("interior, after" if name == "headline" else "before")
            reasons |= {f"{name}{e}": f"{why} the first memory read" for e in ("", "_low", "_high")}
    return variables, reasons


def _settled(losses: np.ndarray) -> np.ndarray:
    """Parabolic best layer, NaN where the bootstrap does not settle it."""
    best = alignment.peak(-losses[0])
    return np.where(alignment.plateau(-losses[1:]), np.nan, best) if len(losses) > 1 else best


def _mean(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan))
