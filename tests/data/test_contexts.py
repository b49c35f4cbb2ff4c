"""Counts of contexts, against counting them one by one."""

import numpy as np
import pytest

from engram_interp.data.contexts import context_counts
from engram_interp.errors import InputError


@pytest.mark.parametrize("order", [1, 2, 3])
def test_counts_are_those_of_a_slow_count(order: int) -> None:
    generator = np.random.default_rng(order)
    stream, text = (generator.integers(0, 5, size=n).astype(np.uint32) for n in (200, 900))
    found = context_counts(stream, text, order=order, separator_id=0, d_vocab=5)
    contexts = [tuple(text[i - order + 1 : i + 1].tolist()) for i in range(order - 1, len(text))]
    for place in range(len(stream)):
        context = tuple(stream[max(place - order + 1, 0) : place + 1].tolist())
        inside = len(context) == order and 0 not in context[1:]
        assert found[place] == (contexts.count(context) if inside else -1)


def test_a_text_shorter_than_a_context_has_none_and_too_many_bits_are_refused() -> None:
    short = np.array([0, 1], np.uint32)
    assert context_counts(short, short, order=3, separator_id=0, d_vocab=5).tolist() == [-1, -1]
    stream = np.array([0, 1, 2, 3], np.uint32)
    assert context_counts(stream, short, order=3, separator_id=0, d_vocab=5).tolist() == [-1, -1, 0, 0]
    with pytest.raises(InputError, match="fit 63 bits; got 4 of 100,000 ids"):
        context_counts(stream, stream, order=4, separator_id=0, d_vocab=100_000)
