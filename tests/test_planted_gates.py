"""On the planted model tests of gates, skipping and probes find what was planted, and nothing untrained."""

from dataclasses import replace

import numpy as np
import pytest

from engram_interp import ablation, gates, planted, skipping
from engram_interp.capture.hits import STRATA, stratum
from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.checkpoints.native import subject_of
from engram_interp.data.probes import Probe, ProbeSet

FACTS = planted.facts()
SAID = [fact.prompt + fact.target for fact in FACTS]
"""Each fact's prompt and what it promotes: there the memory helps to predict."""


@pytest.fixture(scope="module")
def model() -> SubjectModel:
    return planted.build()


@pytest.fixture(scope="module")
def fresh(model: SubjectModel) -> SubjectModel:
    """An untrained copy that knows the same counts."""
    assert model.rebuild is not None
    copy = subject_of(model.rebuild(), model.tokenizer, name="fresh")  # type: ignore[arg-type]
    return replace(copy, hits=model.hits, counts=model.counts)


def probes() -> ProbeSet:
    """What every fact promotes, among what the others do."""
    targets = [fact.target.strip() for fact in FACTS]
    asked = tuple(
        Probe(id=f"p{i}", prompt=fact.prompt, answer=own, others=tuple(sorted({*targets} - {own})))
        for i, (fact, own) in enumerate(zip(FACTS, targets, strict=True))
    )
    return ProbeSet(name="planted", kind="facts", probes=asked)


def test_gates_open_wider_on_planted_rows_than_on_others_at_the_same_query(
    model: SubjectModel, fresh: SubjectModel
) -> None:
    # Every word's own rows are neutral (0.5) but for a fact's, near 1; another word's are neutral or shut.
    data = gates.selectivity(model, SAID * 3, n_boot=50, n_inits=0).data
    assert float(data["conflict_auc_low"].sel(other="swapped").min()) > 0.5
    null = gates.selectivity(fresh, SAID * 3, n_boot=50, n_inits=8).data
    one = null.sel(other="swapped")
    inside = (one["conflict_auc"] >= one["null_conflict_auc_low"] - 0.1) & (
        one["conflict_auc"] <= one["null_conflict_auc_high"] + 0.1
    )
    assert bool(inside.all())


def test_gates_by_count_are_those_of_the_facts(model: SubjectModel) -> None:
    ends = [fact.prompt for fact in FACTS]
    data = gates.selectivity(model, ends, n_boot=2, n_inits=0).data
    assert "own count" in data.attrs["strata"]
    often = stratum(np.array([fact.hits for fact in FACTS]))
    for number, name in enumerate(STRATA):
        # Each prompt of a stratum has one fact at its end and nothing planted before it.
        assert int(data["stratum_tokens"].sel(stratum=name)[0]) >= int((often == number).sum())
    assert int(data["stratum_tokens"].sel(layer=1).sum()) == sum(len(text.split()) for text in ends)


def test_a_gate_is_useful_exactly_where_a_fact_is_read(model: SubjectModel, fresh: SubjectModel) -> None:
    result = gates.usefulness(model, SAID * 3, n_boot=50, n_inits=3)
    data = result.data
    for sample in range(data.sizes["sample"]):
        fact = FACTS[int(data["document"][sample]) % len(FACTS)]
        at_end = int(data["position"][sample]) == len(fact.prompt.split())
        for layer in (1, 2):
            moved = float(data["delta_loss"].sel(layer=layer)[sample])
            assert (moved > 0.1) is (at_end and layer == fact.layer), (fact.ngram, layer)
    assert float(data["auc"].min()) == 1 and "over 3 initialisations" in result.summary()
    null = gates.usefulness(fresh, SAID * 3, n_boot=50, n_inits=0).data
    assert float(null["auc"].max()) < 1 and float(np.abs(null["mean_delta"]).max()) < 0.05


def test_gates_of_the_planted_model_tell_how_often_a_fact_was_seen(
    model: SubjectModel, fresh: SubjectModel
) -> None:
    seen = gates.information(model, SAID * 3, n_permutations=39, n_inits=3)
    told = seen.data.sel(feature="times in training")
    assert float(told["information_low"].max()) > 0 and float(told["permuted_p"].min()) <= 0.05
    assert np.isnan(seen.data["information"].sel(feature="entity end")).all()
    assert "entity end not measured" in seen.summary()
    null = gates.information(fresh, SAID * 3, n_permutations=9, n_inits=8).data
    untold = null["information"].sel(feature="times in training")
    low, high = (null[f"null_information{end}"].sel(feature="times in training") for end in ("_low", "_high"))
    assert bool(((untold >= low - 0.1) & (untold <= high + 0.1)).all())


def test_skipping_finds_that_only_the_memories_of_two_layers_do_anything(model: SubjectModel) -> None:
    data = skipping.effect(model, SAID, n_boot=2).data.isel(model=0)
    moved = data["delta_loss"].sel(memory="skipped").values
    assert abs(moved[3]) < 1e-5, "the last layer does nothing"
    assert moved[1] > 0.05 and moved[2] > 0.05
    kept = data["delta_loss"].sel(memory="kept").values
    assert np.abs(kept[[1, 2]]).max() < 1e-5, "their attention and feed-forward do nothing either"


def test_probes_of_the_facts_are_retained_by_what_does_not_touch_them(fresh: SubjectModel) -> None:
    shipped = load_model("planted")
    result = ablation.retained(shipped, probes(), kinds=["output_off", "gate_one"], n_boot=5)
    cell = result.data.isel(probe_set=0).sel(stratum="all")
    assert float(cell["intact_score"]) == 1
    np.testing.assert_allclose(cell["retained"].sel(kind="gate_one"), 1)  # every planted gate is open there
    np.testing.assert_allclose(cell["retained"].sel(kind="output_off"), 0, atol=1e-12)
    # After another fact's prompt that fact's target is raised, a choice as well: the right one never wins.
    assert float(cell["swapped_score"]) == 0
    often = np.bincount(stratum(np.array([fact.hits for fact in FACTS])), minlength=len(STRATA))
    assert (
        result.data["n_items"].isel(probe_set=0).sel(stratum=list(STRATA)).values.tolist() == often.tolist()
    )
    null = ablation.retained(fresh, probes(), kinds=["output_off"], n_boot=5).data.isel(probe_set=0)
    assert float(null["intact_score"].sel(stratum="all")) < 0.5
