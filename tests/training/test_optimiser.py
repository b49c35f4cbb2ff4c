"""Learning-rate curve, row-sparse updates, and optimiser state that survives a save."""

import numpy as np
import torch

from engram_interp.model.training.optimiser import Optimisers, learning_rate
from engram_interp.model.training.recipe import Schedule
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support


def fresh() -> HookedEngramTransformer:
    cfg = support.model_config(memory=support.memory_config(rows=200))
    return HookedEngramTransformer(cfg, token_map=support.model().get_buffer("token_map").numpy())


def backward(model: HookedEngramTransformer, ids: torch.Tensor) -> None:
    model(ids, return_type="loss").backward()


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    schedule = Schedule(tokens=1, warmup=10, final_rate=0.1)
    rates = [learning_rate(step, 110, schedule) for step in range(111)]
    assert np.allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10] == 1
    assert (np.diff(rates[10:]) < 0).all()
    assert np.isclose(rates[60], 0.1 + 0.9 * 0.5)
    assert np.isclose(rates[110], 0.1)
    assert learning_rate(500, 110, schedule) == rates[110]
    assert learning_rate(0, 5, Schedule(tokens=1, warmup=0)) == 1


def test_only_hit_rows_move_and_the_tables_stay_out_of_the_clip() -> None:
    model, schedule = fresh(), Schedule(tokens=1, learning_rate=1e-2, clip=0.5)
    optimisers = Optimisers(model, schedule)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    ids = support.token_ids(2, 9)
    backward(model, ids)
    gradients = [p.grad for n, p in model.named_parameters() if "table" not in n]
    wanted = torch.stack([g.norm() for g in gradients if g is not None]).norm()
    norm = optimisers.step(1.0)
    assert np.isclose(norm, float(wanted), rtol=1e-4)
    rows = model.memory_rows(ids)
    assert rows is not None
    for index, layer in enumerate((1, 2)):
        name = f"blocks.{layer}.engram.table.weight"
        after = model.get_parameter(name).detach()
        moved = (after != before[name]).any(-1).nonzero().flatten()
        read = rows[:, :-1, index]  # the last token predicts nothing
        assert set(moved.tolist()) == set(read.flatten().tolist())
        step = (after - before[name])[moved].abs()
        assert step.max() < 1.01 * schedule.learning_rate * schedule.table_rate
    assert not model.embed.weight.detach().equal(before["embed.weight"])


def test_a_share_of_zero_moves_nothing() -> None:
    model = fresh()
    optimisers = Optimisers(model, Schedule(tokens=1))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    backward(model, support.token_ids(2, 9))
    optimisers.step(0.0)
    assert all(p.equal(before[n]) for n, p in model.named_parameters())


def test_state_tensors_restore_the_next_step() -> None:
    schedule = Schedule(tokens=1)
    model, other = fresh(), fresh()
    optimisers = Optimisers(model, schedule)
    for seed in range(3):
        backward(model, support.token_ids(2, 9, seed=seed))
        optimisers.step(1.0)
    other.load_state_dict(model.state_dict())
    restored = Optimisers(other, schedule)
    restored.load_state_tensors(optimisers.state_tensors())
    for each, owner in ((model, optimisers), (other, restored)):
        backward(each, support.token_ids(2, 9, seed=7))
        owner.step(0.5)
    assert all(v.equal(other.state_dict()[k]) for k, v in model.state_dict().items())
