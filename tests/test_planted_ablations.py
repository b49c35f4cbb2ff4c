"""On the planted model, whose facts are known, ablations and gate nulls find what was planted."""

from contextlib import ExitStack

import pytest

from engram_interp import ablation, gates
from engram_interp.capture.ablations import Kind
from engram_interp.checkpoints import SubjectModel
from engram_interp.checkpoints.native import subject_of

planted = pytest.importorskip("engram_interp.planted", reason="no planted model in this version")


@pytest.mark.parametrize("kind", ["rows_zero", "rows_random"])
def test_ablating_a_fact_s_columns_and_nothing_else_removes_it(kind: Kind) -> None:
    model: SubjectModel = planted.build()
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
    assert float(gates.statistics(model, texts, n_boot=5).data["untrained_p_all"]) <= 0.05
    assert model.rebuild is not None
    fresh = subject_of(model.rebuild(), model.tokenizer, name="fresh")  # type: ignore[arg-type]
    assert float(gates.statistics(fresh, texts, n_boot=5).data["untrained_p_all"]) > 0.05
