"""Tests of `engram_interp.crowding`: company by a loop, planted harm, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram_interp import crowding
from engram_interp.capture import encode, record
from engram_interp.capture.hits import own_counts, stratum
from engram_interp.checkpoints import SubjectModel
from engram_interp.crowding import _by_order, _company, _grams, _halves
from engram_interp.errors import InputError
from engram_interp.memory.counts import NgramCounts
from engram_interp.results import CrowdingEffect
from tests import support

TEXTS = support.documents(24, seed=3)
HOW = {"n_boot": 20, "n_permutations": 10, "seed": 0}


def subject() -> SubjectModel:
    """A small model whose n-grams were seen 0 to 59 times, in rows that were read much oftener."""
    model = support.subject(support.model_config(memory=support.memory_config(rows=150)))
    assert model.layout is not None
    draw, sizes = np.random.default_rng(2), zip((1, 2), model.layout.rows.tolist(), strict=True)
    counts = NgramCounts(
        of=lambda ids: (ids.sum(1) * 7) % 60, tokens=1000, source="made up", text_digest="none"
    )
    return replace(model, counts=counts, hits={n: 60 + draw.integers(0, 900, size=rows) for n, rows in sizes})


def test_company_is_what_others_read_in_the_rows_of_an_order() -> None:
    model = subject()
    encoded = encode(model, TEXTS[:3])
    assert model.layout is not None
    heads = model.layout.heads
    rec = record(model, encoded, sites=["blocks.*.engram.hook_rows"], logits=False)
    for order in (2, 3):
        found, own = _company(model, encoded, order), own_counts(model, encoded, order=order)
        for row, token in ((0, 5), (2, 3)):
            each = [
                np.log1p(model.hits[layer][int(a)] - own[row, token])
                for layer in (1, 2)
                for a in rec[f"blocks.{layer}.engram.hook_rows"][row, token, (order - 2) * heads :][:heads]
            ]
            assert found[row, token] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("harm", [0.0, -0.3])
def test_a_planted_harm_is_found_at_its_size_and_none_where_there_is_none(harm: float) -> None:
    model = subject()
    encoded = encode(model, TEXTS)
    own = own_counts(model, encoded, order=3)[:, :-1]
    used = (own >= 0) & encoded.mask[:, 1:].numpy()
    gram, company = (f(model, encoded, 3)[:, :-1] for f in (_grams, _company))
    generator = np.random.default_rng(1)
    worth = np.where(used, stratum(own) + 0.0, np.nan)  # strata differ by far more than the harm
    for number in range(4):
        inside = used & (stratum(own) == number)
        worth[inside] += harm * _halves(company[inside], gram[inside])
    noise = 0.05 * generator.standard_normal(worth.shape)
    made = _by_order(model, encoded, {"exact": worth, "noisy": worth + noise}, 3, **HOW)
    np.testing.assert_allclose(made["difference"][0, -1], harm, atol=0.02)
    assert abs(made["difference"][1, -1] - harm) < 0.03
    if harm:
        assert made["difference"][1, -1] < made["null_difference_low"][1, -1]
    assert (made["company_more"][0] > made["company_less"][0]).all()
    assert made["tokens"][0, :-1].sum() == made["tokens"][0, -1] == used.sum()


def test_the_effect_of_a_model_beside_its_baseline_and_another(tmp_path: Path) -> None:
    model, baseline = subject(), support.subject(support.model_config(), seed=4, name="plain")
    result = crowding.effect(model, TEXTS, baseline=baseline, others={"same": baseline}, **HOW)
    data = result.data
    assert data["measure"].values.tolist() == ["gates shut", "gain over the baseline", "gain of same"]
    assert (data["worth"].sel(measure="gain of same", stratum="all") == 0).all()
    assert CrowdingEffect.load(result.save(tmp_path / "c.nc")).summary() == result.summary()
    assert "random company" in result.summary()
    assert len(result.plot().data) == 2


def test_what_cannot_be_told_is_refused() -> None:
    lacks: tuple[dict[str, Any], ...] = ({"counts": None}, {"hits": {}})
    for changes in lacks:
        with pytest.raises(InputError, match="nobody's company can be told"):
            crowding.effect(replace(subject(), **changes), TEXTS[:2])
