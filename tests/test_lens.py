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
NAMES = ("kl", "reverse_kl", "entropy", "next_loss", "agreement")


def by_hand(streams: int) -> dict[str, np.ndarray]:
    """Everything convergence means by its numbers, in float64, every token of every layer on its own."""
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=streams))
    rec = record(model, TEXTS, sites=["blocks.*.hook_resid_post"])
    assert model.final_norm is not None and model.unembed is not None
    found: dict[str, list[float]] = {}
    for layer in range(4):
        resid = rec[f"blocks.{layer}.hook_resid_post"]
        resid = resid if model.readout is None else model.readout(resid)
        logits = model.final_norm(resid.double()) @ model.unembed.weight.double().mT
        log_q, log_p = (x.double().log_softmax(-1) for x in (logits, rec.logits))
        every: dict[str, list[float]] = {name: [] for name in NAMES}
        for row, length in enumerate(rec.mask.sum(1).tolist()):
            for t in range(1, length):
                p, q = log_p[row, t], log_q[row, t]
                every["kl"].append(float((p.exp() * (p - q)).sum()))
                every["reverse_kl"].append(float((q.exp() * (q - p)).sum()))
                every["entropy"].append(-float((q.exp() * q).sum()))
                every["agreement"].append(float(q.argmax() == p.argmax()))
                if t + 1 < length:
                    every["next_loss"].append(-float(q[rec.tokens[row, t + 1]]))
        for name, values in every.items():
            found.setdefault(name, []).append(float(np.mean(values)))
    return {name: np.asarray(values) for name, values in found.items()}


@pytest.mark.parametrize("streams", [1, 4])
def test_convergence_is_the_mean_over_tokens(streams: int) -> None:
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=streams))
    data = lens.convergence(model, TEXTS, n_boot=50, batch_size=5).data
    wanted = by_hand(streams)
    for name, values in wanted.items():
        np.testing.assert_allclose(data[name], values, atol=2e-6, err_msg=name)
    # By hand the final distribution is the model's own logits: the last lens reproduces them.
    assert float(data["agreement"][-1]) == 1 and float(data["kl"][-1]) == 0
    assert wanted["kl"][-1] < 1e-6
    assert (data["kl_low"] <= data["kl"]).all() and (data["kl"] <= data["kl_high"]).all()


def test_a_lens_that_is_not_the_models_own_is_refused() -> None:
    model = support.subject()
    assert model.unembed is not None
    wrong = replace(model, unembed=replace(model.unembed, weight=model.unembed.weight.roll(1, 0)))
    for read in (lens.convergence, lens.table):
        with pytest.raises(InputError, match="does not give the model's own logits"):
            read(wrong, TEXTS[0])


def test_few_documents_have_no_interval() -> None:
    result = lens.convergence(support.subject(), TEXTS[:3], n_boot=10)
    assert np.isnan(result.data["kl_low"]).all()
    assert "at least 20 documents" in result.summary()


@pytest.mark.parametrize("apart", [True, False])
def test_a_table_says_what_every_layer_says(apart: bool) -> None:
    """With the head taken apart and with the head as a whole."""
    model = support.subject()
    rec = record(model, TEXTS[0], sites=["blocks.2.hook_resid_post"])
    assert model.lens_head is not None
    log_p = rec.logits[0].double().log_softmax(-1)
    log_q = model.lens_head(rec["blocks.2.hook_resid_post"])[0].double().log_softmax(-1)
    data = lens.table(model if apart else replace(model, unembed=None), TEXTS[0], top=3).data
    np.testing.assert_array_equal(data["top_id"][2], log_q.topk(3).indices)
    np.testing.assert_allclose(data["top_logprob"][2], log_q.topk(3).values, atol=2e-6)
    np.testing.assert_allclose(data["kl"][2], (log_p.exp() * (log_p - log_q)).sum(-1), atol=2e-6)
    np.testing.assert_allclose(data["entropy"][2], -(log_q.exp() * log_q).sum(-1), atol=2e-6)
    rank = (log_q > log_q.gather(-1, log_p.argmax(-1, keepdim=True))).sum(-1)
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
        np.testing.assert_allclose(fused[name], whole[name], atol=5e-6, rtol=1e-5)
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


def test_training_a_lens_is_reproducible_and_keeps_whole_documents_out() -> None:
    model, texts = support.subject(), support.documents(12, seed=1)
    owners = lens_tuned._windows(model, texts, 10**6)[1]
    cut = lens_tuned._cut(owners, 0.3)
    assert owners[cut] != owners[cut - 1] and 0.5 < cut / len(owners) < 0.9
    # Other text in the documents that are kept out changes what is measured, not what is learned.
    changed = [text[:-1] if i in owners[cut:] else text for i, text in enumerate(texts)]
    assert lens_tuned._windows(model, changed, 10**6)[1] == owners
    one, again = (lens_tuned.train(model, t, batch_size=8, held_out=0.3, seed=7) for t in (texts, changed))
    assert torch.equal(one.matrix, again.matrix) and torch.equal(one.bias, again.bias)
    assert one.facts["text_digest"] == again.facts["text_digest"]
    assert one.facts["kl_before"] != again.facts["kl_before"]
    other = lens_tuned.train(model, texts, batch_size=8, held_out=0.3, seed=8)
    assert not torch.equal(one.matrix, other.matrix)
    with pytest.raises(InputError, match="windows are of one document"):
        lens_tuned.train(model, [" ".join(texts)])


@pytest.mark.parametrize(("value", "kind"), [(torch.nan, "NaN"), (torch.inf, "infinity")])
def test_broken_residuals_name_layer_prompt_and_token(value: float, kind: str) -> None:
    model, calls = support.subject(), list[int]()

    def broken(resid: torch.Tensor) -> torch.Tensor:
        """Spoil the second batch's last prompt at its third token, from the second layer on."""
        calls.append(1)
        resid = resid.clone()
        if len(calls) > model.n_layers + 1:
            resid[-1, 2] = value
        return resid

    ids = support.token_ids(5, 9)
    with pytest.raises(
        InputError,
        match=rf"tiny has {kind} in the residual after layer 1 at token 2 of prompt "
        rf"'ids-3' \(token id {int(ids[3, 2])}\)",
    ):
        lens.convergence(replace(model, readout=broken), ids, batch_size=2)


def test_progress_is_told_by_prompts() -> None:
    told: list[tuple[float, str]] = []
    model = support.subject(support.model_config())
    lens.convergence(
        model, support.documents(5), n_boot=1, batch_size=2, limit=12, progress=lambda *now: told.append(now)
    )
    assert told[0] == (0.0, "prompts 1 to 2 of 5")
    assert told[-2:] == [(0.8, "prompts 5 to 5 of 5"), (1.0, "done")]
