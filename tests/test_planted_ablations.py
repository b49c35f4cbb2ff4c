"""On the planted model, whose facts are known, ablations and gate nulls find what was planted."""

import re
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from engram_interp import ablation, gates
from engram_interp.capture.ablations import Kind
from engram_interp.checkpoints import SubjectModel
from engram_interp.checkpoints.native import subject_of
from engram_interp.data.probes import Probe, ProbeSet
from engram_interp.errors import InputError

planted = pytest.importorskip("engram_interp.planted", reason="no planted model in this version")


@pytest.mark.parametrize("kind", ["rows_zero", "rows_random"])
def test_ablating_a_fact_s_columns_and_nothing_else_removes_it(kind: Kind) -> None:
    # All rows alike: by training hits a random row is often another fact's, which writes too.
    model: SubjectModel = replace(planted.build(), hits={})
    assert model.layout is not None
    heads = model.layout.heads
    for fact in planted.facts():
        ids = model.to_tokens(fact.prompt)
        last = ids.shape[1] - 1
        intact = model.logits(ids)[0, -1]
        assert int(intact.argmax()) == fact.target_id
        for removed in (True, False):
            with ExitStack() as stack:
                for column in range(model.layout.columns):
                    if (column in fact.columns) is removed:
                        part = {"orders": [2 + column // heads], "heads": [column % heads], "tokens": [last]}
                        stack.enter_context(ablation.ablate(model, kind, layers=[fact.layer], seed=1, **part))
                logits = model.logits(ids)[0, -1]
            # Most tokens are named by nothing here: what a target has beyond them was written.
            left = float(logits[fact.target_id] - logits.median())
            written = float(intact[fact.target_id] - intact.median())
            assert written == pytest.approx(fact.written_logit, rel=1e-4)
            assert (int(logits.argmax()) == fact.target_id) is not removed
            if removed:
                assert left == pytest.approx(0, abs=1e-4), fact.ngram
            elif kind == "rows_zero":  # more is left where the norm no longer holds another fact's write
                assert left >= written - 1e-4, fact.ngram


def test_the_planted_gates_are_no_untrained_ones_and_a_fresh_copy_s_are() -> None:
    model: SubjectModel = planted.build()
    texts = [fact.prompt for fact in planted.facts()] * 2
    found = gates.statistics(model, texts * 2, n_boot=20)
    assert float(found.data["untrained_p_all"]) <= 0.05
    counts = {name: int((found.data["init_p"].sel(statistic=name) <= 0.05).sum()) for name in ("mean", "sd")}
    said = " and ".join(f"{count} of 2 differ in {name}" for name, count in counts.items())
    if any(counts.values()):
        assert said in found.summary()
    else:
        assert "no evidence that any gate differs from an untrained one in mean or spread" in found.summary()
    assert model.rebuild is not None
    fresh = subject_of(model.rebuild(), model.tokenizer, name="fresh")  # type: ignore[arg-type]
    assert float(gates.statistics(fresh, texts, n_boot=5).data["untrained_p_all"]) > 0.05


def test_an_ablation_that_the_planted_model_does_not_allow_is_left_out_with_the_reason() -> None:
    facts = planted.facts()
    targets = [fact.target.strip() for fact in facts]
    asked = tuple(
        Probe(id=f"p{i}", prompt=fact.prompt, answer=own, others=tuple(sorted({*targets} - {own})))
        for i, (fact, own) in enumerate(zip(facts, targets, strict=True))
    )
    probes = ProbeSet(name="planted", kind="facts", probes=asked)
    model = planted.build()
    for hits in model.hits.values():
        hits[:] = 0
    # The mean gate is taken over packaged passages, of which this model does not know a word.
    with pytest.warns(
        UserWarning, match=r"16 of 16 prompts hold words that planted does not know, .* and \d+ more"
    ):
        result = ablation.retained(model, probes, n_boot=5)
    assert "rows_mean" not in result.data["kind"].values
    assert "output_off" in result.data["kind"].values
    reason = r"rows_mean: No row of column \d+ of layer \d+ was read in training"
    assert re.search(reason, result.data.attrs["left_out"])
    assert re.search(f"not applied: {reason}", result.summary())
    cell = result.data.sel(stratum="all").isel(probe_set=0)
    assert float(cell["intact_score"]) == 1
    # With the memory off nothing is known: every choice is as likely, and a guess is what is left.
    np.testing.assert_allclose(cell["score"].sel(kind="output_off"), cell["chance"])
    with pytest.raises(InputError, match="was read in training"):
        ablation.retained(model, probes, kinds=["rows_mean"])
