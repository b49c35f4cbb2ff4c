"""Streams and windows: every token once an epoch, in an order that only the seed decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_interp.data.packing import Windows, consecutive, encode_stream
from engram_interp.errors import InputError
from tests import support


def windows(tokens: int, *, length: int = 7, batch: int = 3, seed: int = 0) -> Windows:
    return Windows(stream=np.arange(tokens, dtype=np.uint32), length=length, batch=batch, seed=seed)


@given(tokens=st.integers(30, 400), length=st.integers(1, 9), batch=st.integers(1, 3), seed=st.integers(0, 9))
def test_an_epoch_predicts_every_token_of_its_windows_once(
    tokens: int, length: int, batch: int, seed: int
) -> None:
    made = windows(tokens, length=length, batch=batch, seed=seed)
    seen = np.concatenate([made.at(step) for step in range(made.steps_per_epoch)])
    assert seen.shape == (made.steps_per_epoch * batch, length + 1)
    assert (np.diff(seen, axis=1) == 1).all()
    predicted = seen[:, 1:].flatten()
    assert len(set(predicted.tolist())) == len(predicted)
    assert set(predicted.tolist()) <= set(range(1, made.count * length + 1))
    assert made.count - made.steps_per_epoch * batch < batch


def test_the_order_is_the_seeds_and_each_epoch_has_its_own() -> None:
    one, same, other = windows(200), windows(200), windows(200, seed=1)
    assert [one.at(s).tolist() for s in range(12)] == [same.at(s).tolist() for s in range(12)]
    assert one.at(0).tolist() != other.at(0).tolist()
    assert one.at(one.steps_per_epoch).tolist() != one.at(0).tolist()
    assert one.at(0).dtype == np.int64


def test_too_little_text_for_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"has 21 tokens, which is 2 windows of 7; one batch wants 3"):
        windows(21)


def test_streams_open_every_document_and_stop_after_the_limit() -> None:
    texts, tokenizer = support.documents(600), support.tokenizer()
    whole = encode_stream(texts, tokenizer, separator_id=0)
    assert whole.dtype == np.uint32
    assert (whole == 0).sum() == 600
    wanted = [i for text in texts[:2] for i in [0, *tokenizer.encode(text).ids]]
    assert whole[: len(wanted)].tolist() == wanted
    cut = encode_stream(iter(texts), tokenizer, separator_id=0, limit=100)
    assert cut.tolist() == whole[: len(cut)].tolist()
    assert len(cut) >= 100 > len(cut) - 1 - len(tokenizer.encode(texts[(cut == 0).sum() - 1]).ids)
    with pytest.raises(InputError, match="no documents to encode"):
        encode_stream([], tokenizer, separator_id=0)


def test_consecutive_windows_keep_the_text_order_and_drop_the_tail() -> None:
    parts = list(consecutive(np.arange(45, dtype=np.uint32), length=10, batch=3))
    assert [p.shape for p in parts] == [(3, 11), (1, 11)]
    assert np.concatenate(parts)[:, 0].tolist() == [0, 10, 20, 30]
    assert np.concatenate(parts)[-1].tolist() == list(range(30, 41))
    assert list(consecutive(np.arange(10, dtype=np.uint32), length=10, batch=3)) == []
