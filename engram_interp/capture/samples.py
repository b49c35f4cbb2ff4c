"""Which tokens of which documents are compared, and their activations layer by layer."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from engram_interp.capture.encode import Encoded
from engram_interp.capture.source import Source, batches, check_sites, model_of
from engram_interp.checkpoints.subject import read_sites
from engram_interp.errors import InputError

Streams = Literal["concat", "mean", "readout"] | int
_PER_DOCUMENT = 16
"""Tokens drawn from each document where no entities are marked."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Token positions, in document order.

    Attributes:
        document: Index of the prompt of each sample, int64.
        position: Its token position in every model, int64 `[model, sample]`.
        what: How the tokens were chosen, for provenance.
    """

    document: Int64[np.ndarray, " sample"]
    position: Int64[np.ndarray, "model sample"]
    what: str

    def __len__(self) -> int:
        return len(self.document)


def choose(encodings: Sequence[Encoded], *, seed: int) -> Samples:
    """The last token of every marked entity; without marks, up to 16 random tokens a document.

    Args:
        encodings: The same prompts as each model encodes them.
        seed: Of the random tokens.

    Raises:
        InputError: If the models saw different prompts, or cut the texts into different tokens and no
            entities are marked, so that no tokens correspond.
    """
    first = encodings[0]
    if len({e.source for e in encodings if e.source}) > 1:
        raise InputError(
            "The models did not see the same prompts (or the same marked entities), so no tokens correspond; "
            "run or capture all of them on one set."
        )
    same = all(
        e.tokens.shape == first.tokens.shape and bool((e.tokens.cpu() == first.tokens.cpu()).all())
        for e in encodings
    )
    if not first.texts:  # equal ids of different tokenizers are different texts
        same &= len({e.tokenizer for e in encodings if e.tokenizer}) <= 1
    if any(first.entity_ends):
        return _at_entities(encodings)
    if not same:
        raise InputError(
            "The models' tokenizers differ and cut these texts into different tokens, so tokens cannot be "
            "paired; compare them at marked entities (prompts.load('entities'), or from_file(…, "
            "markup='brackets'))."
        )
    generator = np.random.default_rng(seed)
    documents, positions = list[int](), list[int]()
    for row, length in enumerate(first.mask.sum(1).tolist()):
        inside = np.arange(1, length)
        chosen = np.sort(generator.permutation(inside)[:_PER_DOCUMENT])
        documents += [row] * len(chosen)
        positions += chosen.tolist()
    return Samples(
        document=np.asarray(documents, np.int64),
        position=np.tile(np.asarray(positions, np.int64), (len(encodings), 1)),
        what=f"up to {_PER_DOCUMENT} random tokens a document",
    )


def _at_entities(encodings: Sequence[Encoded]) -> Samples:
    """The last token of every entity that all models have whole."""
    document = list[int]()
    position: list[list[int]] = [[] for _ in encodings]
    for row in range(len(encodings[0])):
        ends = [dict(zip(e.entities[row], e.entity_ends[row], strict=True)) for e in encodings]
        for entity in sorted(set.intersection(*map(set, ends))):
            document.append(row)
            for places, found in zip(position, ends, strict=True):
                places.append(found[entity])
    most = max(sum(map(len, e.entity_ends)) for e in encodings)
    left_out = most - len(document)
    beside = f" that all models have whole ({left_out} were not)" if left_out else ""
    return Samples(
        document=np.asarray(document, np.int64),
        position=np.asarray(position, np.int64).reshape(len(encodings), -1),
        what=f"last token of every marked entity{beside}",
    )


def residuals(
    source: Source,
    encoded: Encoded,
    samples: Samples,
    which: int,
    *,
    streams: Streams = "concat",
    batch_size: int = 16,
) -> list[Float[np.ndarray, "sample d"]]:
    """Residuals after every block at the samples, float32, one array per layer.

    Args:
        source: The model, or a capture of it.
        encoded: Its encoding of the prompts.
        samples: Which tokens.
        which: Its row in `samples.position`.
        streams: With M > 1 streams: side by side ("concat"), their "mean", the model's own collapse
            ("readout"), or one stream by number.
        batch_size: Prompts per forward pass.
    """
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(source.n_layers)]
    if streams == "readout" and source.n_streams > 1:
        sites = read_sites(model_of(source))
    check_sites(source, sites)
    parts: list[list[np.ndarray]] = [[] for _ in sites]
    row = 0
    with closing(batches(source, encoded, sites, batch_size=batch_size)) as found:
        for _, seen in found:
            count = len(seen[sites[0]])
            inside = (samples.document >= row) & (samples.document < row + count)
            index = (
                torch.from_numpy(samples.document[inside] - row),
                torch.from_numpy(samples.position[which][inside]),
            )
            for part, site in zip(parts, sites, strict=True):
                part.append(_reduced(source, seen[site][index], streams).float().cpu().numpy())
            row += count
    return [np.concatenate(part) for part in parts]


@torch.inference_mode()
def _reduced(source: Source, x: Tensor, streams: Streams) -> Tensor:
    only = source.n_streams == 1  # then there is nothing to choose, in whichever way the other model is read
    numbered = isinstance(streams, int) and (only or 0 <= streams < source.n_streams)
    if streams not in ("concat", "mean", "readout") and not numbered:
        raise InputError(
            "streams wants 'concat', 'mean', 'readout' or a number below "
            f"{source.n_streams}, got {streams!r}."
        )
    if only:
        return x
    if isinstance(streams, int):
        return x[..., streams, :]
    if streams == "readout":
        model = model_of(source)
        if model.collapsed_site is not None:
            return x
        if model.readout is None:
            raise InputError(
                f"{source.name} has no collapse of its streams; take 'concat', 'mean' or one stream."
            )
        return model.readout(x[None].to(model.device))[0]
    return x.flatten(-2) if streams == "concat" else x.mean(-2)


def document_groups(samples: Samples, *, rows: int, seed: int) -> list[Int64[np.ndarray, " row"]]:
    """Whole documents dealt into disjoint groups of exactly `rows` samples, shuffled inside.

    Documents are shuffled and dealt until a group is full; what overflows the last document of a group
    is left out, so that no document feeds two groups.

    Args:
        samples: Samples in document order.
        rows: Samples per group.
        seed: Of the shuffles.

    Returns:
        Index arrays into the samples, all of length `rows`.
    """
    generator = np.random.default_rng(seed)
    groups: list[np.ndarray] = []
    pending: list[int] = []
    for document in generator.permutation(np.unique(samples.document)):
        pending += np.flatnonzero(samples.document == document).tolist()
        if len(pending) >= rows:
            groups.append(generator.permutation(np.asarray(pending, np.int64))[:rows])
            pending = []
    return groups
