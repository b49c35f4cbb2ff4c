"""Tests of `engram_interp.lens` against log-probabilities written out in full."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engram_interp import lens, lens_tuned
from engram_interp.capture import record
from engram_interp.errors import InputError
from tests import support

TEXTS = support.documents(23, seed=5)


def by_hand(streams: int) -> tuple[np.ndarray, np.ndarray]:
    """KL(final ‖ layer) and next-token loss of every layer, every token on its own."""
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=streams))
    rec = record(model, TEXTS, sites=["blocks.*.hook_resid_post"])
    kls, losses = [], []
    for layer in range(4):
        resid = rec[f"blocks.{layer}.hook_resid_post"]
        if model.readout is not None:
            resid = model.readout(resid)
        assert model.lens_head is not None
        log_q, log_p = (x.double().log_softmax(-1) for x in (model.lens_head(resid), rec.logits))
        kl, loss = [], []
        for row, length in enumerate(rec.mask.sum(1).tolist()):
            for t in range(1, length):
                kl.append(float((log_p[row, t].exp() * (log_p[row, t] - log_q[row, t])).sum()))
                if t + 1 < length:
                    loss.append(-float(log_q[row, t, rec.tokens[row, t + 1]]))
        kls.append(np.mean(kl))
        losses.append(np.mean(loss))
    return np.asarray(kls), np.asarray(losses)


@pytest.mark.parametrize("streams", [1, 3])
def test_convergence_is_the_mean_over_tokens(streams: int) -> None:
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=streams))
    data = lens.convergence(model, TEXTS, n_boot=50, batch_size=5).data
    kl, loss = by_hand(streams)
    np.testing.assert_allclose(data["kl"], kl, atol=2e-5)
    np.testing.assert_allclose(data["next_loss"], loss, atol=2e-5)
    assert float(data["agreement"][-1]) == 1
    np.testing.assert_allclose(data["kl"][-1], 0, atol=1e-5)
    assert (data["kl_low"] <= data["kl"]).all() and (data["kl"] <= data["kl_high"]).all()


def test_few_documents_have_no_interval() -> None:
    result = lens.convergence(support.subject(), TEXTS[:3], n_boot=10)
    assert np.isnan(result.data["kl_low"]).all()
    assert "at least 20 documents" in result.summary()


def test_a_table_says_what_every_layer_says() -> None:
    model = support.subject()
    data = lens.table(model, TEXTS[0], top=3).data
    rec = record(model, TEXTS[0], sites=["blocks.2.hook_resid_post"])
    assert model.lens_head is not None
    log_q = model.lens_head(rec["blocks.2.hook_resid_post"])[0].log_softmax(-1)
    np.testing.assert_array_equal(data["top_id"][2], log_q.topk(3).indices)
    answer = rec.logits[0].argmax(-1)
    rank = (log_q > log_q.gather(-1, answer[:, None])).sum(-1)
    np.testing.assert_array_equal(data["final_rank"][2], rank)
    assert (data["final_rank"][-1] == 0).all()
    assert np.isnan(data["rank_move"][0]).all()
    np.testing.assert_array_equal(data["rank_move"][2], data["final_rank"][1] - data["final_rank"][2])
    assert str(data["top_token"][2, 4, 0].item()) == model.token_text(int(data["top_id"][2, 4, 0]))


def test_a_table_shows_one_prompt() -> None:
    with pytest.raises(InputError, match="one prompt, got 2"):
        lens.table(support.subject(), TEXTS[:2])
    with pytest.raises(InputError, match="top wants to lie in 1"):
        lens.table(support.subject(), TEXTS[0], top=0)


def test_a_model_without_a_lens_head_says_what_to_give() -> None:
    with pytest.raises(InputError, match="no lens head; give wrap"):
        lens.convergence(replace(support.subject(), lens_head=None, final_norm=None), TEXTS[:2])


def test_looking_changes_nothing() -> None:
    model = support.subject()
    ids = support.token_ids(2, 9)
    before = model.logits(ids)
    lens.convergence(model, ids, n_boot=2)
    assert torch.equal(model.logits(ids), before)


def test_texts_without_a_next_token_have_no_loss_and_say_why() -> None:
    data = lens.convergence(support.subject(), torch.tensor([[0, 5], [0, 9]]), n_boot=5).data
    assert np.isnan(data["next_loss"]).all() and not np.isnan(data["kl"]).any()
    assert "no token follows another" in data["next_loss"].attrs["missing"]
    with pytest.raises(InputError, match="nothing but separators"):
        lens.convergence(support.subject(), torch.tensor([[0]]))


def test_documents_without_a_value_do_not_count() -> None:
    texts = [*support.documents(19, seed=5), "k"]
    data = lens.convergence(support.subject(), texts, n_boot=5).data
    assert np.isnan(data["next_loss_low"]).all()
    assert "got 19" in data["next_loss_low"].attrs["missing"]


def test_the_fused_form_gives_the_numbers_of_the_whole_head() -> None:
    model = support.subject()
    whole = lens.convergence(replace(model, final_norm=None, unembed=None), TEXTS, n_boot=5).data
    fused = lens.convergence(model, TEXTS, n_boot=5).data
    for name in ("kl", "reverse_kl", "entropy", "next_loss", "agreement", "document_kl"):
        np.testing.assert_allclose(fused[name], whole[name], atol=2e-4, rtol=1e-5)
    assert (fused["kl"][-1] == 0).all()
    sums, tokens = fused["document_kl"].values, fused["document_tokens"].values
    np.testing.assert_allclose(sums.sum(0) / tokens.sum(), fused["kl"], atol=1e-9)


def test_a_tuned_lens_is_trained_saved_and_refused_elsewhere(tmp_path: Path) -> None:
    model = replace(support.subject(), digest="a" * 64)
    tuned = lens_tuned.train(model, support.documents(40, seed=1), batch_size=4)
    assert np.mean(tuned.facts["kl_after"]) < np.mean(tuned.facts["kl_before"])
    again = lens_tuned.TunedLens.load(tuned.save(tmp_path))
    assert torch.equal(again.matrix, tuned.matrix) and torch.equal(again.bias, tuned.bias)
    data = lens.convergence(replace(model, tuned_lens=tmp_path), TEXTS, lens="tuned", n_boot=5).data
    assert data.attrs["lens"] == "tuned lens" and float(data["kl"][-1]) == 0
    assert lens.table(model, TEXTS[0], lens=again).data.attrs["lens"] == "tuned lens"
    with pytest.raises(InputError, match="was trained for weights aaaa"):
        lens.convergence(replace(model, digest="b" * 64), TEXTS, lens=again)
    with pytest.raises(InputError, match="without a tuned lens"):
        lens.convergence(model, TEXTS, lens="tuned")


def test_broken_residuals_name_the_layer() -> None:
    model = support.subject()
    broken = replace(model, readout=lambda resid: resid * torch.nan)
    with pytest.raises(InputError, match="after layer 0, first at token 1"):
        lens.convergence(broken, TEXTS[:2])
