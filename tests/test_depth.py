"""Tests of `engram_interp.depth`: known answers, the self-reference, the control, honest refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import depth
from engram_interp.capture import encode
from engram_interp.capture.samples import choose, residuals
from engram_interp.data import prompts
from engram_interp.errors import InputError
from engram_interp.metrics import cka
from tests import support

DOCUMENTS = 130


def texts(count: int = DOCUMENTS) -> prompts.PromptSet:
    """Enough invented documents for an interval."""
    return prompts.from_texts([d[:200] for d in support.documents(count, seed=3)])


def baseline(**changes: Any) -> Any:
    """A model without memory, of the sizes of the one with it."""
    return support.subject(support.model_config(**changes), seed=1, name="base")


def test_a_model_against_itself_is_not_shifted() -> None:
    base = baseline()
    result = depth.compare(base, base, texts(), n_boot=50)
    np.testing.assert_array_equal(result.data["path_shift"], 0)
    np.testing.assert_array_equal(result.data["shift"], 0)
    np.testing.assert_allclose(np.diag(result.data["cka"]), 1)


def test_the_matrix_is_cka_of_the_residuals_at_the_samples() -> None:
    model, base, some = support.subject(), baseline(n_layers=3), texts(12)
    result = depth.compare(model, base, some, estimator="unbiased")
    assert dict(result.data.sizes)["layer"] == 4 and dict(result.data.sizes)["baseline_layer"] == 3
    encoded = [encode(m, some) for m in (model, base)]
    samples = choose(encoded, seed=0)
    both = [residuals(m, e, samples, i) for i, (m, e) in enumerate(zip((model, base), encoded, strict=True))]
    expected = cka.matrix(both[0], both[1], estimator="unbiased")
    np.testing.assert_allclose(result.data["cka"], expected, rtol=1e-12)
    assert np.isnan(result.data["depth_self"][3]), "the baseline has no layer 3 to refer to"


def test_a_planted_identity_layer_is_found() -> None:
    base = baseline(n_layers=6)
    slow = support.subject(support.model_config(n_layers=7), name="one layer does nothing")
    state = base.module.state_dict()
    target = slow.module.state_dict()
    idle = 2
    for key in target:
        if not key.startswith("blocks."):
            target[key] = state[key]
            continue
        layer, rest = int(key.split(".")[1]), key.split(".", 2)[2]
        if layer == idle:
            target[key] = torch.zeros_like(target[key])
        else:
            target[key] = state[f"blocks.{layer - (layer > idle)}.{rest}"]
    slow.module.load_state_dict(target)
    result = depth.compare(slow, base, texts(), n_boot=50)
    path = np.round(result.data["path"].values)
    np.testing.assert_array_equal(path, [0, 1, 1, 2, 3, 4, 5])


def test_layers_before_the_first_read_are_the_control() -> None:
    result = depth.compare(support.subject(), baseline(), texts(), n_boot=50, top_k=2)
    data = result.data
    np.testing.assert_array_equal(data["pre_memory"], [True, False, False, False])
    np.testing.assert_array_equal(data["edge"], [True, False, False, True])
    np.testing.assert_allclose(data["headline"], data["path_shift"][1:3].mean())
    np.testing.assert_allclose(data["control_shift"], data["path_shift"][0])
    assert float(data["headline_low"]) <= float(data["headline_high"])
    assert data.attrs["n_groups"] >= 20
    assert "internal control" in result.summary()


def test_the_same_seed_gives_the_same_numbers() -> None:
    model, base, some = support.subject(), baseline(), texts()
    one, other = (depth.compare(model, base, some, n_boot=50, seed=4).data for _ in range(2))
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], other[name])


def test_one_prompt_gives_no_interval_and_says_so() -> None:
    result = depth.compare(support.subject(), baseline(), support.documents(1, seed=8)[0], top_k=2)
    assert np.isnan(result.data["headline_low"])
    assert "an interval wants at least 20 groups" in result.summary()
    assert "no claim of depth" in result.summary()


def test_other_estimators_give_no_interval_and_say_why() -> None:
    result = depth.compare(support.subject(), baseline(), texts(), estimator="biased", n_boot=20, top_k=2)
    assert "minibatch estimator only" in result.data["headline_low"].attrs["missing"]


def test_streams_enter_as_named() -> None:
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=3))
    found = {
        str(s): depth.compare(model, baseline(), texts(20), streams=s, estimator="unbiased")
        .data["cka"]
        .values
        for s in ("concat", "mean", "readout", 1)
    }
    assert len({v.round(6).tobytes() for v in found.values()}) == len(found)
    with pytest.raises(InputError, match="streams wants 'concat', 'mean', 'readout' or a number below 3"):
        depth.compare(model, baseline(), texts(20), streams=3)


def test_models_that_cut_texts_differently_are_refused_without_entities() -> None:
    other = replace(baseline(), tokenizer=support.tokenizer(300), d_vocab=300)
    with pytest.raises(InputError, match="cut these texts into different tokens"):
        depth.compare(support.subject(), other, texts(5))


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InputError, match="CKA wants at least 4 samples"):
        depth.compare(support.subject(), baseline(), torch.tensor([[0, 5, 6]]))


def test_models_of_different_contexts_are_compared_on_what_both_hold() -> None:
    short = baseline(n_ctx=11)
    result = depth.compare(support.subject(), short, texts(12), estimator="unbiased")
    assert "the context holds 11" in result.data.attrs["notes"]


def test_activations_at_hand_give_what_models_give() -> None:
    model, base, some = support.subject(), baseline(n_layers=3), texts()
    whole = depth.compare(model, base, some, n_boot=40, top_k=2)
    encoded = [encode(m, some) for m in (model, base)]
    samples = choose(encoded, seed=0)
    both = [residuals(m, e, samples, i) for i, (m, e) in enumerate(zip((model, base), encoded, strict=True))]
    same = depth.from_activations(
        both[0], both[1], samples.document, first_memory_layer=1, n_boot=40, top_k=2
    )
    for name in whole.data.data_vars:
        np.testing.assert_array_equal(whole.data[name], same.data[name], err_msg=str(name))


def test_intervals_come_again_from_the_stored_terms() -> None:
    model, base, some = support.subject(), baseline(), texts()
    first = depth.compare(model, base, some, n_boot=30, seed=0, top_k=2)
    again = depth.resample(first, n_boot=30, seed=0)
    other = depth.resample(first, n_boot=60, seed=9)
    for name in first.data.data_vars:
        np.testing.assert_array_equal(first.data[name], again.data[name], err_msg=str(name))
    np.testing.assert_array_equal(first.data["headline"], other.data["headline"])
    assert float(first.data["detectable"]) != float(other.data["detectable"])
    assert other.data.attrs["n_boot"] == 60
    without = depth.compare(model, base, some, estimator="unbiased", top_k=2)
    with pytest.raises(InputError, match="holds no HSIC terms"):
        depth.resample(without)


def test_another_seed_of_the_baseline_is_the_reference_and_the_null() -> None:
    other = support.subject(support.model_config(), seed=7, name="other seed")
    result = depth.compare(support.subject(), baseline(), texts(), reference=other, n_boot=40, top_k=2)
    data = result.data
    assert data.attrs["reference"] == "other seed"
    assert data["null_headline_low"] <= data["null_headline_high"]
    alone = depth.compare(support.subject(), baseline(), texts(), n_boot=40, top_k=2).data
    assert np.isnan(alone["null_headline"])
    assert "no other seed" in alone["null_headline"].attrs["missing"]


def test_the_shift_that_could_have_been_seen_is_said() -> None:
    result = depth.compare(support.subject(), baseline(), texts(), n_boot=50, top_k=2)
    assert float(result.data["detectable"]) > 0
    assert "would have been told from 0 in about three cases of four" in result.summary()


def test_activations_that_are_no_numbers_are_named() -> None:
    broken = baseline(n_layers=3)
    hook = broken.module.get_submodule(broken.sites["blocks.1.hook_resid_post"])
    handle = hook.register_forward_hook(lambda _m, _i, out: out.index_fill(1, torch.tensor([2]), torch.nan))
    with handle, pytest.raises(InputError, match=r"base has NaN in the residual after layer 1 at token 2 of"):
        depth.compare(support.subject(), broken, texts(12))


@pytest.mark.parametrize("side", ["xs", "ys", "reference"])
def test_given_activations_that_are_no_numbers_are_named_by_side_layer_and_sample(side: str) -> None:
    rng = np.random.default_rng(0)
    sides = {name: [rng.normal(size=(803, 6)) for _ in range(3)] for name in ("xs", "ys", "reference")}
    sides[side][1][802, 3] = np.inf
    with pytest.raises(InputError, match=rf"^{side}\[1\] holds infinity at sample 802"):
        depth.from_activations(
            sides["xs"], sides["ys"], np.arange(803) // 8, reference=sides["reference"], n_boot=5
        )


def test_a_layer_that_does_not_vary_is_refused() -> None:
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(800, 6)), np.ones((800, 3))]
    with pytest.raises(InputError, match="Layer 1 of the model does not vary"):
        depth.from_activations(xs, [rng.normal(size=(800, 5))] * 3, np.repeat(np.arange(100), 8))
    for estimator in ("minibatch", "unbiased", "biased"):
        with pytest.raises(InputError, match="Layer 1 of the reference does not vary"):
            depth.from_activations(
                [xs[0]] * 2,
                [rng.normal(size=(800, 5))] * 2,
                np.repeat(np.arange(100), 8),
                reference=xs,
                estimator=estimator,
                n_boot=5,
            )
    with pytest.raises(InputError, match="row i must belong"):
        depth.from_activations([xs[0][:700]], [xs[0]], np.repeat(np.arange(100), 8))


def test_unrelated_layers_are_read_and_what_is_undefined_says_why() -> None:
    """What a null has to allow: layers that share nothing, in whose similarities none need be positive."""
    undefined = dict.fromkeys(("depth", "shift", "shift_low", "soft_headline"), 0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        xs, ys = ([rng.normal(size=(680, d)) for _ in range(6)] for d in (7, 9))
        result = depth.from_activations(
            xs, ys, np.repeat(np.arange(85), 8), first_memory_layer=1, n_boot=40, checks="none"
        )
        data = depth.resample(result, n_boot=60, seed=seed).data
        np.testing.assert_array_equal(
            np.isnan(result.data["depth"]), ~(data["cka"] > 0).any("baseline_layer")
        )
        assert np.isfinite(data["headline"]) and np.isfinite(data["path_shift_low"]).all()
        for name in undefined:
            if np.isnan(data[name]).any():
                undefined[name] += 1
                assert "no similarity of that layer is positive" in data[name].attrs["missing"]
    assert all(undefined.values()), "the seeds show every case"


def test_both_reasons_are_given_where_the_reference_is_short_too() -> None:
    """Layer 0 opposes both baseline layers, so no unbiased similarity is positive."""
    rng = np.random.default_rng(2)
    ys, xs = [rng.normal(size=(40, 5)) for _ in range(2)], [np.empty((0, 0))] * 3
    for _ in range(200):
        xs = [rng.normal(size=(40, 4)) for _ in range(3)]
        if (cka.matrix(xs[:1], ys, estimator="unbiased") <= 0).all():
            break
    data = depth.from_activations(
        xs, ys, np.arange(40), first_memory_layer=1, estimator="unbiased", top_k=1, checks="none"
    ).data
    assert np.isnan(data["shift"].values[[0, 2]]).all()
    said = data["shift"].attrs["missing"]
    assert "the reference has only 2 layers; no similarity of that layer is positive" in said


def test_a_layer_that_varies_in_one_document_only_has_no_interval_and_says_so() -> None:
    rng = np.random.default_rng(4)
    ys = [rng.normal(size=(800, 5)) for _ in range(3)]
    once = np.zeros((800, 4))
    once[:8] = rng.normal(size=(8, 4))
    data = depth.from_activations(
        [once, *ys[:2]], ys, np.repeat(np.arange(100), 8), n_boot=50, top_k=1, checks="none"
    ).data
    assert np.isfinite(data["headline"]) and np.isnan(data["headline_low"])
    assert "some layer does not vary" in data["headline_low"].attrs["missing"]


def test_the_baseline_given_as_its_own_reference_is_the_baseline_itself() -> None:
    model, base, some = support.subject(), baseline(), texts(100)
    alone = depth.compare(model, base, some, n_boot=30, top_k=2).data
    given = depth.compare(model, base, some, reference=base, n_boot=30, top_k=2).data
    assert given.attrs["reference"] == alone.attrs["reference"] == "the baseline itself"
    rng = np.random.default_rng(0)
    ys = [rng.normal(size=(800, 5)) for _ in range(4)]
    xs = [y + rng.normal(size=(800, 5)) for y in ys]
    documents = np.repeat(np.arange(100), 8)
    first = depth.from_activations(xs, ys, documents, n_boot=30, top_k=2).data
    for reference in (ys, list(ys)):
        second = depth.from_activations(xs, ys, documents, reference=reference, n_boot=30, top_k=2).data
        for one, other in ((first, second), (alone, given)):
            for name in one.data_vars:
                np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))
