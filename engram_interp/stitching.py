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

from engram_interp import stitching_depth
from engram_interp.capture.captured import Capture
from engram_interp.capture.encode import Encoded
from engram_interp.capture.finite import check_finite, check_varies
from engram_interp.capture.samples import Samples, Streams, residuals
from engram_interp.capture.source import Source, encoded_of
from engram_interp.capture.stitch import Rest
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError
from engram_interp.metrics import bootstrap, ridge
from engram_interp.provenance import describe
from engram_interp.results.stitching import StitchingResult

__all__ = ["compare"]

_FEWEST = 8
_HELD = 4  # every fourth training document chooses penalties and judges steps
_STEP = 0.3  # of the target's spread, for the first step
_STEP_PENALTY = 1e-2


def compare(
    engram: Source,
    baseline: SubjectModel,
    texts: Any = None,
    *,
    reference: Source | None = None,
    first_memory_layer: int | None = None,
    steps: int = 0,
    max_tokens: int = 64,
    streams: Streams = "concat",
    n_boot: int = 1000,
    seed: int = 0,
    batch_size: int = 16,
) -> StitchingResult:
    """Loss of the baseline's rest after every layer of `engram`, on documents the maps never saw.

    Args:
        engram: The model with memory, or a capture of it.
        baseline: The model without, which is run; one residual stream.
        texts: Texts, a `PromptSet`, or token ids; None with a capture, on whose prompts the models then run.
        reference: Another seed of the baseline; by default the baseline itself stands for it.
        first_memory_layer: The layer that the headline begins at; by default the first with memory. Give it
            where `engram` has none, as for another seed of the baseline.
        steps: Steps down the loss after ridge (each costs some three runs of the baseline a layer pair);
            the model's weights stay as they are. None by default: a map that follows the loss fits these
            texts too. With 3 steps the packaged pair took 5 times as long, the baseline stitched into
            itself fell below its intact loss (4.08 for 4.21 nats), no longer best layer for layer, and the
            headline's interval widened from [−0.98, −0.71] to [−1.42, −0.27] on the same side of 0.
        max_tokens: Of each document its first so many tokens are used.
        streams: How M > 1 residual streams of `engram` enter.
        n_boot: Bootstrap samples over documents (the maps stay as fitted); intervals are 95 %.
        seed: Of the folds, the shuffled null and the bootstrap.
        batch_size: Prompts per forward pass.

    Raises:
        InputError: If there are fewer than 8 documents, the models cut them into different tokens, the
            baseline has several streams or is a capture, an activation is not finite (names model, layer
            and token), or a layer holds the same everywhere (names it).
    """
    if reference is baseline:
        reference = None
    models: list[Source] = [engram, baseline, reference or baseline]
    encoded = _encoded(models, texts, max_tokens)
    samples = _every_token(encoded, len(models))
    acts = [
        residuals(m, encoded, samples, n, streams=streams, batch_size=batch_size)
        for n, m in enumerate(models)
    ]
    for n, (model, layers) in enumerate(zip(models, acts, strict=True)):
        check_finite(model.name, layers, encoded, samples, n)
        check_varies(model.name, layers)
    xs, ys, rs = acts
    rest = Rest(baseline, encoded, batch_size=batch_size)
    fold = np.random.default_rng(seed).permutation(len(encoded)) % 2
    stitcher = _Stitcher(rest=rest, document=samples.document, fold=fold, steps=steps)
    shuffled = np.random.default_rng(seed + 1).permutation(len(samples))
    sums = stitching_depth.Sums(
        engram=stitcher.stitched(xs, ys),
        own=stitcher.stitched(rs, ys),
        null=replace(stitcher, steps=0).stitched([xs[-1][shuffled]], ys)[:, 0],
        intact=rest.intact(),
        tokens=rest.tokens,
        first=min(engram.memory_layers, default=len(xs))
        if first_memory_layer is None
        else first_memory_layer,
    )
    facts = _facts(models, encoded, reference)
    facts |= {"n_boot": n_boot, "seed": seed, "streams": str(streams), "steps": steps}
    return StitchingResult.from_arrays(
        coords={
            "layer": np.arange(len(xs)),
            "baseline_layer": np.arange(len(ys)),
            "reference_layer": np.arange(len(rs)),
            "document": np.arange(len(encoded)),
        },
        variables=stitching_depth.variables(sums, bootstrap.group_weights(len(encoded), n_boot, seed)),
        provenance=facts,
        missing=stitching_depth.missing(sums),
    )


def _encoded(models: Sequence[Source], texts: Any, max_tokens: int) -> Encoded:
    """The first tokens of the documents, which every model has to cut alike."""
    baseline = models[1]
    if isinstance(baseline, Capture):
        raise InputError(
            f"Stitching runs the later layers of {baseline.name}; give that model, not a capture of it."
        )
    if baseline.n_streams > 1:
        raise InputError(f"Stitching wants a baseline with one stream; {baseline.name} has several.")
    limit = min((m.n_ctx for m in models if m.n_ctx is not None), default=None)
    captures = [m for m in models if isinstance(m, Capture)]
    if captures:
        encodings = _of_captures(captures, models, texts, limit)
    else:
        encodings = [encoded_of(model, texts, limit=limit) for model in models]
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
        encodings[1],
        tokens=encodings[1].tokens[:, :max_tokens].to(baseline.device),
        mask=encodings[1].mask[:, :max_tokens].to(baseline.device),
    )


def _of_captures(
    captures: Sequence[Capture], models: Sequence[Source], texts: Any, limit: int | None
) -> list[Encoded]:
    """The prompts that each capture holds; those of the first for the models."""
    if texts is not None:
        raise InputError(
            f"The capture of {captures[0].name} holds its own prompts; leave texts out: models run on them."
        )
    sizes = {m.name: m.d_vocab for m in models}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise InputError(
            f"The ids of a capture mean nothing to a model of another vocabulary ({listed}); give models "
            "of one tokenizer."
        )
    return [encoded_of(m if isinstance(m, Capture) else captures[0], None, limit=limit) for m in models]


def _every_token(encoded: Encoded, n_models: int) -> Samples:
    document, position = (part.numpy() for part in encoded.mask.cpu().nonzero(as_tuple=True))
    return Samples(document=document, position=np.tile(position, (n_models, 1)), what="every token")


def _facts(models: Sequence[Source], encoded: Encoded, reference: Source | None) -> dict[str, Any]:
    facts = describe(models[0], encoded)
    facts["engram"], facts["engram_digest"] = facts.pop("model"), facts.pop("model_digest")
    facts["baseline"], facts["baseline_digest"] = models[1].name, models[1].digest or "unknown"
    facts["reference"] = "the baseline itself" if reference is None else reference.name
    facts["maps"] = "affine, ridge; two folds of documents, each evaluated with the other's maps"
    return facts


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
