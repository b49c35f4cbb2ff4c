"""Tests of `engram_interp.skipping`: a skipped block by hand, its control, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engram_interp import skipping
from engram_interp.capture import encode, intervene, record
from engram_interp.checkpoints import SubjectModel
from engram_interp.errors import InputError
from engram_interp.results import SkipEffect
from tests import support

TEXTS = support.documents(22, seed=7)
IDS = support.token_ids(2, 11)


def subject(n_streams: int = 1) -> SubjectModel:
    return support.subject(support.model_config(memory=support.memory_config(), n_streams=n_streams))


@pytest.mark.parametrize("n_streams", [1, 3])
@pytest.mark.parametrize("layer", [0, 2])
def test_a_skipped_block_hands_its_residual_on(n_streams: int, layer: int) -> None:
    model = subject(n_streams)
    pre, post = f"blocks.{layer}.hook_resid_pre", f"blocks.{layer}.hook_resid_post"
    before = record(model, IDS, sites=[pre]).logits
    with intervene(model, skipping.skipped(model, layer)):
        rec = record(model, IDS, sites=[pre, post])
    assert torch.equal(rec[pre], rec[post])
    assert not torch.equal(rec.logits, before)
    assert torch.equal(record(model, IDS).logits, before)


@pytest.mark.parametrize("n_streams", [1, 3])
def test_the_memorys_write_may_be_kept(n_streams: int) -> None:
    model = subject(n_streams)
    sites = [f"blocks.2.{name}" for name in ("hook_resid_pre", "hook_engram_out", "hook_resid_post")]
    with intervene(model, skipping.skipped(model, 2, memory="kept")):
        rec = record(model, IDS, sites=sites)
    assert torch.equal(rec[sites[0]] + rec[sites[1]], rec[sites[2]])


@pytest.mark.parametrize("memory", skipping.MEMORY)
def test_the_control_goes_as_far_as_what_it_replaces(memory: str) -> None:
    model = subject()
    sites = [f"blocks.1.{name}" for name in ("hook_resid_pre", "hook_engram_out", "hook_resid_post")]
    intact = record(model, IDS, sites=sites)
    with intervene(model, skipping.skipped(model, 1, memory=memory, seed=5)):  # type: ignore[arg-type]
        moved = record(model, IDS, sites=sites)
    start = intact[sites[0]] + (intact[sites[1]] if memory == "kept" else 0)
    steps = [rec[sites[2]] - start for rec in (intact, moved)]
    torch.testing.assert_close(steps[0].norm(dim=-1), steps[1].norm(dim=-1))
    cosine = torch.cosine_similarity(steps[0], steps[1], dim=-1)
    assert float(cosine.mean().abs()) < 0.3


def test_an_effect_is_the_mean_change_of_loss_and_pairs_with_the_baseline() -> None:
    model, baseline = subject(), support.subject(support.model_config(n_layers=3), seed=4, name="plain")
    data = skipping.effect(model, TEXTS, baseline=baseline, n_boot=30, batch_size=6).data
    encoded = encode(model, TEXTS)

    def losses(which: SubjectModel) -> np.ndarray:
        log_p = record(which, encoded).logits.log_softmax(-1)
        loss = -log_p[:, :-1].gather(-1, encoded.tokens[:, 1:, None]).squeeze(-1)
        return loss[encoded.mask[:, 1:]].double().numpy()

    by_hand = []
    for which in (model, baseline):
        intact = losses(which)
        with intervene(which, skipping.skipped(which, 2)):
            by_hand.append(losses(which) - intact)
    found = data["delta_loss"].sel(memory="skipped", layer=2)
    np.testing.assert_allclose(found, [d.mean() for d in by_hand], atol=1e-5)
    np.testing.assert_allclose(
        data["difference"].sel(memory="skipped", layer=2), (by_hand[0] - by_hand[1]).mean(), atol=1e-5
    )
    assert np.isfinite(data["delta_loss"].sel(model="engram", memory="kept", layer=[1, 2])).all()
    assert np.isnan(data["delta_loss"].sel(model="engram", memory="kept", layer=[0, 3])).all()
    assert np.isnan(data["delta_loss"].sel(model="baseline", layer=3)).all()
    ends = [data[f"delta_loss{end}"].sel(model="engram", memory="skipped") for end in ("_low", "", "_high")]
    assert (ends[0] <= ends[1]).all() and (ends[1] <= ends[2]).all()
    assert (data["control_kl"].sel(model="engram", memory="skipped") > 0).all()


def test_without_a_baseline_or_with_few_documents_nothing_is_claimed(tmp_path: Path) -> None:
    result = skipping.effect(subject(), TEXTS[:3], n_boot=5)
    assert SkipEffect.load(result.save(tmp_path / "skip.nc")).summary() == result.summary()
    assert "no baseline stands beside it" in result.summary()
    few = "an interval wants at least 20 documents to resample, got 3"
    assert result.data["delta_loss_low"].attrs["missing"] == few
    assert len(result.plot().data) == 4


def test_what_cannot_be_skipped_says_why() -> None:
    model = subject()
    with pytest.raises(InputError, match=r"layers of tiny run from 0 to 3, got 4"):
        skipping.skipped(model, 4)
    with pytest.raises(InputError, match=r"Layer 0 has no memory to keep; layers that have one: \[1, 2\]"):
        skipping.skipped(model, 0, memory="kept")
    with pytest.raises(InputError, match="memory is one of skipped, kept"):
        skipping.skipped(model, 1, memory="off")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least two tokens"):
        skipping.effect(model, torch.tensor([[0]]))


def test_controls_of_seeds_that_agree_in_32_bits_differ() -> None:
    model, logits = subject(), []
    for seed in (0, 1 << 16, 1 << 32):
        with intervene(model, skipping.skipped(model, 1, seed=seed)):
            logits.append(model.logits(IDS))
    assert not logits[0].equal(logits[1]) and not logits[0].equal(logits[2])
    with pytest.raises(InputError, match="from 0 on, got -1"):
        skipping.effect(model, TEXTS[:2], seed=-1)
