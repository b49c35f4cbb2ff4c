"""Token compression against an independent slow definition."""

import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from engram_interp.data.documents import SEPARATOR
from engram_interp.errors import InputError
from engram_interp.memory import compression, hashing
from tests import support

SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def slow_key(text: str, raw: str) -> str:
    """The key of a token by the definition, with the standard library alone."""
    if "\ufffd" in text:
        return raw
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
    folded = "".join(c.lower() for c in folded if unicodedata.category(c) != "Mn")
    folded = re.sub(r"[ \t\r\n]+", " ", folded)
    return (folded if folded == " " else folded.strip(SPACES)) or text


def slow_map(tokenizer: Tokenizer) -> list[int]:
    numbers: dict[str, int] = {}
    out = []
    for i in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([i], skip_special_tokens=False)
        key = slow_key(text, tokenizer.id_to_token(i) or "")
        out.append(numbers.setdefault(key, len(numbers)))
    return out


def of_words(*words: str) -> Tokenizer:
    """A tokenizer whose tokens decode to exactly these texts, numbered in order."""
    return Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))


def test_a_trained_tokenizer_compresses_as_the_slow_definition() -> None:
    mapping, count = hashing.token_map(support.tokenizer())
    assert mapping.tolist() == slow_map(support.tokenizer())
    assert mapping.dtype == np.int64
    assert count == len(set(mapping.tolist())) < len(mapping) == support.D_VOCAB
    assert mapping.max() + 1 == count


@pytest.mark.parametrize(
    "same",
    [
        ("Café", "CAFE", " café ", "cafe\u0301", "\ncafé"),
        ("①", "1", "¹", "１"),
        ("ﬁn", "fin", "FIN "),
        (" ", "\n\t", "\u3000 ", "\u00a0", "\r"),
        ("a  b", "a\tb", "A\n\nB", "À b "),
        ("Ｗｉｄｅ", "wide"),
        ("İ", "i", "I"),
    ],
)
def test_case_accents_width_and_space_variants_share_an_id(same: tuple[str, ...]) -> None:
    mapping, count = hashing.token_map(of_words("other", *same))
    assert mapping.tolist() == [0] + [1] * len(same)
    assert count == 2


def test_what_differs_in_more_than_spelling_stays_apart() -> None:
    words = ("ß", "SS", "a b", "ab", "æ", "ae", "\u0301", "\u0300", "\u200b", " ", "о", "o")
    assert hashing.token_map(of_words(*words))[0].tolist() == list(range(len(words)))


@given(
    words=st.lists(
        st.text(st.characters(max_codepoint=0x58F), min_size=1, max_size=6), min_size=1, unique=True
    )
)
def test_any_words_compress_as_the_slow_definition(words: list[str]) -> None:
    tokenizer = of_words(*words)
    assert compression.canonical_keys(tokenizer) == [slow_key(word, word) for word in words]
    assert hashing.token_map(tokenizer)[0].tolist() == slow_map(tokenizer)


def test_a_byte_that_is_no_text_keeps_its_raw_name() -> None:
    tokenizer = support.tokenizer()
    keys = compression.canonical_keys(tokenizer)
    raw = {i: tokenizer.id_to_token(i) for i in range(256) if "\ufffd" in tokenizer.decode([i])}
    assert len(raw) > 100  # every byte from 80 up
    assert {i: keys[i] for i in raw} == raw


def test_the_separator_is_one_key_of_its_own() -> None:
    mapping, _ = hashing.token_map(support.tokenizer())
    separator = support.tokenizer().token_to_id(SEPARATOR)
    assert (mapping == mapping[separator]).sum() == 1


def test_tokenizers_of_transformers_give_the_same_map() -> None:
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=support.tokenizer())
    assert hashing.token_map(fast)[0].tolist() == hashing.token_map(support.tokenizer())[0].tolist()


@pytest.mark.parametrize("tokenizer", [object(), "tokenizer.json", None])
def test_other_tokenizers_are_refused_by_name(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=rf"got {type(tokenizer).__name__}; load it with use_fast=True"):
        hashing.token_map(tokenizer)


def test_the_identity_map_is_one_id_each() -> None:
    mapping, count = hashing.identity_map(7)
    assert (mapping.tolist(), count) == (list(range(7)), 7)
