"""What a capture will hold, before anything is written: shapes, shares and shards."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import engram_interp
from engram_interp.capture.captured import FACTS
from engram_interp.capture.encode import Encoded
from engram_interp.capture.record import evaluating, watching
from engram_interp.capture.shards import Part, Shard, SiteShape
from engram_interp.capture.sites import resolve
from engram_interp.checkpoints.digests import weights_digest
from engram_interp.checkpoints.loading import packaged
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What floating-point sites can be stored in."""


def plan(
    model: SubjectModel,
    encoded: Encoded,
    sites: Sequence[str],
    dtype: torch.dtype,
    *,
    batch_size: int,
    shard: tuple[int, int],
    shard_bytes: int,
    shapes: dict[str, SiteShape] | None = None,
) -> tuple[Part, Encoded]:
    """What a part will hold, and its prompts; the arguments are those of `store.capture`.

    The shapes of the sites are found by running one prompt, unless they are given.

    Raises:
        InputError: A site is unknown, passed twice or not at all; or a number is out of its range.
    """
    if dtype not in DTYPES.values():
        raise InputError(f"A capture is written as {' or '.join(DTYPES)}, got {dtype}.")
    if batch_size < 1 or shard_bytes < 1:
        raise InputError(
            f"batch_size and shard_bytes want to be at least 1, got {batch_size}, {shard_bytes}."
        )
    names = resolve(model, sites)
    if not names:
        raise InputError('A capture wants at least one site, such as "blocks.*.hook_resid_post".')
    if shapes is None:
        shapes = _shapes(model, encoded, names, dtype)
    mine, width = _share(encoded, batch_size, shard), encoded.tokens.shape[1]
    batch_bytes = sum(site.bytes for site in shapes.values()) * batch_size * width
    step = max(1, shard_bytes // batch_bytes) * batch_size
    lengths = mine.mask.sum(1).tolist()
    cuts = [lengths[start : start + step] for start in range(0, len(lengths), step)]
    part = Part(
        model=_facts(model),
        sites=shapes,
        shards=tuple(
            Shard(first_prompt=n * step, prompts=len(cut), rows=sum(cut)) for n, cut in enumerate(cuts)
        ),
        names=mine.names,
        notes=mine.notes,
        width=width,
        batch_size=batch_size,
        text_digest=encoded.digest,
        prompt_digest=encoded.source,
        tokenizer=encoded.tokenizer,
        number=shard[0],
        parts=shard[1],
        version=engram_interp.__version__,
        torch=str(torch.__version__),
        source=_source(model),
    )
    return part, mine


def _shapes(
    model: SubjectModel, encoded: Encoded, names: Sequence[str], dtype: torch.dtype
) -> dict[str, SiteShape]:
    """What passes each site, by one prompt, in the order in which a forward pass reaches them."""
    found: dict[str, SiteShape] = {}

    def keep(name: str, value: Tensor) -> None:
        if name in found:
            raise InputError(f"{model.name} passes {name!r} more than once a run; leave that site out.")
        if value.shape[:2] != encoded.tokens[:1].shape:
            raise InputError(
                f"{name!r} gives {tuple(value.shape)} for one prompt of {encoded.tokens.shape[1]} tokens; a "
                "capture wants [batch, token, …]."
            )
        kept = dtype if value.is_floating_point() else value.dtype
        types = (str(t).removeprefix("torch.") for t in (kept, value.dtype))
        found[name] = SiteShape(shape=tuple(value.shape[2:]), dtype=next(types), passed=next(types))

    with evaluating(model.module), watching(model, names, keep), torch.inference_mode():
        model.logits(encoded.tokens[:1], encoded.mask[:1])
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{model.name} ran without passing {missing[:3]}; this site is only there in some configurations."
        )
    return found


def _share(encoded: Encoded, batch_size: int, shard: tuple[int, int]) -> Encoded:
    """The i-th of n shares of the prompts: whole batches, so that every run sees the same ones."""
    number, parts = shard
    if not 1 <= number <= parts:
        raise InputError(f"shard i/n wants 1 <= i <= n, got {number}/{parts}.")
    batches = -(-len(encoded) // batch_size)
    if batches < parts:
        raise InputError(
            f"{len(encoded)} prompts are {batches} batches of {batch_size}, too few for {parts} parts; give "
            "a smaller batch_size or fewer parts."
        )
    first, last = (batches * n // parts * batch_size for n in (number - 1, number))
    return encoded.part(slice(first, last))


def _facts(model: SubjectModel) -> dict[str, Any]:
    facts = {name: getattr(model, name) for name in FACTS}
    facts["digest"] = weights_digest(model)
    return facts | {"memory_layers": list(model.memory_layers), "notes": list(model.notes)}


def _source(model: SubjectModel) -> str:
    return model.name if model.name in packaged() else str(model.folder or "")
