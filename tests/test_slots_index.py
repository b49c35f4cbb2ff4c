"""Tests of the index of a reference text: what the model reads is what the index says, files stay whole."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_interp import planted, slots, slots_occupancy
from engram_interp.checkpoints import SubjectModel
from engram_interp.errors import InputError
from engram_interp.results import Result
from engram_interp.slots_index import SlotIndex
from engram_interp.views.theme import exchange
from tests import support

FACT = planted.facts()[0]


@pytest.fixture(scope="module")
def model() -> SubjectModel:
    return planted.build()


@pytest.fixture(scope="module")
def corpus(model: SubjectModel) -> list[str]:
    """Planted words, a few of them often, in documents that fit the context; every fact among them."""
    words = [model.token_text(i) for i in range(2, 32)]
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, len(words) + 1)
    made = [
        " ".join(rng.choice(words, size=rng.integers(1, 50), p=weights / weights.sum())) for _ in range(16)
    ]
    return made + [fact.prompt for fact in planted.facts()] + [c.prompt for c in planted.collisions()]


@pytest.fixture(scope="module")
def index(model: SubjectModel, corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> SlotIndex:
    return slots.index(model, iter(corpus), out=tmp_path_factory.mktemp("slots") / "index")


@pytest.fixture(scope="module")
def reads(model: SubjectModel, corpus: list[str]) -> dict[tuple[int, int], Counter[str]]:
    """By layer and address, the n-grams that the model looks up there, counted over the texts."""
    found: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for text in corpus:
        data = slots.lookup(model, text).data
        ngrams = data["ngram"].values
        for (token, layer, column), address in np.ndenumerate(data["address"].values):
            ngram = str(ngrams[token, column // 3])
            if "∅" not in ngram:
                found[layer + 1, int(address)][ngram] += 1
    return found


def test_rows_hold_what_the_model_reads_there(
    model: SubjectModel, index: SlotIndex, reads: dict[tuple[int, int], Counter[str]]
) -> None:
    assert model.layout is not None
    for layer, step in ((1, 7), (2, 11)):
        for address in range(0, int(model.layout.rows[layer - 1]), step):
            data = slots.occupants(model, index, layer=layer, address=address, most=1000).data
            found = dict(zip(data["ngram"].values.tolist(), data["count"].values.tolist(), strict=True))
            assert found == reads[layer, address]
            assert int(data["occurrences"]) == reads[layer, address].total()
            assert int(data["ngrams"]) == len(found)
            assert (np.diff(data["count"]) <= 0).all()


def test_colliders_are_named_with_heads_and_mass(
    model: SubjectModel, index: SlotIndex, reads: dict[tuple[int, int], Counter[str]]
) -> None:
    found = slots.colliders(model, index, " ".join(FACT.ngram), layer=FACT.layer, most=1000)
    data = found.data
    assert tuple(data["address"].values) == FACT.rows
    assert int(data["own_count"]) == reads[FACT.layer, FACT.rows[0]]["zor|vel"]
    rows = [reads[FACT.layer, row] for row in FACT.rows]
    wanted = {ngram: [ngram in row for row in rows] for row in rows for ngram in row if ngram != "zor|vel"}
    assert dict(zip(data["ngram"].values, data["shared"].values.tolist(), strict=True)) == wanted
    heads = np.array([sum(shared) for shared in wanted.values()])
    assert data["colliders"].values.tolist() == [int((heads == n).sum()) for n in (1, 2, 3)]
    mass = {ngram: max(row[ngram] for row in rows) for ngram in wanted}
    assert int(data["mass"].sum()) == sum(mass.values())
    assert "“zor|vel” occurs" in found.summary()


def test_a_census_answers_as_the_index_does_without_the_model(model: SubjectModel, index: SlotIndex) -> None:
    assert model.layout is not None
    found = slots.census(model, index)
    data, names = found.data, ["ngram", "count", "ngrams", "occurrences", "address", "order", "head"]
    assert np.array_equal(data["order"], np.sort(data["order"])) and set(data["order"].values) == {2, 3}
    assert "distinct 2-gram" in found.summary()
    for layer, step in ((1, 41), (2, 37)):
        for address in range(0, int(model.layout.rows[layer - 1]), step):
            wanted = slots.occupants(model, index, layer=layer, address=address).data
            place = {"order": int(wanted["order"]), "head": int(wanted["head"])}
            got = found.occupants(layer=layer, address=address, **place).data
            assert got[names].drop_attrs().equals(wanted[names].drop_attrs())
    for fact in planted.facts():
        wanted = slots.colliders(model, index, " ".join(fact.ngram), layer=fact.layer).data
        got = found.colliders(
            "|".join(fact.ngram), wanted["address"].values.tolist(), layer=fact.layer, order=len(fact.ngram)
        ).data
        assert got.drop_attrs().equals(wanted.drop_attrs())
    with pytest.raises(InputError, match="Layer 3 has no memory; layers 1 and 2 have"):
        found.occupants(layer=3, order=2, head=0, address=5)
    with pytest.raises(InputError, match=r"hash heads 0 … 2, got 3"):
        found.occupants(layer=1, order=2, head=3, address=5)
    with pytest.raises(InputError, match="has 3 rows, one a head, got 2"):
        found.colliders("zor|vel", [1, 2], layer=1, order=2)


def test_a_census_of_a_large_text_is_refused(
    model: SubjectModel, index: SlotIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engram_interp.slots_occupancy._CENSUS", 5)
    with pytest.raises(InputError, match="holds at most 5 n-grams, this text has"):
        slots.census(model, index)


def test_planted_collisions_are_found(model: SubjectModel, index: SlotIndex) -> None:
    for collision in planted.collisions():
        fact = collision.fact
        data = slots.colliders(model, index, " ".join(fact.ngram), layer=fact.layer, most=1000).data
        at = data["ngram"].values.tolist().index("|".join(collision.ngram))
        assert data["shared"].values[at].nonzero()[0].tolist() == [collision.column % 3]
        ids = model.to_tokens(" ".join(collision.ngram))[0, 1:].tolist()
        back = slots.colliders(model, index, ids, layer=fact.layer, most=1000).data
        assert "|".join(fact.ngram) in back["ngram"].values


def test_load_is_what_counting_gives(
    model: SubjectModel, index: SlotIndex, reads: dict[tuple[int, int], Counter[str]]
) -> None:
    found = slots.load(model, index)
    data = found.data
    assert model.layout is not None
    for place, column in ((0, 1), (1, 5)):
        offset = int(model.layout.offsets[place, column])
        size = int(model.layout.primes[place].ravel()[column])
        rows = [reads[place + 1, offset + row] for row in range(size)]
        cell = data.isel(layer=place, column=column)
        distinct = np.array([len(row) for row in rows])
        total = np.array([row.total() for row in rows])
        assert float(cell["unused"]) == pytest.approx((distinct == 0).mean())
        assert float(cell["sharing"]) == pytest.approx(distinct[distinct > 1].sum() / distinct.sum())
        assert float(cell["sharing_mass"]) == pytest.approx(total[distinct > 1].sum() / total.sum())
        assert int(cell["pairs"]) == sum(n * (n - 1) // 2 for n in distinct.tolist())
        assert cell["load"].values[-1] == distinct.max()
        assert cell["rows_by_reads"].values.sum() == size
        assert int(data["ngrams"][column // 3]) == distinct.sum()
        assert int(data["occurrences"][column // 3]) == total.sum()
        assert float(cell["unused_null"]) == pytest.approx((1 - 1 / size) ** distinct.sum())
    assert "if spread evenly" in found.summary()
    table = model.module.get_parameter("blocks.1.engram.table.weight").numpy()
    mass = np.array([reads[1, row].total() for row in range(251)])
    rare = (mass >= 1) & (mass <= 4)
    assert float(data["norm_by_reads"].sel(layer=1, column=0, stratum="1–4")) == pytest.approx(
        np.linalg.norm(table[:251][rare], axis=1).mean(), abs=1e-6
    )


def test_an_index_gives_a_model_its_counts(
    model: SubjectModel, index: SlotIndex, reads: dict[tuple[int, int], Counter[str]]
) -> None:
    counted = replace(model, counts=index.counts())
    data = slots.lookup(counted, FACT.prompt).data
    seen = 0
    for (token, order), ngram in np.ndenumerate(data["ngram"].values):
        if "∅" not in str(ngram):
            address = int(data["address"].values[token, 0, 3 * order])
            assert data["count"].values[token, order] == reads[1, address][str(ngram)] > 0
            seen += 1
    assert seen


def test_an_index_of_another_model_is_refused_wherever_it_is_used(index: SlotIndex) -> None:
    other = support.subject(support.model_config(memory=support.memory_config()))
    for use in (
        lambda: slots.occupants(other, index, layer=1, address=0),
        lambda: slots.colliders(other, index, "zor vel", layer=1),
        lambda: slots.load(other, index),
    ):
        with pytest.raises(InputError, match="was built with another hash layout than tiny has"):
            use()


def test_an_index_that_was_built_again_is_not_read_as_the_old_one(
    model: SubjectModel, corpus: list[str], tmp_path: Path
) -> None:
    opened = slots.index(model, iter(corpus), out=tmp_path / "index")
    slots.index(model, iter(corpus[:4]), out=tmp_path / "index")
    with pytest.raises(InputError, match="was built again since it was opened; open it again"):
        slots.occupants(model, opened, layer=1, address=0)


def testeffective_rank_of_rows_with_known_singular_values() -> None:
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))
    rows = np.zeros((9, 5))
    rows[:, :3] = turned[:, :3]
    assert slots_occupancy.effective_rank(rows) == pytest.approx(3)
    share = np.array([0.5, 0.3, 0.2])
    wanted = np.exp(-(share * np.log(share)).sum())
    assert slots_occupancy.effective_rank(turned[:, :3] * share) == pytest.approx(wanted)
    assert np.isnan(slots_occupancy.effective_rank(np.zeros((4, 3))))


def test_results_survive_a_file_and_have_a_dark_twin(
    model: SubjectModel, index: SlotIndex, tmp_path: Path
) -> None:
    made: list[Result] = [
        slots.occupants(model, index, layer=1, address=FACT.rows[0]),
        slots.colliders(model, index, "zor vel", layer=1),
        slots.load(model, index),
    ]
    for number, result in enumerate(made):
        back = Result.load(result.save(tmp_path / f"{number}.nc"))
        assert back.summary() == result.summary()
        assert result.data.attrs["text_digest"] == index.facts["text_sha256"]
        light, dark = (result.plot(theme=theme).to_json() for theme in ("light", "dark"))
        assert light != dark
        for one, other in exchange().items():
            light = light.replace(f'"{one}"', f'"{other}"')
        assert light == dark


def test_an_index_of_other_addresses_is_refused(
    model: SubjectModel, index: SlotIndex, tmp_path: Path
) -> None:
    tiny = support.subject()
    with pytest.raises(InputError, match=r"built with another hash layout than tiny has \(layout_sha256 "):
        slots.open_index(index.ngrams.folder, tiny)
    with pytest.raises(InputError, match="There is no index at"):
        slots.open_index(tmp_path, model)
    with pytest.raises(InputError, match="no memory whose addresses are known"):
        slots.index(support.subject(support.model_config()), ["a b c"], out=tmp_path / "new")


def test_what_is_not_an_index_is_left_alone(model: SubjectModel, corpus: list[str], tmp_path: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"was not made by engram-interp index.*chapter.txt"):
        slots.index(model, corpus, out=foreign)
    slots.index(model, corpus, out=tmp_path / "index")
    (tmp_path / "index" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds more than an index \(notes.txt\)"):
        slots.index(model, corpus, out=tmp_path / "index")
    assert (foreign / "chapter.txt").read_text() == (tmp_path / "index" / "notes.txt").read_text() == "mine"


def test_an_interrupted_build_leaves_what_was_there(
    model: SubjectModel, corpus: list[str], tmp_path: Path
) -> None:
    def stop(share: float, text: str) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slots.index(model, corpus, out=tmp_path / "index", progress=stop)
    assert not list(tmp_path.iterdir())
    first = slots.index(model, corpus[:12], out=tmp_path / "index").facts
    with pytest.raises(KeyboardInterrupt):
        slots.index(model, corpus, out=tmp_path / "index", progress=stop)
    assert slots.open_index(tmp_path / "index", model).facts == first
    assert slots.index(model, corpus, out=tmp_path / "index").facts["tokens"] > first["tokens"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_questions_that_cannot_be_answered_say_why(model: SubjectModel, index: SlotIndex) -> None:
    with pytest.raises(InputError, match=r"Layer 3 has no memory; layers 1, 2 have one"):
        slots.occupants(model, index, layer=3, address=0)
    with pytest.raises(InputError, match=r"table of layer 1 has the rows 0 … 1587, got 1588"):
        slots.occupants(model, index, layer=1, address=1588)
    with pytest.raises(InputError, match=r"looks up 2 to 3 tokens in a row, got 1"):
        slots.colliders(model, index, "zor", layer=1)
    with pytest.raises(InputError, match=r"want to lie in 0 … 61 for planted, got 3 … 62"):
        slots.colliders(model, index, [3, 62], layer=1)
    with pytest.raises(InputError, match="wants documents, got one string"):
        slots.index(model, "a.txt", out="nowhere")
