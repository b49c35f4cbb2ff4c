"""Texts as right-padded token ids, with where the entities end and what was left out."""

import hashlib
import json
import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from engram_interp.checkpoints.digests import tokenizer_digest
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.prompts import PromptSet, coerce
from engram_interp.errors import InputError

_PAD = 0
_NAMED = 6
"""Unknown words that a warning names."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Prompts as token ids.

    Attributes:
        tokens: Ids, right-padded with 0, int64 `[batch, token]`.
        mask: True at real tokens.
        entity_ends: Of each prompt, the positions of the last token of every marked entity.
        entities: Of each of these, which of the prompt's marked entities it ends, counted from 0.
        names: Of each prompt, its id.
        texts: The prompts' texts; empty where token ids were given.
        notes: One sentence for every prompt that did not fit the context.
        source: Digest of the texts and their marked entities, or of the ids, before they were cut; the same
            for every model that is given the same.
        tokenizer: Digest of the tokenizer; empty where it is not known.
    """

    tokens: Int64[Tensor, "batch token"]
    mask: Bool[Tensor, "batch token"]
    entity_ends: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    texts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    entities: tuple[tuple[int, ...], ...] = ()
    source: str = ""
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if not self.entities:
            every = tuple(tuple(range(len(ends))) for ends in self.entity_ends)
            object.__setattr__(self, "entities", every)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def digest(self) -> str:
        """SHA-256 over the token ids and the mask."""
        digest = hashlib.sha256(self.tokens.cpu().numpy().tobytes())
        digest.update(self.mask.cpu().numpy().tobytes())
        return digest.hexdigest()

    def part(self, rows: slice) -> "Encoded":
        """Some of the prompts, as wide as all of them."""
        return replace(
            self,
            tokens=self.tokens[rows],
            mask=self.mask[rows],
            entity_ends=self.entity_ends[rows],
            entities=self.entities[rows],
            names=self.names[rows],
            texts=self.texts[rows],
        )

    def cropped(self, width: int) -> "Encoded":
        """The first `width` tokens of every prompt; what is cut off is noted."""
        lengths = self.mask.sum(1).tolist()
        kept = [[k for k, end in enumerate(ends) if end < width] for ends in self.entity_ends]
        cut = tuple(
            _note(name, length, width)
            for name, length in zip(self.names, lengths, strict=True)
            if length > width
        )
        return replace(
            self,
            tokens=self.tokens[:, :width],
            mask=self.mask[:, :width],
            entity_ends=tuple(tuple(e[k] for k in ks) for e, ks in zip(self.entity_ends, kept, strict=True)),
            entities=tuple(tuple(e[k] for k in ks) for e, ks in zip(self.entities, kept, strict=True)),
            notes=cut if cut else self.notes,
        )

    def trimmed(self) -> "Encoded":
        """Padded no further than the longest prompt."""
        return self.cropped(int(self.mask.sum(1).max()))


def encode(model: SubjectModel, texts_or_ids: Any, *, limit: int | None = None) -> Encoded:
    """Token ids of texts (or given ids), padded to one rectangle.

    Args:
        model: Gives the tokenizer, the separator that opens every text, and the context length.
        texts_or_ids: A text, texts, a `PromptSet`, or token ids: an integer tensor or array
            `[batch, token]` or `[token]`, or a list of lists of ids.
        limit: Most tokens a prompt, where that is less than the model's context: two models are compared
            on what both can hold.

    Raises:
        InputError: If there is nothing to encode, or ids are out of range.
    """
    if _is_ids(texts_or_ids):
        return _from_ids(model, texts_or_ids, limit)
    prompts: PromptSet = coerce(texts_or_ids)
    sequences, ends = [], list[dict[int, int]]()
    offset = 0 if model.separator_id is None else 1
    for text, spans in zip(prompts.texts, prompts.entities, strict=True):
        sequences.append(model.to_tokens(text)[0].tolist())
        ends.append(_entity_ends(model, text, spans, offset))
    tokens, mask, notes = _pad(model, sequences, prompts.ids, limit)
    kept = mask.sum(1).tolist()
    return Encoded(
        tokens=tokens,
        mask=mask,
        entity_ends=tuple(tuple(e for e in es if e < n) for es, n in zip(ends, kept, strict=True)),
        entities=tuple(tuple(k for e, k in es.items() if e < n) for es, n in zip(ends, kept, strict=True)),
        names=tuple(prompts.ids),
        texts=tuple(prompts.texts),
        notes=(*notes, *_warned(model, prompts)),
        source=_digest([prompts.texts, prompts.entities]),
        tokenizer=tokenizer_digest(model.tokenizer),
    )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def single_token(model: SubjectModel, given: str | int, name: str) -> int:
    """The id of one token, given as a text or an id.

    Args:
        model: Gives the tokenizer.
        given: A text that is one token (a leading space counts), or an id.
        name: What it is called in an error.

    Raises:
        InputError: If the text is several tokens (they are listed), or the id is a truth value or out of
            range.
    """
    if isinstance(given, bool):
        raise InputError(f"{name} wants a token's text or its id, got {given}.")
    if not isinstance(given, str):
        try:
            number = operator.index(given)
        except TypeError as cause:
            raise InputError(
                f"{name} wants a token's text or its id, a whole number, got {given!r}."
            ) from cause
        if not 0 <= number < model.d_vocab:
            raise InputError(f"{name} wants an id in 0 … {model.d_vocab - 1}, got {number}.")
        return number
    ids: list[int] = model.tokenizer.encode(given, add_special_tokens=False).ids
    if len(ids) != 1:
        listed = ", ".join(f"{model.token_text(i)!r} = {i}" for i in ids) or "none"
        raise InputError(
            f"{name} wants one token, got {given!r}, which is {len(ids)} ({listed}); give the id of one "
            f"token, such as {name}={ids[0] if ids else 0}, or a text that is one (a leading space counts)."
        )
    if isinstance(given, str) and _unknown(model, given):
        raise InputError(
            f"{name} wants a token that {model.name} knows, got {given!r}, which its tokenizer does not; "
            "give a word of its vocabulary."
        )
    return ids[0]


