"""The index of n-grams and its collisions, against counting 100,000 tokens with dictionaries."""

from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import collisions, hashing
from engram_interp.memory import index as memory_index
from engram_interp.memory.hashing import Layout
from engram_interp.memory.index import NgramIndex

N_IDS, N_TOKENS = 700, 100_000
LAYERS, HEADS = (1, 4), 3
Gram = tuple[int, ...]


def stream() -> tuple[np.ndarray, np.ndarray]:
    """Ids with a long tail, and where documents open: some hold one token, none reach across."""
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.3, N_TOKENS), N_IDS) - 1
    opens = rng.random(N_TOKENS) < 0.02
    opens[0] = True
    return ids.astype(np.int32), opens


@cache
def layout() -> Layout:
    return Layout.deepseek(layer_ids=LAYERS, budget=(200, 300), max_order=3, heads=HEADS, n_canonical=N_IDS)


@cache
def plain() -> tuple[list[list[int]], list[list[list[int]]]]:
    return layout().multipliers.tolist(), layout().primes.tolist()


def counted(ids: np.ndarray, opens: np.ndarray, order: int) -> Counter[Gram]:
    bounds = [*np.flatnonzero(opens).tolist(), len(ids)]
    documents = [tuple(ids[a:b].tolist()) for a, b in pairwise(bounds)]
    return Counter(d[i : i + order] for d in documents for i in range(len(d) - order + 1))


def hashed(gram: Gram, place: int, head: int) -> int:
    """The row of an n-gram in a head, in Python's own integers."""
    multipliers, primes = plain()
    mixed = 0
    for lag, number in enumerate(reversed(gram)):
        mixed ^= number * multipliers[place][lag]
    return mixed % primes[place][len(gram) - 2][head]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> NgramIndex:
    ids, opens = stream()
    age = memory_index.ages(opens, most=2)
    folder = tmp_path_factory.mktemp("index")
    memory_index.write(folder, ids, age, layout=layout(), n_ids=N_IDS)
    return memory_index.read(folder, layout=layout(), n_ids=N_IDS)


@pytest.fixture(scope="module")
def grams() -> dict[int, Counter[Gram]]:
    return {order: counted(*stream(), order) for order in (2, 3)}


def all_ids(index: NgramIndex, order: int) -> list[Gram]:
    return [tuple(ids) for ids in index.ids(order, np.arange(len(index.keys(order)))).tolist()]


def test_ages_count_the_tokens_before_in_a_segment() -> None:
    opens = np.array([True, False, False, False, True, True, False])
    assert memory_index.ages(opens, most=2).tolist() == [0, 1, 2, 2, 0, 0, 1]


@pytest.mark.parametrize("order", [2, 3])
def test_every_ngram_is_counted(made: NgramIndex, grams: dict[int, Counter[Gram]], order: int) -> None:
    found = dict(zip(all_ids(made, order), made.counts(order).tolist(), strict=True))
    assert found == grams[order]
    for number in (0, 17, len(found) - 1):
        assert made.number(made.ids(order, np.array([number]))[0]) == number
    assert made.number(np.array([N_IDS - 1] * order)) == (
        None if (N_IDS - 1,) * order not in found else all_ids(made, order).index((N_IDS - 1,) * order)
    )


@pytest.mark.parametrize(("place", "order", "head"), [(0, 2, 2), (1, 2, 0), (1, 3, 1)])
def test_every_row_holds_its_ngrams(
    made: NgramIndex, grams: dict[int, Counter[Gram]], place: int, order: int, head: int
) -> None:
    wanted: dict[int, set[Gram]] = defaultdict(set)
    for gram in grams[order]:
        wanted[hashed(gram, place, head)].add(gram)
    names = all_ids(made, order)
    distinct, reads = collisions.loads(made, LAYERS[place], order, head)
    assert len(distinct) == layout().primes[place, order - 2, head]
    for row in range(len(distinct)):
        living = made.living_in(LAYERS[place], order, head, row=row)
        assert {names[number] for number in living} == wanted[row]
        assert (distinct[row], reads[row]) == (len(living), sum(grams[order][g] for g in wanted[row]))
    rows = collisions.rows_by_ngram(made, LAYERS[place], order, head)
    assert rows.tolist() == [hashed(gram, place, head) for gram in names]


