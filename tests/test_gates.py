"""Tests of `engram_interp.gates`: the reading, the statistics, and that the nulls are null."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch import Tensor, nn

from engram_interp import gates
from engram_interp.capture import encode, record
from engram_interp.checkpoints import SubjectModel, wrap
from engram_interp.errors import InputError
from engram_interp.gate_nulls import gates_of, initialisations, untrained
from engram_interp.metrics import gate_stats, ranks
from engram_interp.results import Result
from tests import support

TEXTS = support.documents(24, seed=6)


def several_streams(seed: int = 0) -> SubjectModel:
    """A model whose gates differ by stream."""
    cfg = support.model_config(memory=support.memory_config(), n_streams=3)
    return support.subject(cfg, seed=seed)


def test_a_reading_holds_every_gate() -> None:
    model = several_streams()
    data = gates.read(model, TEXTS).data
    rec = record(model, TEXTS, sites=["blocks.2.engram.hook_gate"])
    assert data["gate"].dims == ("prompt", "layer", "stream", "token")
    length = int(rec.mask[4].sum())
    np.testing.assert_allclose(
        data["gate"].sel(layer=2)[4, 1, :length], rec["blocks.2.engram.hook_gate"][4, :length, 1]
    )
    assert np.isnan(data["gate"].sel(layer=2)[4, :, length:]).all()
    assert (data["token_id"][4, length:] == -1).all()


def test_statistics_are_those_of_the_tokens_but_the_separator() -> None:
    model = several_streams()
    result = gates.statistics(model, TEXTS, n_boot=50, n_inits=1)
    reading = gates.read(model, TEXTS).data
    kept = reading["gate"].sel(layer=1).isel(stream=2).where(reading["token_id"] > 0).values
    values = kept[~np.isnan(kept)]
    cell = result.data.sel(layer=1, stream=2)
    np.testing.assert_allclose(cell["mean"], values.mean())
    np.testing.assert_allclose(cell["sd"], values.std())
    np.testing.assert_allclose(cell["q95"], np.quantile(values, 0.95))
    np.testing.assert_allclose(cell["fraction_open"], (values > 0.5).mean())
    np.testing.assert_allclose(cell["density"].mean(), 1)
    assert float(cell["mean_low"]) < float(cell["mean"]) < float(cell["mean_high"])


def test_an_untrained_model_is_its_own_null() -> None:
    trained = several_streams()
    assert trained.rebuild is not None
    fresh = wrap(trained.rebuild(), support.tokenizer(), name="fresh")
    result = gates.statistics(fresh, TEXTS, n_boot=50, n_inits=0)
    np.testing.assert_array_equal(result.data["distance"].sel(null="untrained"), 0)
    assert "no evidence that any gate differs" in result.summary()
    moved = gates.statistics(trained, TEXTS, n_boot=50, n_inits=0)
    assert (moved.data["distance"].sel(null="untrained") > 0.05).all()


def test_permuted_nulls_keep_keys_and_queries_and_break_the_pairs() -> None:
    data = gates.statistics(several_streams(), TEXTS, n_boot=20, seed=3, n_inits=0).data
    again = gates.statistics(several_streams(), TEXTS, n_boot=20, seed=3, n_inits=0).data
    other = gates.statistics(several_streams(), TEXTS, n_boot=20, seed=4, n_inits=0).data
    for null in ("rows permuted", "queries permuted"):
        np.testing.assert_array_equal(data["null_mean"].sel(null=null), again["null_mean"].sel(null=null))
        assert (data["null_mean"].sel(null=null) != other["null_mean"].sel(null=null)).all()
        assert (data["distance"].sel(null=null) > 0).all()


def test_a_null_that_cannot_be_made_is_missing_with_the_reason() -> None:
    result = gates.statistics(replace(several_streams(), rebuild=None), TEXTS, n_boot=20)
    assert np.isnan(result.data["null_mean"].sel(null="untrained")).all()
    assert "without rebuild" in result.data["null_mean"].attrs["missing"]
    assert "cannot be read as selective" in result.summary()


def test_a_model_without_memory_has_no_gates() -> None:
    with pytest.raises(InputError, match="has no memory, so it has no gates"):
        gates.read(support.subject(support.model_config()), TEXTS)


def test_untrained_models_lie_inside_their_own_null() -> None:
    model = support.subject(support.model_config(memory=support.memory_config(), n_layers=3))
    few = encode(model, TEXTS[:5])
    runs = [gates_of(fresh, few) for fresh in initialisations(model, 140, seed=11)]
    found = gate_stats.among([gate for gate, _ in runs], runs[0][1])
    draw = np.random.default_rng(12)
    single, joint = list[np.ndarray](), list[float]()
    for index in range(100):
        null = found[draw.permutation(np.delete(np.arange(140), index))[:40]]
        single.append(ranks.rank_p(found[index], null))
        joint.append(ranks.joint_p(found[index], null))
    inside = (np.stack(single) > 0.05).mean(axis=0)  # 1 - 2/41 = .951 expected of every statistic
    assert 0.92 <= inside.mean() <= 0.98
    assert 0.92 <= np.mean(np.array(joint) > 0.05) <= 1


def test_the_p_value_of_untrained_copies_is_as_often_small_as_it_says() -> None:
    cfg = support.model_config(memory=support.memory_config())
    copies = initialisations(support.subject(cfg), 25, seed=21)
    found = np.array(
        [
            float(
                gates.statistics(fresh, TEXTS[:3], n_boot=1, n_inits=9, seed=1000 + number).data[
                    "untrained_p_all"
                ]
            )
            for number, fresh in enumerate(copies)
        ]
    )
    for level in (0.1, 0.3, 0.5, 0.8):  # multiples of 1/10, so that the rank among 10 is exact
        least, most = (stats.binom.ppf(end, 25, level) for end in (0.001, 0.999))
        assert least <= (found <= level + 1e-9).sum() <= most, level


def test_an_untrained_model_is_said_to_be_untrained_and_a_trained_one_is_not(tmp_path: Path) -> None:
    trained = several_streams()
    result = gates.statistics(untrained(trained), TEXTS, n_boot=20)
    assert float(result.data["untrained_p_all"]) > 0.05
    assert "no evidence that any gate differs from an untrained one" in result.summary()
    moved = gates.statistics(trained, TEXTS, n_boot=20)
    assert float(moved.data["untrained_p_all"]) == pytest.approx(1 / 41)
    assert "among 40 untrained initialisations they rank as p = 0.024" in moved.summary()
    back = Result.load(moved.save(tmp_path / "gates.nc"))
    xr.testing.assert_identical(back.data, moved.data)


def test_initialisations_differ_and_repeat_with_the_seed() -> None:
    model = several_streams()
    few = encode(model, TEXTS[:2])
    first, second, other = (
        [gates_of(fresh, few)[0] for fresh in initialisations(model, 2, seed=seed)]
        for seed in (3, 3, 2**33 + 3)
    )
    assert not (first[0] == first[1]).all()
    np.testing.assert_array_equal(first, second)
    assert not (other[0] == first[0]).all()


class Plain(nn.Module):
    """A model of somebody's own around one of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = support.model()

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.inner(ids)
        return logits


