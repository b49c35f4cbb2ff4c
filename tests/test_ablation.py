"""Tests of `engram_interp.ablation`: effects by hand, controls of the same size, nothing left behind."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engram_interp import ablation
from engram_interp.capture import encode, record
from engram_interp.capture.ablations import Kind
from engram_interp.capture.hits import STRATA, strata_of
from engram_interp.checkpoints import SubjectModel
from engram_interp.errors import InputError
from tests import support

TEXTS = support.documents(22, seed=7)


def per_token_loss(model: SubjectModel) -> np.ndarray:
    """Next-token loss of every predicted token of the texts, in order."""
    encoded = encode(model, TEXTS)
    log_p = record(model, encoded).logits.log_softmax(-1)
    loss = -log_p[:, :-1].gather(-1, encoded.tokens[:, 1:, None]).squeeze(-1)
    return loss[encoded.mask[:, 1:]].double().numpy()


@pytest.mark.parametrize("kind", ["output_off", "gate_zero", "rows_zero"])
def test_an_effect_is_the_mean_change_of_loss(kind: Kind) -> None:
    model = support.subject()
    intact = per_token_loss(model)
    with ablation.ablate(model, kind):
        ablated = per_token_loss(model)
    data = ablation.effect(model, TEXTS, kinds=[kind], n_boot=50, batch_size=5).data
    np.testing.assert_allclose(data["intact_loss"], intact.mean(), atol=1e-5)
    np.testing.assert_allclose(data["delta_loss"][0], (ablated - intact).mean(), atol=1e-5)
    assert float(data["kl"][0]) > 0 and float(data["control_kl"][0]) > 0
    assert (
        float(data["delta_loss_low"][0]) <= float(data["delta_loss"][0]) <= float(data["delta_loss_high"][0])
    )
    np.testing.assert_array_equal(per_token_loss(model), intact)


def test_effects_do_not_depend_on_the_batches() -> None:
    model = support.subject()
    kinds: list[Kind] = ["rows_random", "rows_shuffled", "output_off"]
    one, other = (
        ablation.effect(model, TEXTS[:9], kinds=kinds, n_boot=2, batch_size=size).data for size in (2, 7)
    )
    for name in ("delta_loss", "control_delta_loss", "kl", "control_kl", "rank", "control_rank"):
        np.testing.assert_allclose(one[name], other[name], atol=2e-5, rtol=2e-5)
    seeded = ablation.effect(model, TEXTS[:9], kinds=kinds, n_boot=2, seed=1).data
    moved = np.abs(seeded["control_delta_loss"] - one["control_delta_loss"])
    assert float(moved.min()) > 1e-4


def test_ranks_strata_and_the_baseline_stand_beside_the_loss() -> None:
    model = support.subject()
    assert model.layout is not None
    draw, sizes = np.random.default_rng(5), zip((1, 2), model.layout.rows.tolist(), strict=True)
    model = replace(model, hits={layer: draw.choice([0, 3, 20, 90], size=rows) for layer, rows in sizes})
    baseline = support.subject(support.model_config(), seed=4)
    result = ablation.effect(model, TEXTS, kinds=["output_off"], baseline=baseline, n_boot=20)
    data, encoded = result.data, encode(model, TEXTS)
    with ablation.ablate(model, "output_off"):
        ablated = record(model, encoded).logits
    predicted, following = encoded.mask[:, 1:], encoded.tokens[:, 1:, None]

    def mean_rank(logits: torch.Tensor) -> float:
        above = (logits[:, :-1] > logits[:, :-1].gather(-1, following)).sum(-1)[predicted]
        return float(np.exp(np.log1p(above.double().numpy()).mean()) - 1)

    intact = record(model, encoded).logits
    np.testing.assert_allclose(data["intact_rank"], mean_rank(intact), rtol=1e-5)
    np.testing.assert_allclose(data["rank"][0], mean_rank(ablated), rtol=1e-5)
    never = record(baseline, encoded).logits
    np.testing.assert_allclose(data["baseline_rank"], mean_rank(never), rtol=1e-5)
    loss = per_token_loss(model)
    np.testing.assert_allclose(
        data["baseline_delta_loss"], (per_token_loss(baseline) - loss).mean(), atol=1e-5
    )
    rows = [
        record(model, encoded, sites=[s], logits=False)[s]
        for s in (f"blocks.{i}.engram.hook_rows" for i in (1, 2))
    ]
    which = strata_of(model, encoded, rows)[0].min(0)[:, :-1][predicted.numpy()]
    with ablation.ablate(model, "output_off"):
        moved = per_token_loss(model) - loss
    for number, name in enumerate(STRATA):
        cell = data.sel(stratum=name)
        assert int(cell["stratum_tokens"]) == (which == number).sum()
        if (which == number).any():
            np.testing.assert_allclose(
                cell["stratum_delta_loss"][0], moved[which == number].mean(), atol=1e-5
            )
    assert int((data["stratum_tokens"] > 0).sum()) >= 2
    assert "the baseline that never had a memory differs" in result.summary()
    assert "output_off by training hits of its rows" in result.summary()
    alone = ablation.effect(model, TEXTS[:3], kinds=["output_off"], n_boot=2)
    assert "no baseline was given" in alone.data["baseline_rank"].attrs["missing"]
    assert "no baseline beside it (no baseline was given)" in alone.summary()


def test_off_zero_and_zero_rows_agree_without_a_bias() -> None:
    data = ablation.effect(support.subject(), TEXTS[:4], kinds=["output_off", "rows_zero"], n_boot=5).data
    np.testing.assert_allclose(data["delta_loss"][0], data["delta_loss"][1], atol=1e-6)


def test_a_layer_is_ablated_alone() -> None:
    model = support.subject()
    ids = support.token_ids(1, 12)
    sites = ["blocks.1.hook_engram_out", "blocks.2.hook_engram_out"]
    with ablation.ablate(model, "output_off", layers=[2]):
        rec = record(model, ids, sites=sites)
    assert rec[sites[0]].abs().sum() > 0
    assert rec[sites[1]].abs().sum() == 0


def test_an_order_is_ablated_alone() -> None:
    model = support.subject()
    base = per_token_loss(model)
    costs = []
    for order in (2, 3):
        with ablation.ablate(model, "rows_zero", orders=[order]):
            costs.append(per_token_loss(model).mean() - base.mean())
        data = ablation.effect(model, TEXTS, kinds=["rows_zero"], orders=[order], n_boot=2).data
        assert float(data["delta_loss"][0]) == pytest.approx(costs[-1], abs=1e-5)
        assert data.attrs["orders"] == str(order)
    assert costs[0] != pytest.approx(costs[1], abs=1e-4)


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    model = support.subject()
    ids = support.token_ids(2, 9)
    before = model.logits(ids)
    with pytest.raises(RuntimeError, match="halfway"), ablation.ablate(model, "rows_random", seed=3):
        assert not torch.equal(model.logits(ids), before)
        raise RuntimeError("halfway")
    assert torch.equal(model.logits(ids), before)


def test_a_comparison_shows_four_conditions() -> None:
    model = support.subject()
    result = ablation.compare(model, TEXTS[0], token=-2, kind="rows_zero", orders=[3], top=4)
    data = result.data
    assert list(data["condition"].values) == ["intact", "ablated", "random rows", "random direction"]
    length = len(model.to_tokens(TEXTS[0])[0])
    at = min(length, support.N_CTX) - 2
    assert int(data["token_index"]) == at
    assert float(data["kl"].sel(condition="intact").sum()) == 0
    assert (data["kl"].sel(condition="ablated")[:at] == 0).all(), "nothing changes before the token"
    assert float(data["kl"].sel(condition="ablated")[at]) > 0
    assert "order 3, token" in data.attrs["what"]
    with ablation.ablate(model, "rows_zero", orders=[3], tokens=[at]):
        log_p = record(model, TEXTS[0]).logits[0, at].log_softmax(-1)
    np.testing.assert_allclose(data["logprob"].sel(condition="ablated"), log_p.topk(4).values, atol=1e-6)


def test_the_lens_is_read_at_every_layer_against_the_intact_answer() -> None:
    model, text = support.subject(), TEXTS[0]
    data = ablation.compare(model, text, token=5, kind="rows_zero", layers=[2]).data
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers)]
    intact = record(model, text, sites=sites)
    with ablation.ablate(model, "rows_zero", layers=[2], tokens=[5]):
        ablated = record(model, text, sites=sites)
    final = intact.logits[0].log_softmax(-1)
    answer = final.argmax(-1, keepdim=True)
    assert model.lens_head is not None
    for name, seen in (("intact", intact), ("ablated", ablated)):
        for layer, site in enumerate(sites):
            log_q = model.lens_head(seen[site])[0].log_softmax(-1)
            at = data.sel(condition=name, layer=layer)
            np.testing.assert_allclose(at["lens_kl"], (final.exp() * (final - log_q)).sum(-1), atol=2e-5)
            np.testing.assert_allclose(at["lens_logprob"], log_q.gather(-1, answer)[:, 0], atol=2e-5)
    np.testing.assert_allclose(data["lens_kl"][:, -1], data["kl"], atol=2e-5)
    assert (int(data["first_layer"]), int(data["first_token"])) == (2, 5)
    moved = (data["lens_kl"] - data["lens_kl"].sel(condition="intact")).values
    assert not moved[:, :2].any() and not moved[:, :, :5].any(), "nothing moves outside the causal cone"
    assert (np.abs(moved[1:, 2:, 5]) > 0).all()


def test_a_changed_read_is_written_where_the_convolution_takes_it() -> None:
    model = support.subject()
    conv = model.module.get_submodule("blocks.1.engram.conv.conv")
    assert isinstance(conv, torch.nn.Conv1d)
    reach = [5 + tap * conv.dilation[0] for tap in range(conv.kernel_size[0])]
    data = ablation.compare(model, TEXTS[0], token=5, kind="rows_zero", layers=[2, 1]).data
    assert int(data["first_layer"]) == 1
    length = data.sizes["token"]
    assert np.flatnonzero(data["written"]).tolist() == [at for at in reach if at < length]
    everywhere = ablation.compare(model, TEXTS[0], token=5, everywhere=True).data
    assert int(everywhere["first_token"]) == 0 and int(everywhere["written"].sum()) >= length - 1


def test_a_comparison_says_what_runs_next_and_ends_where_it_is_told_to() -> None:
    model, said = support.subject(), list[tuple[float, str]]()
    found = ablation.compare(model, TEXTS[0], token=5, progress=lambda *now: said.append(now))
    assert [share for share, _ in said] == [0.0, 0.15, 0.3, 0.4, 0.5, 0.8, 1.0]
    assert said[1][1] == "running without it" and said[-1][1] == "done"

    def stop(share: float, _: str) -> None:
        if share > 0.2:
            raise InputError("stopped")

    with pytest.raises(InputError, match="stopped"):
        ablation.compare(model, TEXTS[0], token=5, progress=stop)
    again = ablation.compare(model, TEXTS[0], token=5)
    assert np.array_equal(again.data["logprob"], found.data["logprob"])  # no hook was left behind


def test_a_model_that_no_lens_can_read_is_compared_without_one() -> None:
    model = replace(support.subject(), lens_head=None, final_norm=None, unembed=None)
    result = ablation.compare(model, TEXTS[0], token=5)
    assert "lens_kl" not in result.data and "layer" not in result.data.coords
    assert "has no lens head" in result.unread
    assert result.plot().data


def test_what_cannot_be_ablated_says_why() -> None:
    model = support.subject()
    with pytest.raises(InputError, match="no memory to ablate"):
        ablation.effect(support.subject(support.model_config()), TEXTS)
    with pytest.raises(InputError, match=r"Layers \[3\] have no memory; layers that have one: \[1, 2\]"):
        ablation.effect(model, TEXTS, layers=[3])
    with pytest.raises(InputError, match="lies outside the prompt"):
        ablation.compare(model, TEXTS[0], token=400)
    with pytest.raises(InputError, match=r"Token 400 lies outside the prompt, which has \d+ tokens"):
        ablation.compare(model, TEXTS[0], tokens=[2, 400])
    with pytest.raises(InputError, match="tokens wants a list of positions"):
        ablation.compare(model, TEXTS[0], tokens=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Token positions are whole numbers, got 2\.7"):
        ablation.compare(model, TEXTS[0], tokens=[3, 2.7])  # type: ignore[list-item]
    with pytest.raises(InputError, match="Token positions are whole numbers, got '3'"):
        ablation.compare(model, TEXTS[0], tokens=["3"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="tokens name nothing to ablate"):
        ablation.compare(model, TEXTS[0], tokens=[])
    with pytest.raises(InputError, match="not both"):
        ablation.compare(model, TEXTS[0], tokens=[3], everywhere=True)
    with pytest.raises(InputError, match="acts on the rows, which all streams share"):
        ablation.compare(model, TEXTS[0], kind="rows_zero", streams=[0])
    with pytest.raises(InputError, match="at least two tokens"):
        ablation.effect(model, torch.tensor([[0]]))
    with pytest.raises(InputError, match="kinds wants a list of ablations"):
        ablation.effect(model, TEXTS, kinds="gate_zero")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="top wants to lie in 1"):
        ablation.compare(model, TEXTS[0], top=0)
    with pytest.raises(InputError, match="No ablation 'rows_off'"):
        ablation.effect(model, TEXTS, kinds=["rows_off"])  # type: ignore[list-item]


def test_a_model_in_bfloat16_runs_and_says_so() -> None:
    model = support.subject()
    model.module.to(torch.bfloat16)
    data = ablation.effect(model, TEXTS[:3], kinds=["gate_zero"], n_boot=3).data
    assert data.attrs["dtype"] == "bfloat16"
    assert bool(np.isfinite(data["control_kl"]).all())
