"""Tests of `gates.selectivity` and `gates.usefulness`: against runs that really swap or shut, and loops."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from engram_interp import ablation, gates
from engram_interp.capture import encode, record
from engram_interp.capture.hits import STRATA, ngram_hits, stratum
from engram_interp.checkpoints import SubjectModel
from engram_interp.data import prompts
from engram_interp.errors import InputError
from engram_interp.gate_selectivity import OTHERS, _partners, _Tokens
from engram_interp.results import Result
from tests import support

TEXTS = support.documents(22, seed=6)
MARKED = prompts.from_texts([f"In the {t[:20]} [[Kalo]] met {t[20:40]}" for t in TEXTS], markup="brackets")


def subject(n_streams: int = 2) -> SubjectModel:
    """A small model with training hits in every stratum."""
    cfg = support.model_config(memory=support.memory_config(rows=400), n_streams=n_streams)
    model = support.subject(cfg)
    assert model.layout is not None
    draw, sizes = np.random.default_rng(5), zip((1, 2), model.layout.rows.tolist(), strict=True)
    return replace(model, hits={layer: draw.choice([0, 3, 20, 90], size=rows) for layer, rows in sizes})


def test_the_gate_on_a_partner_s_rows_is_that_of_a_run_that_reads_them() -> None:
    model = subject()
    ids = support.token_ids(1, 14)
    tokens = _Tokens(model, encode(model, ids), seed=0)
    partner = _partners(tokens.rows(0), heads=tokens.heads, other="swapped", seed=3)
    found = tokens.other_gate(0, partner)
    for sample in (0, 5, 12):  # a sample is a position less the separator
        with ablation.ablate(
            model, "ngram_swap", swap=int(partner[sample]) + 1, layers=[1], tokens=[sample + 1]
        ):
            gate = record(model, ids, sites=["blocks.1.engram.hook_gate"])["blocks.1.engram.hook_gate"]
        np.testing.assert_allclose(found[sample], gate[0, sample + 1], atol=1e-6)


@pytest.mark.parametrize("other", OTHERS)
def test_partners_are_other_n_grams_and_colliders_share_a_row(other: str) -> None:
    model = subject()
    tokens = _Tokens(model, encode(model, TEXTS), seed=0)
    rows, heads = tokens.rows(1), tokens.heads
    assert model.layout is not None and heads == model.layout.heads
    partner = _partners(rows, heads=heads, other=other, seed=1)
    met = partner >= 0
    same = (rows == rows[torch.from_numpy(partner)]).numpy()[met]
    assert not same.all(1).any()
    if other == "collider":
        assert same.any(1).all()
        orders = same.reshape(len(same), -1, heads)
        assert not orders.all(2).any()  # who shares every head of an order has the same n-gram there
        table = rows.numpy()
        for sample in np.flatnonzero(~met)[:20]:  # nobody with a collider nearby goes without often
            shared = (table == table[sample]).any(1) & ~(table == table[sample]).all(1)
            assert shared.sum() < 0.5 * len(table)
    assert met.mean() > 0.5


def test_selectivity_equals_loops_and_stands_beside_its_null(tmp_path: Path) -> None:
    model = subject()
    result = gates.selectivity(model, MARKED, n_boot=50, n_inits=4)
    data, rec = (
        result.data,
        record(model, MARKED, sites=["blocks.2.engram.hook_gate", "blocks.2.engram.hook_rows"]),
    )
    gate, rows = rec["blocks.2.engram.hook_gate"], rec["blocks.2.engram.hook_rows"]
    used = rec.mask.clone()
    used[:, 0] = False
    ends = torch.zeros_like(used)
    for row, places in enumerate(encode(model, MARKED).entity_ends):
        ends[row, list(places)] = True
    inside, rest = gate[used & ends][:, 1], gate[used & ~ends][:, 1]
    cell = data.sel(layer=2, stream=1)
    assert int(data["n_entity_ends"]) == int(ends.sum()) == 22
    np.testing.assert_allclose(cell["entity_difference"], inside.mean() - rest.mean(), atol=1e-6)
    np.testing.assert_allclose(cell["entity_auc"], (inside[:, None] > rest).double().mean(), atol=1e-6)
    which = stratum(ngram_hits(model, 2, rows[used]))
    for number, name in enumerate(STRATA):
        assert int(data["stratum_tokens"].sel(layer=2)[number]) == (which == number).sum()
        if (which == number).any():
            np.testing.assert_allclose(
                cell["stratum_gate"].sel(stratum=name), gate[used][which == number, 1].mean(), atol=1e-6
            )
    null = data["null_conflict_auc"]
    assert bool((data["null_conflict_auc_low"] <= null).all()) and bool(
        (null <= data["null_conflict_auc_high"]).all()
    )
    assert 0.4 < float(null.mean()) < 0.6
    assert "own against swapped rows" in result.summary()
    back = Result.load(result.save(tmp_path / "gates.nc"))
    xr.testing.assert_identical(back.data, result.data)
    assert len(result.plot().data) >= 2


def test_hits_of_an_n_gram_are_the_least_of_its_highest_order() -> None:
    model = subject()
    rows = record(model, TEXTS[:2], sites=["blocks.1.engram.hook_rows"])["blocks.1.engram.hook_rows"]
    found = ngram_hits(model, 1, rows)
    assert found[1, 4] == min(int(model.hits[1][int(r)]) for r in rows[1, 4, 3:])
    np.testing.assert_array_equal(stratum(np.array([0, 1, 4, 5, 49, 50, 10**6])), [0, 1, 1, 2, 2, 3, 3])
    with pytest.raises(InputError, match="does not tell the training hits of layer 1"):
        ngram_hits(replace(model, hits={}), 1, rows)


def test_what_cannot_be_had_is_missing_with_the_reason() -> None:
    bare = replace(subject(), hits={}, rebuild=None)
    result = gates.selectivity(bare, TEXTS[:5], n_boot=5)
    data = result.data
    assert "training hits of the rows are not known" in data["stratum_gate"].attrs["missing"]
    assert "no entities are marked" in data["entity_auc"].attrs["missing"]
    assert "without rebuild" in data["null_conflict_auc"].attrs["missing"]
    assert "at least 20 documents" in data["conflict_auc_low"].attrs["missing"]
    assert "so nothing is claimed" in result.summary()
    with pytest.raises(InputError, match="has no memory, so it has no gates"):
        gates.selectivity(support.subject(support.model_config()), TEXTS)


def test_usefulness_is_the_loss_with_one_gate_shut(tmp_path: Path) -> None:
    model = subject()
    result = gates.usefulness(model, TEXTS, per_document=2, n_boot=30, n_inits=1, init_documents=4)
    data = result.data
    assert data.sizes["sample"] == 44
    encoded = encode(model, TEXTS)
    for sample in (1, 30):
        row, at = int(data["document"][sample]), int(data["position"][sample])
        ids, following = encoded.tokens[row : row + 1, : at + 2], int(encoded.tokens[row, at + 1])
        intact = record(model, ids, sites=["blocks.2.engram.hook_gate"])
        np.testing.assert_allclose(
            data["gate"].sel(layer=2)[sample], intact["blocks.2.engram.hook_gate"][0, at], atol=1e-6
        )
        with ablation.ablate(model, "gate_zero", layers=[2], tokens=[at]):
            shut = record(model, ids).logits
        loss = [-float(x[0, at].log_softmax(-1)[following]) for x in (intact.logits, shut)]
        np.testing.assert_allclose(data["delta_loss"].sel(layer=2)[sample], loss[1] - loss[0], atol=1e-5)
    np.testing.assert_allclose(data["mean_delta"], data["delta_loss"].mean("sample"))
    assert not bool(np.isnan(data["null_auc"]).any())
    assert "changes its loss by" in result.summary()
    back = Result.load(result.save(tmp_path / "gates.nc"))
    xr.testing.assert_identical(back.data, result.data)
    assert len(result.plot().data) >= 2


def test_what_cannot_be_sampled_says_why() -> None:
    with pytest.raises(InputError, match="per_document wants at least 1 token"):
        gates.usefulness(subject(), TEXTS, per_document=0)
    with pytest.raises(InputError, match="No prompt holds a token with another after it"):
        gates.usefulness(subject(), [[0, 7]])
    with pytest.raises(InputError, match="has no memory, so it has no gates"):
        gates.usefulness(support.subject(support.model_config()), TEXTS)