def _unknown(model: SubjectModel, text: str) -> list[str]:
    """The words of a text that the tokenizer has no token for."""
    mark = getattr(model.tokenizer.model, "unk_token", None)
    if not mark:
        return []
    found = model.tokenizer.encode(text, add_special_tokens=False)
    unknown, words = model.tokenizer.token_to_id(mark), zip(found.ids, found.offsets, strict=True)
    every = [text[start:end].strip() for token, (start, end) in words if token == unknown]
    return [word for word in dict.fromkeys(every) if word != mark]


def _warned(model: SubjectModel, prompts: PromptSet) -> tuple[str, ...]:
    """One sentence where prompts hold words the tokenizer does not know; said as a warning too."""
    found = {
        name: words
        for name, text in zip(prompts.ids, prompts.texts, strict=True)
        if (words := _unknown(model, text))
    }
    if not found:
        return ()
    (name, words), count = next(iter(found.items())), len(prompts.texts)
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    listed = f"{', '.join(words[:_NAMED])}{more}"
    who, first = f"Prompt {name!r} holds", ""
    if len(found) > 1:
        who, first = f"{len(found)} of {count} prompts hold", f", in {name!r}"
    said = f"{who} words that {model.name} does not know, all read as one and the same{first}: {listed}."
    warnings.warn(said, stacklevel=3)
    return (said,)


def _is_ids(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return isinstance(value, Tensor) or value.dtype.kind in "iuf"
    first = value[0] if isinstance(value, Sequence) and not isinstance(value, str) and len(value) else None
    rows = isinstance(first, Sequence | Tensor | np.ndarray) and not isinstance(first, str)
    return rows or (isinstance(first, int | np.integer) and not isinstance(first, bool))


def _sequences(ids: Any) -> list[list[int]]:
    if not isinstance(ids, Tensor | np.ndarray):
        rows = [ids] if isinstance(ids[0], int | np.integer) else ids
        # A [1, token] row is what to_tokens gives.
        flat = [row[0] if getattr(row, "ndim", 1) == 2 and len(row) == 1 else row for row in rows]
        return [[int(i) for i in row] for row in flat]
    given = torch.as_tensor(ids)
    if given.is_floating_point() or given.ndim not in (1, 2):
        raise InputError(
            f"Token ids want to be integers [batch, token], got {given.dtype} {tuple(given.shape)}."
        )
    return [list(map(int, row)) for row in (given[None] if given.ndim == 1 else given).tolist()]


def _from_ids(model: SubjectModel, ids: Any, limit: int | None) -> Encoded:
    sequences = _sequences(ids)
    if not sequences or not all(sequences):
        raise InputError("There are no token ids to run; give at least one id per prompt.")
    low, high = min(map(min, sequences)), max(map(max, sequences))
    if low < 0 or high >= model.d_vocab:
        raise InputError(
            f"Token ids want to lie in 0 … {model.d_vocab - 1} for {model.name}, got {low} … {high}."
        )
    names = [f"ids-{i}" for i in range(len(sequences))]
    tokens, mask, notes = _pad(model, sequences, names, limit)
    return Encoded(
        tokens=tokens,
        mask=mask,
        entity_ends=((),) * len(sequences),
        names=tuple(names),
        notes=notes,
        source=_digest(sequences),
        tokenizer=tokenizer_digest(model.tokenizer),
    )


def _pad(
    model: SubjectModel, sequences: list[list[int]], names: Sequence[str], limit: int | None
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    limit = limit or model.n_ctx or max(map(len, sequences))
    notes = tuple(
        _note(name, len(s), limit) for s, name in zip(sequences, names, strict=True) if len(s) > limit
    )
    width = min(limit, max(map(len, sequences)))
    tokens = torch.full((len(sequences), width), _PAD, dtype=torch.int64)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        cut = sequence[:width]
        tokens[row, : len(cut)] = torch.tensor(cut)
        mask[row, : len(cut)] = True
    return tokens.to(model.device), mask.to(model.device), notes


def _note(name: str, length: int, limit: int) -> str:
    shown = f"Prompt {name!r} has {length:,} tokens and the context holds {limit}: its first {limit}"
    return f"{shown} were analysed."


def _entity_ends(
    model: SubjectModel, text: str, spans: Sequence[tuple[int, int]], offset: int
) -> dict[int, int]:
    """By the position of its last token, which entity ends there: the first, where several do."""
    if not spans:
        return {}
    starts_ends = model.tokenizer.encode(text, add_special_tokens=False).offsets
    ends: dict[int, int] = {}
    for number, (_, end) in enumerate(spans):
        covering = [i for i, (a, b) in enumerate(starts_ends) if a < end <= b]
        if covering:
            ends.setdefault(covering[-1] + offset, number)
    return ends
