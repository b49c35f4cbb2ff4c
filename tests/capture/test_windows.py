"""Tests of `capture.windows` and of the counts of `capture.hits`: against slow loops over documents."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from engram_interp.capture import encode, record
from engram_interp.capture.hits import BY_COUNT, BY_ROWS, NO_NGRAM, own_counts, strata_of, stratum
from engram_interp.capture.windows import NOTHING, lagged
from engram_interp.checkpoints import SubjectModel
from engram_interp.errors import InputError
from engram_interp.memory.counts import UNKNOWN, NgramCounts
from tests import support

TEXTS = support.documents(5, seed=12)


def windows(model: SubjectModel, ids: list[int], t: int, order: int) -> tuple[int, ...] | None:
    """Slowly: the canonical n-gram that ends at t, None if it begins before the text."""
    assert model.token_map is not None
    return None if t - order + 1 < 0 else tuple(int(model.token_map[i]) for i in ids[t - order + 1 : t + 1])


def counted(model: SubjectModel, texts: list[str], *, leave_out: int | None = None) -> NgramCounts:
    """Counts of a text's n-grams, made by a loop; those that hold the id `leave_out` were not counted."""
    counts: Counter[tuple[int, ...]] = Counter()
    for row in encode(model, texts).tokens.tolist():
        for order in (1, 2, 3):
            counts.update(w for t in range(len(row)) if (w := windows(model, row, t, order)) is not None)

    def of(ids: np.ndarray) -> np.ndarray:
        each = [UNKNOWN if leave_out in row else counts[tuple(row)] for row in ids.tolist()]
        return np.array(each, np.int64)

    return NgramCounts(of=of, tokens=sum(counts.values()), source="a loop", text_digest="none")


def test_lagged_ids_stop_at_the_separator_and_at_padding() -> None:
    model = support.subject()
    encoded = encode(model, TEXTS)
    seen = lagged(model, encoded.tokens, encoded.mask)
    assert seen.shape == (3, *encoded.tokens.shape)
    for row, ids in enumerate(encoded.tokens.tolist()):
        for t in range(len(ids)):
            for lag in range(3):
                found = int(seen[lag, row, t])
                if not encoded.mask[row, t] or t < lag:
                    assert found == NOTHING
                else:
                    assert model.token_map is not None and found == int(model.token_map[ids[t - lag]])
    with pytest.raises(InputError, match="does not tell which n-grams it reads"):
        lagged(replace(model, token_map=None), encoded.tokens)


def test_own_counts_are_those_of_the_longest_whole_n_gram() -> None:
    model = support.subject()
    model = replace(model, counts=counted(model, TEXTS[:3]))
    encoded = encode(model, TEXTS)
    found = own_counts(model, encoded)
    bare = own_counts(replace(model, counts=None), encoded)
    assert model.counts is not None
    for row, ids in enumerate(encoded.tokens.tolist()):
        for t in range(len(ids)):
            longest = windows(model, ids, t, 3) or windows(model, ids, t, 2)
            if longest is None or not encoded.mask[row, t]:
                assert found[row, t] == bare[row, t] == NO_NGRAM
            else:
                assert found[row, t] == int(model.counts.of(np.array([longest]))[0])
                assert bare[row, t] == UNKNOWN
    assert (found[4] == 0).any() and (found[:3] > 1).any()
    single = own_counts(model, encoded, order=1)
    assert (single[encoded.mask.numpy()] >= 0).all()


def test_strata_take_the_own_count_only_where_every_n_gram_was_counted() -> None:
    model = support.subject()
    assert model.layout is not None and model.token_map is not None
    draw, sizes = np.random.default_rng(5), zip((1, 2), model.layout.rows.tolist(), strict=True)
    hits = {layer: draw.choice([0, 3, 20, 90], size=rows) for layer, rows in sizes}
    known = replace(model, hits=hits, counts=counted(model, TEXTS))
    sites = [f"blocks.{layer}.engram.hook_rows" for layer in (1, 2)]
    rec = record(known, TEXTS, sites=sites, logits=False)
    rows, encoded = [rec[site] for site in sites], rec.encoded
    found, by = strata_of(known, encoded, rows)
    own = own_counts(known, encoded)
    assert by == BY_COUNT
    for layer in found:
        np.testing.assert_array_equal(layer, np.where(own < 0, -1, stratum(own)))
    missed = replace(
        known, counts=counted(model, TEXTS, leave_out=int(model.token_map[encoded.tokens[2, 5]]))
    )
    found, by = strata_of(missed, encoded, rows)
    assert by == BY_ROWS
    least = hits[2][rows[1][2, 5, 3:].numpy()].min()
    assert found[1, 2, 5] == int(stratum(np.array(least)))
    assert (found[:, ~encoded.mask.numpy()] == -1).all()
    found, by = strata_of(replace(missed, hits={}), encoded, rows)
    assert by == "" and (found == -1).all()
    assert torch.equal(encoded.tokens, rec.tokens)
