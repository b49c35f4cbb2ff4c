"""Streams and experts: the constraints they keep."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engram_interp.model.feedforward import MixtureOfExperts
from engram_interp.model.streams import HyperConnection, Readout, read, sinkhorn, write
from tests import support


@given(seed=st.integers(0, 99), m=st.integers(2, 5), spread=st.floats(0, 6))
def test_sinkhorn_gives_doubly_stochastic_matrices(seed: int, m: int, spread: float) -> None:
    logits = torch.randn(3, 2, m, m, generator=torch.Generator().manual_seed(seed)) * spread
    mix = sinkhorn(logits, 200)
    assert (mix >= 0).all()
    torch.testing.assert_close(mix.sum(-2), torch.ones(3, 2, m))
    torch.testing.assert_close(mix.sum(-1), torch.ones(3, 2, m), atol=2e-2, rtol=0)


def test_sinkhorn_neither_overflows_nor_prefers() -> None:
    huge = torch.full((3, 3), 1e4)
    torch.testing.assert_close(sinkhorn(huge, 20), torch.full((3, 3), 1 / 3))
    doubly = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    torch.testing.assert_close(sinkhorn(doubly.log(), 5), doubly)


def test_hyper_connections_read_a_mean_and_start_near_neutral() -> None:
    connection = HyperConnection(support.model_config(n_streams=4))
    streams = torch.randn(2, 7, 4, 20)
    pre, post, comb = connection(streams)
    torch.testing.assert_close(pre, torch.full((2, 7, 4), 0.25), atol=0.02, rtol=0)
    torch.testing.assert_close(post, torch.ones(2, 7, 4), atol=0.05, rtol=0)
    assert (comb.diagonal(dim1=-2, dim2=-1) > 0.9).all()
    torch.testing.assert_close(comb.sum(-1), torch.ones(2, 7, 4), atol=1e-3, rtol=0)
    equal = streams[:, :, :1].expand(-1, -1, 4, -1)
    torch.testing.assert_close(read(equal, torch.full((2, 7, 4), 0.25)), streams[:, :, 0])


def test_writing_keeps_the_mean_stream_and_adds_the_output() -> None:
    streams, output = torch.randn(2, 7, 3, 5), torch.randn(2, 7, 5)
    comb = sinkhorn(torch.randn(2, 7, 3, 3), 100)
    post = torch.rand(2, 7, 3) * 2
    after = write(streams, output, post, comb)
    mixed = torch.einsum("btij,btjd->btid", comb, streams)  # a row of comb says what a stream becomes
    torch.testing.assert_close(after, mixed + torch.einsum("bti,btd->btid", post, output))
    wanted = streams.mean(2) + post.mean(2)[..., None] * output
    torch.testing.assert_close(after.mean(2), wanted, atol=1e-4, rtol=1e-4)


def test_the_readout_weighs_every_stream() -> None:
    readout = Readout(support.model_config(n_streams=3))
    support.randomise(readout)
    streams = torch.randn(2, 7, 3, 20)
    collapsed = readout(streams)
    seen: list[Tensor] = []
    readout.hook_pre.register_forward_hook(lambda _m, _i, out: seen.append(out))
    torch.testing.assert_close(readout(streams), collapsed)
    torch.testing.assert_close(collapsed, torch.einsum("bts,btsd->btd", seen[0], streams))


@pytest.fixture
def experts() -> MixtureOfExperts:
    made = MixtureOfExperts(support.model_config(n_experts=6, experts_per_token=3))
    support.randomise(made)
    return made


def test_experts_add_up_by_their_normalised_scores(experts: MixtureOfExperts) -> None:
    x = torch.randn(2, 7, 20)
    chosen, weights = experts.route(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7))
    scores = torch.sigmoid(experts.router(x))
    wanted = experts.shared(x)
    for b in range(2):
        for t in range(7):
            best = scores[b, t].topk(3).indices
            assert set(best.tolist()) == set(chosen[b, t].tolist())
            total = scores[b, t, best].sum()
            for e in best.tolist():
                wanted[b, t] += scores[b, t, e] / total * experts.experts[e](x[b, t])
    torch.testing.assert_close(experts(x), wanted, atol=1e-5, rtol=1e-5)


def test_the_balance_chooses_but_does_not_weigh(experts: MixtureOfExperts) -> None:
    x = torch.randn(2, 7, 20)
    experts.get_buffer("balance")[4] = 10.0
    chosen, weights = experts.route(x)
    assert (chosen == 4).any(-1).all()
    scores = torch.sigmoid(experts.router(x)).gather(-1, chosen)
    torch.testing.assert_close(weights, scores / scores.sum(-1, keepdim=True))


def test_rebalancing_moves_against_the_load(experts: MixtureOfExperts) -> None:
    experts.train()
    experts(torch.randn(3, 40, 20))
    load = experts.get_buffer("load").clone()
    assert load.sum() == 3 * 40 * 3
    experts.rebalance()
    moved = experts.get_buffer("balance")
    torch.testing.assert_close(moved, experts.rate * torch.sign(load.mean() - load))
    assert not experts.get_buffer("load").any()
    experts.eval()
    experts(torch.randn(1, 5, 20))
    assert not experts.get_buffer("load").any()


def test_rebalancing_evens_a_lopsided_router_out(experts: MixtureOfExperts) -> None:
    experts.train()
    experts.rate = 0.05
    experts.get_buffer("balance")[0] = 5.0
    x = torch.randn(4, 50, 20)
    first, last = torch.zeros(6), torch.zeros(6)
    for step in range(200):
        experts(x)
        last = experts.get_buffer("load").clone()
        first = last if step == 0 else first
        experts.rebalance()
    assert first[0] == 200
    assert last.std() < first.std() / 3