@pytest.mark.parametrize(("place", "order"), [(0, 2), (1, 3)])
def test_collisions_in_all_heads(
    made: NgramIndex, grams: dict[int, Counter[Gram]], place: int, order: int
) -> None:
    rows = {gram: tuple(hashed(gram, place, head) for head in range(HEADS)) for gram in grams[order]}
    several = Counter(rows.values())
    names = all_ids(made, order)
    found = collisions.shared_in_all_heads(made, LAYERS[place], order)
    assert {names[i] for i in np.flatnonzero(found)} == {g for g, r in rows.items() if several[r] > 1}
    gram = names[5]
    numbers, shared = collisions.living_with(made, LAYERS[place], np.array(rows[gram]), order=order)
    wanted = {g: [a == b for a, b in zip(r, rows[gram], strict=True)] for g, r in rows.items()}
    assert {names[n]: s for n, s in zip(numbers, shared.tolist(), strict=True)} == {
        g: same for g, same in wanted.items() if any(same)
    }


def test_rows_are_the_addresses_of_the_memory(made: NgramIndex) -> None:
    ids = made.ids(3, np.arange(0, 5000, 7))
    for order in (2, 3):
        wanted = hashing.addresses(ids[:, -order:], layout(), pad_id=0)[:, -1].numpy() - layout().offsets
        for place, head in ((0, 0), (1, 2)):
            found = memory_index.column_rows(layout(), place, order, head, ids[:, -order:])
            np.testing.assert_array_equal(found, wanted[:, place, (order - 2) * HEADS + head])


def test_some_ngrams_do_share_all_heads(made: NgramIndex) -> None:
    """Or the test above would compare nothing with nothing."""
    assert collisions.shared_in_all_heads(made, 4, 3).sum() > 10


def test_even_spreading_is_the_birthday_problem() -> None:
    """23 people: somebody shares one person's birthday with chance 1 - (364/365)^22."""
    assert collisions.expected_alone(23, 365.0) == pytest.approx((364 / 365) ** 22, rel=1e-12)


def test_long_ngrams_of_a_large_vocabulary_do_not_overflow(tmp_path: Path) -> None:
    n_ids = 130_000
    one = Layout.deepseek(layer_ids=(0,), budget=50, max_order=5, heads=1, n_canonical=n_ids)
    ids = np.random.default_rng(1).integers(n_ids - 6, n_ids, 4000).astype(np.int32)
    opens = np.zeros(len(ids), bool)
    opens[[0, 1500]] = True
    made = memory_index.write(tmp_path, ids, memory_index.ages(opens, most=4), layout=one, n_ids=n_ids)
    for order in (2, 5):
        found = dict(zip(all_ids(made, order), made.counts(order).tolist(), strict=True))
        assert found == counted(ids, opens, order)


def test_what_cannot_be_read_is_said(made: NgramIndex, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="This head has the rows 0 … "):
        made.living_in(1, 2, 0, row=-1)
    ids, opens = np.arange(3, dtype=np.int32), np.ones(3, bool)
    with pytest.raises(InputError, match="no 2 tokens in a row within a document"):
        memory_index.write(tmp_path, ids, memory_index.ages(opens, most=2), layout=layout(), n_ids=N_IDS)
    for path in made.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cut = tmp_path / "layer4.order3.head2.ngrams.npy"
    cut.write_bytes(cut.read_bytes()[:-8])
    with pytest.raises(DamagedFileError, match=r"head2.ngrams.npy is missing or cut short"):
        memory_index.read(tmp_path, layout=layout(), n_ids=N_IDS)
    cut.write_bytes((made.folder / "layer4.order2.head2.ngrams.npy").read_bytes())
    with pytest.raises(DamagedFileError, match="do not fit each other"):
        memory_index.read(tmp_path, layout=layout(), n_ids=N_IDS)