def test_a_module_of_one_s_own_is_rebuilt_and_torch_s_generator_left_alone() -> None:
    def rebuild() -> Plain:
        made = Plain()
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.1)
        return made

    sites = {f"blocks.{i}.engram.hook_gate": f"inner.blocks.{i}.engram.hook_gate" for i in (1, 2)}
    model = wrap(Plain(), support.tokenizer(), sites=sites, separator=0, n_ctx=support.N_CTX, rebuild=rebuild)
    few, state = encode(model, TEXTS[:2]), torch.get_rng_state()
    first, second = ([gates_of(f, few)[0] for f in initialisations(model, 2, seed=3)] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first, second)
    assert not (first[0] == first[1]).all()


def test_a_rebuild_that_draws_nothing_is_no_null() -> None:
    model = several_streams()
    fixed = support.model(support.model_config(memory=support.memory_config(), n_streams=3), seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(fixed), "reset_parameters", lambda self: None)
        data = gates.statistics(replace(model, rebuild=lambda: fixed), TEXTS, n_boot=5, n_inits=3).data
    assert np.isnan(data["init_p"]).all()
    assert "gives the same weights every time" in data["untrained_p_all"].attrs["missing"]
    none = gates.statistics(model, TEXTS, n_boot=5, n_inits=0).data
    assert "no initialisations were asked for" in none["init_low"].attrs["missing"]
