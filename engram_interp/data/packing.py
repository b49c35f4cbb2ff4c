"""Documents as one stream of token ids, and windows cut from it in a seeded order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Int64, UInt32
from tokenizers import Tokenizer

from engram_interp.errors import InputError

_CHUNK = 256


def encode_stream(
    texts: Iterable[str], tokenizer: Tokenizer, *, separator_id: int, limit: int | None = None
) -> UInt32[np.ndarray, " token"]:
    """Token ids of all documents, each opened by the separator.

    Args:
        texts: Documents.
        tokenizer: Their tokenizer.
        separator_id: Id that opens every document.
        limit: Stop after the document that brings the stream to this many tokens.

    Returns:
        uint32 ids.
    """
    parts: list[np.ndarray] = []
    total, source = 0, iter(texts)
    while chunk := list(islice(source, _CHUNK)):
        for encoding in tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
            parts.append(np.asarray([separator_id, *encoding.ids], np.uint32))
            total += len(parts[-1])
            if limit is not None and total >= limit:
                return np.concatenate(parts)
    if not parts:
        raise InputError("There are no documents to encode; give at least one text that is not empty.")
    return np.concatenate(parts)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Training windows of `length` + 1 tokens, in an order fixed by the seed.

    Every token is predicted once per epoch: windows overlap by the one token that is only context.
    Two models given the same stream and seed see the same batches in the same order.

    Attributes:
        stream: Token ids.
        length: Tokens predicted per window (the model's context).
        batch: Windows per step.
        seed: Order of the windows.
    """

    stream: UInt32[np.ndarray, " token"]
    length: int
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.count < self.batch:
            raise InputError(
                f"The text has {len(self.stream)} tokens, which is {self.count} windows of {self.length}; "
                f"one batch wants {self.batch}. Give more text or a smaller batch."
            )

    @property
    def count(self) -> int:
        """Windows in the stream."""
        return (len(self.stream) - 1) // self.length

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the stream."""
        return self.count // self.batch

    def at(self, step: int) -> Int64[np.ndarray, "batch window"]:
        """The batch of a step, `[batch, length + 1]`; a new epoch has a new order."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
        chosen = order[within * self.batch : (within + 1) * self.batch]
        index = chosen[:, None] * self.length + np.arange(self.length + 1)
        return np.asarray(self.stream[index], np.int64)


def consecutive(
    stream: UInt32[np.ndarray, " token"], *, length: int, batch: int
) -> Iterator[Int64[np.ndarray, "batch window"]]:
    """All whole windows of `length` + 1 tokens in text order, for evaluation; the tail is dropped."""
    count = (len(stream) - 1) // length
    for start in range(0, count, batch):
        rows = np.arange(start, min(start + batch, count))[:, None] * length
        yield stream[rows + np.arange(length + 1)].astype(np.int64)
