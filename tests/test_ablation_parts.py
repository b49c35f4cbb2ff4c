"""Several tokens, or some streams, changed together: what an ablation reaches, and what its control does."""

import numpy as np
import pytest
import torch

from engram_interp import ablation
from engram_interp.capture import encode, record
from engram_interp.capture.ablations import random_rows, target_of
from engram_interp.capture.draws import another
from engram_interp.capture.intervene import intervene
from engram_interp.errors import InputError
from tests import support

TEXTS = support.documents(22, seed=7)


def test_several_tokens_are_changed_and_another_one_is_looked_at() -> None:
    model = support.subject()
    length = len(encode(model, TEXTS[0]).tokens[0])
    result = ablation.compare(model, TEXTS[0], token=-1, tokens=[7, 4, -3, 4], kind="gate_zero")
    data, changed = result.data, [4, 7, length - 3]
    assert (int(data["token_index"]), int(data["first_token"])) == (length - 1, 4)
    assert f"tokens {', '.join(map(str, changed))}. It moves" in result.summary()
    with ablation.ablate(model, "gate_zero", tokens=changed):
        log_p = record(model, TEXTS[0]).logits[0, -1].log_softmax(-1)
    np.testing.assert_allclose(data["logprob"].sel(condition="ablated"), log_p.topk(10).values, atol=1e-6)
    one = ablation.compare(model, TEXTS[0], token=5, tokens=[5]).data
    alone = ablation.compare(model, TEXTS[0], token=5).data
    assert np.array_equal(one["logprob"], alone["logprob"])
    before = ablation.compare(model, TEXTS[0], token=3, tokens=[4, 7]).data
    assert not before["kl"].sel(token=3).any(), "nothing changes before the first of them"


def test_streams_are_changed_alone_and_the_random_rows_reach_no_others() -> None:
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=3))
    text, at, sites = TEXTS[0], 5, ["blocks.1.hook_engram_out", "blocks.2.hook_engram_out"]
    data = ablation.compare(model, text, token=at, kind="output_off", streams=[2]).data
    assert data.attrs["what"].endswith("stream 2, token 5")
    with ablation.ablate(model, "output_off", streams=[2], tokens=[at]):
        log_p = record(model, text).logits[0, at].log_softmax(-1)
    np.testing.assert_allclose(data["logprob"].sel(condition="ablated"), log_p.topk(10).values, atol=1e-6)

    def written(streams: list[int], layers: list[int] | None = None) -> list[torch.Tensor]:
        target = target_of(model, "output_off", streams=streams, layers=layers, tokens=[at])
        with intervene(model, random_rows(model, encode(model, text), target, seed=0)):
            seen = record(model, text, sites=sites)
        return [seen[site] for site in sites]

    intact = record(model, text, sites=sites)
    one, other = written([2])
    assert torch.equal(one[:, :, :2], intact[sites[0]][:, :, :2])
    assert not torch.equal(one[:, at, 2], intact[sites[0]][:, at, 2])
    own = written([2], layers=[1])[1]  # what the second layer writes with its own rows after that
    assert torch.equal(other[:, :, :2], own[:, :, :2])
    assert not torch.equal(other[:, at, 2], own[:, at, 2]) and not torch.equal(own, intact[sites[1]])
    shown = data["logprob"].sel(condition="random rows")
    with intervene(model, {sites[0]: lambda _: one, sites[1]: lambda _: other}):
        expected = record(model, text).logits[0, at].log_softmax(-1)
    np.testing.assert_allclose(shown, expected.topk(10).values, atol=1e-5)
    every = ablation.compare(model, text, token=at, kind="output_off", streams=[0, 1, 2]).data
    none = ablation.compare(model, text, token=at, kind="output_off").data
    for found in (every, none):
        assert not np.allclose(found["logprob"].sel(condition="random rows"), shown, atol=1e-4)
    np.testing.assert_allclose(every["logprob"], none["logprob"], atol=1e-6)


def test_every_draw_of_a_control_is_the_one_its_seed_draws() -> None:
    model, at = support.subject(), 5
    several = ablation.compare(model, TEXTS[0], token=at, seed=3, draws=3).data
    assert several["control_kl"].dims == ("control", "draw", "token")
    seeds = [another(3, draw) for draw in range(3)]
    assert seeds[0] == 3 and not {another(4, draw) for draw in range(8)} & {another(3, d) for d in range(8)}
    for draw, seed in enumerate(seeds):
        alone = ablation.compare(model, TEXTS[0], token=at, seed=seed, draws=1).data
        for control in ("random rows", "random direction"):
            drawn = several["control_kl"].sel(control=control, draw=draw)
            np.testing.assert_allclose(drawn, alone["kl"].sel(condition=control), atol=1e-6)
            answer = several["control_answer"].sel(control=control, draw=draw)
            np.testing.assert_allclose(answer, alone["answer_logprob"].sel(condition=control), atol=1e-6)
    assert several["control_kl"].sel(token=at).std("draw").min() > 1e-6, "draws differ"
    assert not several["control_kl"].sel(token=slice(0, at - 1)).any()
    own = ablation.compare(model, TEXTS[0], token=at, kind="rows_random", draws=2).data
    for draw in range(2):  # other rows than the ablation's own
        assert abs(own["control_kl"][0, draw] - own["kl"].sel(condition="ablated")).max() > 1e-6
    with pytest.raises(InputError, match="draws wants to be 1 or more, got 0"):
        ablation.compare(model, TEXTS[0], token=at, draws=0)
