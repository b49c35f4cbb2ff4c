"""Tests of `memory.counts`: against a Counter, on disk, and what is said of files that do not fit."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import counts

N_IDS = 37
FACTS = {"tokens": 700, "source": "made up", "text_sha256": "abc", "token_map_sha256": "map"}


def grams(stream: np.ndarray, order: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(stream, order)


def test_a_table_counts_as_a_counter_does_and_comes_back_from_disk(tmp_path: Path) -> None:
    stream = (np.random.default_rng(3).zipf(1.5, 700) % N_IDS).astype(np.int64)
    asked = {2: grams(stream[:90], 2), 3: np.concatenate([grams(stream[:60], 3), [[1, 36, 2], [0, 0, 0]]])}
    keys, found = counts.tally(asked, n_ids=N_IDS)
    for order in keys:
        for part in np.array_split(counts.keys_of(grams(stream, order), n_ids=N_IDS), 4):
            counts.add(found[order], keys[order], part)
    counts.write(tmp_path / counts.FILE, keys, found, n_ids=N_IDS, facts=FACTS)
    table = counts.read(tmp_path / counts.FILE, token_map_digest="map")
    assert table.tokens == 700 and table.source == "made up" and table.text_digest == "abc"
    for order, ids in asked.items():
        slow = Counter(tuple(row) for row in grams(stream, order).tolist())
        assert table.of(ids).tolist() == [slow[tuple(row)] for row in ids.tolist()]
    assert (table.of(asked[3]) == 0).any() and int(table.of(asked[3]).max()) > 1
    other = np.array([[36, 36, 36], [5, 0, 35]])
    assert [tuple(row) in {tuple(r) for r in asked[3].tolist()} for row in other.tolist()] == [False, False]
    assert table.of(other).tolist() == [counts.UNKNOWN] * 2
    assert table.of(np.zeros((2, 4), np.int64)).tolist() == [counts.UNKNOWN] * 2


def test_only_whole_n_grams_are_asked_for_once() -> None:
    found = counts.distinct(np.array([[3, 4], [-1, 4], [3, 4], [1, -2], [2, 9]]))
    assert found.tolist() == [[2, 9], [3, 4]]


def test_a_table_of_another_tokenizer_or_cut_short_is_refused(tmp_path: Path) -> None:
    keys, found = counts.tally({2: np.array([[1, 2]])}, n_ids=N_IDS)
    path = tmp_path / counts.FILE
    counts.write(path, keys, found, n_ids=N_IDS, facts=FACTS)
    with pytest.raises(InputError, match="n-grams of another token map"):
        counts.read(path, token_map_digest="other")
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(DamagedFileError, match="cannot be read"):
        counts.read(path, token_map_digest="map")
    with pytest.raises(InputError, match="do not fit 63 bits"):
        counts.keys_of(np.zeros((1, 4), np.int64), n_ids=129_280)
