"""Token compression: which token ids the memory regards as the same (paper section 2.2).

A tokenizer spends several ids on one word: " The", "the", "THE". Before hashing, ids whose texts
agree after Unicode and case normalisation are mapped to one canonical id, so that an n-gram and its
spelling variants read the same rows.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from tokenizers import Regex, normalizers

from engram_interp.errors import InputError

_REPLACEMENT_CHARACTER = "\ufffd"
_LONE_SPACE = "\ue000"
"""Private-use stand-in for a token that is one space, which stripping would otherwise empty."""


@runtime_checkable
class Vocabulary(Protocol):
    """What token compression asks of a tokenizer; `tokenizers.Tokenizer` has it."""

    def get_vocab_size(self, with_added_tokens: bool = True) -> int: ...  # noqa: D102
    def id_to_token(self, id: int) -> str | None: ...  # noqa: D102
    def decode_batch(  # noqa: D102
        self, sequences: Sequence[Sequence[int]], skip_special_tokens: bool = True
    ) -> list[str]: ...


def as_vocabulary(tokenizer: Any) -> Vocabulary:
    """The `tokenizers.Tokenizer` behind a tokenizer of either library.

    Args:
        tokenizer: A `tokenizers.Tokenizer` or a fast tokenizer of transformers.

    Raises:
        InputError: If it is neither, for example a slow tokenizer of transformers.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "id_to_token") or not hasattr(backend, "decode_batch"):
        raise InputError(
            "Token compression wants a tokenizers.Tokenizer or a fast transformers tokenizer, got "
            f"{type(tokenizer).__name__}; load it with use_fast=True or from its tokenizer.json."
        )
    vocabulary: Vocabulary = backend
    return vocabulary


def _normaliser() -> normalizers.Normalizer:
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[ \t\r\n]+"), " "),
            normalizers.Replace(Regex(r"^ $"), _LONE_SPACE),
            normalizers.Strip(),
            normalizers.Replace(_LONE_SPACE, " "),
        ]
    )


def canonical_keys(tokenizer: Any) -> list[str]:
    """The normalised text under which each token id is looked up, one string per id.

    A token that is not valid text by itself (part of a UTF-8 sequence decodes to U+FFFD) keeps its
    raw vocabulary string; a token that normalises to nothing keeps its unnormalised text.

    Args:
        tokenizer: A `tokenizers.Tokenizer` or a fast tokenizer of transformers.

    Returns:
        `d_vocab` strings.
    """
    vocabulary = as_vocabulary(tokenizer)
    size = vocabulary.get_vocab_size()
    texts = vocabulary.decode_batch([[i] for i in range(size)], skip_special_tokens=False)
    normaliser = _normaliser()
    keys = []
    for token_id, text in enumerate(texts):
        if _REPLACEMENT_CHARACTER in text:
            keys.append(vocabulary.id_to_token(token_id) or text)
        else:
            keys.append(normaliser.normalize_str(text) or text)
    return keys


def token_map(tokenizer: Any) -> tuple[Int64[np.ndarray, " d_vocab"], int]:
    """Canonical id of every token id, and how many canonical ids there are.

    Canonical ids number the normalised texts in order of first appearance, as the paper's demo and
    DeepSeek-V4.1 do. DeepSeek-V4.1's 129,280 ids become 99,092.

    Args:
        tokenizer: A `tokenizers.Tokenizer` or a fast tokenizer of transformers.

    Returns:
        The map, int64 `[d_vocab]` with values in `[0, n_canonical)`, and `n_canonical`.

    Raises:
        InputError: If the tokenizer belongs to neither library.
    """
    first_seen: dict[str, int] = {}
    canonical = [first_seen.setdefault(key, len(first_seen)) for key in canonical_keys(tokenizer)]
    return np.asarray(canonical, dtype=np.int64), len(first_seen)


def identity_map(d_vocab: int) -> tuple[Int64[np.ndarray, " d_vocab"], int]:
    """The map of a model that hashes raw token ids, such as `qwen4_exp`: every id stands for itself."""
    return np.arange(d_vocab, dtype=np.int64), d_vocab
