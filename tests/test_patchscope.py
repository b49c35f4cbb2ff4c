"""Tests of `engram_interp.patchscope`: readings by hand, controls, and probes with known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import identity_probe, patchscope
from engram_interp.capture import encode, intervene, record
from engram_interp.checkpoints import SubjectModel
from engram_interp.data import prompts
from engram_interp.errors import InputError
from engram_interp.metrics.predictivity import document_folds
from engram_interp.results import PatchscopeResult
from tests import support

TEXTS = support.documents(24, seed=3)
SOURCE, TARGET = TEXTS[0], "The ka of"


def subject(n_streams: int = 1) -> SubjectModel:
    return support.subject(support.model_config(memory=support.memory_config(), n_streams=n_streams))


def read(model: SubjectModel, **how: Any) -> PatchscopeResult:
    given: dict[str, Any] = {
        "target_prompt": TARGET,
        "placeholder": -2,
        "others": TEXTS[1:3],
        "draws": 7,
        "top": 3,
    }
    return patchscope.read(model, SOURCE, **given | {"continuation": 2} | how)


@pytest.mark.parametrize("n_streams", [1, 3])
@pytest.mark.parametrize("target_layer", [None, 1])
def test_a_reading_is_the_second_prompt_with_the_state_in_place(
    n_streams: int, target_layer: int | None
) -> None:
    model = subject(n_streams)
    data = read(model, token=4, layers=[0, 3], target_layer=target_layer, answer=9).data
    target = encode(model, TARGET)
    place = target.tokens.shape[1] - 2
    assert int(data["placeholder_index"]) == place
    for layer in (0, 3):
        site = f"blocks.{layer}.hook_resid_post"
        into = f"blocks.{layer if target_layer is None else target_layer}.hook_resid_post"
        state = record(model, SOURCE, sites=[site])[site][0, 4]

        def change(x: torch.Tensor, state: torch.Tensor = state) -> torch.Tensor:
            x = x.clone()
            x[:, place] = state
            return x

        with intervene(model, {into: change}):
            log_p = record(model, target).logits[0, -1].log_softmax(-1)
        found = data.sel(layer=layer, condition="patched")
        np.testing.assert_allclose(found["logprob"], log_p.topk(3).values, atol=1e-5)
        np.testing.assert_allclose(found["answer_logprob"], log_p[9], atol=1e-5)
        assert int(found["answer_rank"]) == int((log_p > log_p[9]).sum())
        first = model.tokenizer.decode([int(log_p.argmax())], skip_special_tokens=False)
        assert str(found["continuation"].item()).startswith(first)


def test_a_tokens_own_state_changes_nothing() -> None:
    model = subject()
    length = encode(model, SOURCE).tokens.shape[1]
    result = read(
        model, token=-3, target_prompt=SOURCE, placeholder=length - 3, layers=[1, 2], continuation=0
    )
    np.testing.assert_allclose(result.data["kl"].sel(condition="patched"), 0, atol=1e-6)
    assert (result.data["kl"].sel(condition="random token") > 1e-4).all()
    np.testing.assert_allclose(
        result.data["answer_logprob"].sel(condition="patched"), result.data["plain_logprob"], atol=1e-5
    )


def test_how_often_random_states_say_it_as_well_counts_the_state_itself(tmp_path: Path) -> None:
    result = read(subject())
    data = PatchscopeResult.load(result.save(tmp_path / "patchscope.nc")).data
    draws = 7
    counted = data["exceeded"].values * (draws + 1)
    np.testing.assert_allclose(counted, counted.round())
    assert (counted >= 1).all() and (counted <= draws + 1).all()
    assert (data["random_low"] <= data["random_high"]).all()
    assert "one prompt, so no interval" in result.summary()
    assert len(result.plot().data) == 4


def test_what_cannot_be_read_says_why() -> None:
    model = subject()
    with pytest.raises(InputError, match="Token 99 lies outside the prompt"):
        read(model, token=99)
    with pytest.raises(InputError, match="Placeholder 50 lies outside the prompt"):
        read(model, placeholder=50)
    with pytest.raises(InputError, match=r"no token 'qq'; its tokens are \["):
        read(model, placeholder="qq")
    with pytest.raises(InputError, match=r"layers of tiny run from 0 to 3, got \[4\]"):
        read(model, layers=[4])
    with pytest.raises(InputError, match="answer wants one token"):
        read(model, answer="zzzzzz")
    with pytest.raises(InputError, match="fewer than draws=5000"):
        read(model, draws=5000)
    with pytest.raises(InputError, match="1 ≤ top"):
        read(model, top=0)


def task(n: int, classes: int, *, seed: int = 0) -> identity_probe._Task:
    generator = np.random.default_rng(seed)
    return identity_probe._Task(
        document=np.sort(generator.integers(0, 30, n)),
        position=np.arange(n),
        token=generator.integers(0, 5, n),
        label=generator.integers(0, classes, n),
        names=tuple(range(classes)),
    )


def test_a_probe_finds_what_is_written_and_nothing_in_noise() -> None:
    made = task(900, 6)
    generator = np.random.default_rng(1)
    folds = document_folds(made.document, n_folds=5, seed=0)
    written = generator.normal(size=(6, 11))[made.label] + 0.1 * generator.normal(size=(900, 11))
    found = [identity_probe._probed(written, made, folds, seed=seed) for seed in range(4)]
    assert found[0][:, 0].mean() > 0.95
    # A shuffled probe gives each of the six clusters one name, right by chance: sd .15 a shuffle, 20 of them.
    assert abs(np.mean([right[:, 1].mean() for right in found]) - 1 / 6) < 0.1
    noise = identity_probe._probed(generator.normal(size=(900, 11)), made, folds, seed=0)
    assert abs(noise[:, 0].mean() - 1 / 6) < 0.05


def test_a_guess_from_the_token_knows_what_the_token_tells() -> None:
    made = task(400, 5)
    folds = document_folds(made.document, n_folds=5, seed=0)
    told = identity_probe._Task(**{**vars(made), "label": made.token})
    assert identity_probe._by_token(told, folds).all()
    assert identity_probe._by_token(made, folds).mean() < 0.35


@pytest.mark.parametrize("n_streams", [1, 3])
def test_identity_stands_beside_its_baseline(n_streams: int) -> None:
    model = subject(n_streams)
    baseline = support.subject(support.model_config(n_layers=3), seed=4, name="plain")
    result = patchscope.identity(model, TEXTS, baseline=baseline, classes=5, per_class=20, n_boot=30)
    data = result.data
    assert data["accuracy"].shape == (2, 4)
    assert np.isnan(data["accuracy"].sel(model="baseline", layer=3))
    np.testing.assert_allclose(
        data["difference"][:3], (data["accuracy"][0] - data["accuracy"][1])[:3], atol=1e-12
    )
    low, value, high = (data[f"accuracy{end}"].sel(model="engram").values for end in ("_low", "", "_high"))
    assert (low <= value).all() and (value <= high).all() and (value > 0).all()
    assert "not what is used" in result.summary()
    assert len(result.plot().data) == 4


def test_entities_are_labelled_at_their_last_token_and_too_few_are_refused() -> None:
    model = subject()
    marked = prompts.from_texts(
        [f"[[{w}]] saw the {w}." for w in ("Kalo", "Miren", "Kalo", "Kalo")], markup="brackets"
    )
    found = identity_probe._labelled(model, encode(model, marked), marked, "entity")
    assert [(d, name) for d, _, _, name in found] == [(0, "kalo"), (1, "miren"), (2, "kalo"), (3, "kalo")]
    assert [(d, t) for d, t, _, _ in found] == [
        (d, ends[0]) for d, ends in enumerate(encode(model, marked).entity_ends)
    ]
    with pytest.raises(InputError, match=r"at least two labels that recur in 3 documents .* got 1"):
        patchscope.identity(model, marked, label="entity")
    with pytest.raises(InputError, match="label is one of previous, before previous, entity"):
        patchscope.identity(model, TEXTS, label="word")  # type: ignore[arg-type]


def test_the_planted_models_fact_is_said_in_another_prompt() -> None:
    planted = pytest.importorskip("engram_interp.planted")
    model = planted.build()
    fact = planted.facts()[0]
    result = patchscope.read(
        model,
        fact.prompt,
        target_prompt="yod cev",
        placeholder=-1,
        answer=fact.target,
        others=["nax cev yod hep"],
        draws=4,
        layers=[0, 1, 2],
        continuation=0,
    )
    ranks = result.data["answer_rank"].sel(condition="patched").values
    assert ranks[1] == 0 < ranks[0], "the fact is in the state from its memory's layer on"
