"""The trained tokenizer: it keeps every text, and knows its separator."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_interp.data.documents import SEPARATOR
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import InputError
from tests import support


@given(text=st.text())
def test_any_text_survives(text: str) -> None:
    tokenizer = support.tokenizer()
    ids = tokenizer.encode(text.replace(SEPARATOR, ""), add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text.replace(SEPARATOR, "")


def test_the_separator_is_id_0_and_the_size_is_as_asked() -> None:
    tokenizer = support.tokenizer()
    assert tokenizer.get_vocab_size() == support.D_VOCAB
    assert tokenizer.token_to_id(SEPARATOR) == 0
    assert tokenizer.encode(f"a{SEPARATOR}b").ids[1] == 0


def test_training_is_deterministic_and_merges_what_is_frequent() -> None:
    texts = support.documents(50)
    first, again = (train_tokenizer(texts, d_vocab=290) for _ in range(2))
    assert first.to_str() == again.to_str()
    assert len(first.encode(texts[0]).ids) < len(texts[0].encode()) * 0.8


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(InputError, match="at least 257 ids, got 256"):
        train_tokenizer(["a"], d_vocab=256)
