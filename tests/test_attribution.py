"""Tests of `engram_interp.attribution`: parts that sum, what was planted, controls, and refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import ablation, attribution, pairs
from engram_interp.capture import record
from engram_interp.capture.attribute import attribution_sites, direct_parts
from engram_interp.checkpoints import wrap
from engram_interp.checkpoints.native import subject_of
from engram_interp.checkpoints.subject import SubjectModel, Unembed
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.hashing import Layout
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.results import MemoryAttribution
from tests import support

TEXT = "The Karen met THE Karen"


def with_memory(**changes: Any) -> SubjectModel:
    memory = support.memory_config(**changes.pop("memory", {}))
    return support.subject(support.model_config(memory=memory, **changes))


def summed(data: Any) -> float:
    return float(data["contribution"].sum() + data["bias"].sum() + data["rest"].sum())


@pytest.mark.parametrize("n_streams", [1, 4])
@pytest.mark.parametrize("memory", [{"bias": True}, {"conv_kernel": 0}])
def test_parts_sum_to_the_models_logit_at_every_token(n_streams: int, memory: dict[str, Any]) -> None:
    model = with_memory(n_streams=n_streams, n_experts=5, memory=memory)
    ids = model.to_tokens(TEXT)
    logits = model.logits(ids)[0]
    for token in (0, 4, -1):
        data = attribution.memory(model, TEXT, token=token, target=7, against=30, draws=40).data
        assert summed(data) == pytest.approx(float(logits[token, 7] - logits[token, 30]), abs=1e-4)
        assert float(data["gap"]) == pytest.approx(float(data["logit"]) - summed(data), abs=1e-9)
        np.testing.assert_allclose(data["by_source"].sum("source"), data["contribution"], atol=1e-12)
        by_layer = data["contribution"].sum(("order", "head")) + data["bias"].sum("source")
        np.testing.assert_allclose(by_layer, data["by_layer"], atol=1e-12)
        assert float(data["by_layer"].sum()) == pytest.approx(float(data["memory"]), abs=1e-12)
        assert dict(data["contribution"].sizes) == {"layer": 2, "order": 2, "head": 3}
        assert bool((data["bias"] != 0).any()) is memory.get("bias", False)


def test_parts_sum_on_the_packaged_pair() -> None:
    model = pairs.load("wiki-nano").engram
    for text in ("People's Republic of", "Only Alexander the Great could tame the horse"):
        for token in (1, -3, -1):
            result = attribution.memory(model, text, token=token)
            at = int(result.data["token_index"])
            logits = model.logits(model.to_tokens(text))[0, at]
            assert result.data.attrs["target_id"] == int(logits.argmax())
            assert summed(result.data) == pytest.approx(float(logits.max()), abs=1e-4)


def test_what_was_planted_is_found() -> None:
    planted = pytest.importorskip("engram_interp.planted")
    model = planted.build()
    for fact in planted.facts():
        data = attribution.memory(model, fact.prompt, target=fact.target, draws=40).data
        wanted = np.zeros((2, 2, 3))
        shares = dict(zip(fact.columns, fact.shares, strict=True))
        for column, share in shares.items():
            wanted[(list(data["layer"].values).index(fact.layer), *divmod(column, 3))] = share
        np.testing.assert_allclose(data["contribution"], wanted * fact.written_logit, atol=1e-5)
        assert float(data["memory"]) == pytest.approx(fact.written_logit, abs=1e-5)
        found = attribution.promoted(model, fact.prompt, top=1, draws=40).data.sel(layer=fact.layer)
        if fact.layer == 2:  # in layer 1 one fact's bigram is a fact too
            assert found["top_token"].sel(direction="promoted").isel(part=0).item() == fact.target


def test_layers_that_are_not_split_count_as_the_rest() -> None:
    model = with_memory(memory={"bias": True})
    whole, one = (attribution.memory(model, TEXT, target=7, layers=layers).data for layers in (None, [2]))
    assert list(one["component"].values[-1:]) == ["1_engram_out"]
    np.testing.assert_allclose(one["rest"][-1], whole["by_layer"].sel(layer=1), atol=1e-12)
    np.testing.assert_array_equal(one["contribution"], whole["contribution"].sel(layer=[2]))


def test_the_unembeddings_bias_is_a_part() -> None:
    model = with_memory()
    weight = model.unembed.weight if model.unembed is not None else torch.empty(0)
    bias = torch.linspace(-1, 2, support.D_VOCAB)
    changed = replace(
        model,
        unembed=Unembed(weight=weight, bias=bias),
        forward=lambda ids, mask: model.module(ids, mask=mask) + bias,
    )
    data = attribution.memory(changed, TEXT, target=7, against=30).data
    assert float(data["rest"].sel(component="unembed_bias")) == pytest.approx(float(bias[7] - bias[30]))
    assert abs(float(data["gap"])) < 1e-4


def test_the_control_puts_other_rows_on_the_same_path() -> None:
    """With two rows a head there is one other row, so every draw is it."""
    layout = Layout(
        primes=np.full((2, 2, 3), 2), multipliers=np.array([[1, 3, 5], [7, 1, 9]]), layer_ids=(1, 2)
    )
    cfg = support.model_config(memory=support.memory_config(hash_rule="explicit", bias=True), n_streams=4)
    mapping = hashing.token_map(support.tokenizer())[0]
    inner = HookedEngramTransformer(cfg, token_map=mapping, layout=layout)
    support.randomise(inner)
    model = subject_of(inner.eval().requires_grad_(False), support.tokenizer(), name="tiny")
    data = attribution.memory(model, TEXT, target=7, draws=40).data
    rec = record(model, TEXT, sites=attribution_sites(model), dtype=torch.float64)
    paths = direct_parts(model, rec, int(data["token_index"])).paths
    for index, path in enumerate(paths):
        table = inner.get_parameter(f"blocks.{path.layer}.engram.table.weight").double()
        other = path.contributions(inner.W_U[:, 7].double(), table[path.rows ^ 1])
        for end in ("", "_low", "_high"):
            found = data[f"control_by_source{end}"][index].values.reshape(other.shape)
            np.testing.assert_allclose(found, other, atol=1e-12)
        bias = path.bias_contributions(inner.W_U[:, 7].double()).sum()
        np.testing.assert_allclose(data["control_by_layer"][index], other.sum() + bias, atol=1e-12)
    np.testing.assert_allclose(data["control_memory"], data["control_by_layer"].sum(), atol=1e-12)


def test_rows_that_say_nothing_special_lie_within_their_control() -> None:
    """Random tables: a column leaves the middle 95 % of its control in about one case of twenty."""
    outside = []
    for seed in range(4):
        model = support.subject(support.model_config(memory=support.memory_config()), seed=seed)
        for target in (3, 50, 200):
            data = attribution.memory(model, TEXT, target=target, seed=seed).data
            low, high = (data[f"control_by_source_{end}"] for end in ("low", "high"))
            outside.append((data["by_source"] < low) | (data["by_source"] > high))
    assert 0.02 < np.mean(outside) < 0.12  # 40 or 70 rows a head, each of 48 reads looked at for 12 targets


def test_a_change_of_a_site_is_part_of_the_run_and_a_change_of_the_write_is_refused() -> None:
    model = with_memory(memory={"bias": True})
    with ablation.ablate(model, "rows_zero", layers=[1]):
        data = attribution.memory(model, TEXT, target=7).data
        assert not data["contribution"].sel(layer=1).any()
        assert abs(float(data["gap"])) < 1e-4
    with (
        ablation.ablate(model, "output_off"),
        pytest.raises(InputError, match=r"parts of tiny miss its own logit by .* something else writes"),
    ):
        attribution.memory(model, TEXT, target=7)


def test_what_is_promoted_is_what_the_write_adds_to_the_logits() -> None:
    model = with_memory(n_streams=4, memory={"bias": True})
    data = attribution.promoted(model, TEXT, token=5, top=support.D_VOCAB, draws=40).data
    assert data["effect"].sizes == {"layer": 2, "part": 7, "direction": 2, "rank": support.D_VOCAB}
    order = data["token_id"].isel(part=0, direction=0)
    for index, layer in enumerate(data["layer"].values):
        effects = np.zeros(support.D_VOCAB)
        effects[order[index]] = data["effect"].isel(layer=index, part=0, direction=0)
        several = [
            attribution.memory(model, TEXT, token=5, target=t, against=9, draws=40).data for t in (7, 30)
        ]
        for target, found in zip((7, 30), several, strict=True):
            expected = float(found["by_layer"].sel(layer=layer))
            assert effects[target] - effects[9] == pytest.approx(expected, abs=1e-5)
        row = np.zeros(support.D_VOCAB)
        part = data.sel(part="order 3, head 1", direction="promoted").isel(layer=index)
        row[part["token_id"]] = part["effect"]
        own = several[0]["by_source"].sel(layer=layer, source=5, order=3, head=1)
        assert row[7] - row[9] == pytest.approx(float(own), abs=1e-5)
    up, down = (data["effect"].sel(direction=name) for name in ("promoted", "suppressed"))
    np.testing.assert_allclose(up, down[..., ::-1], atol=1e-6)
    np.testing.assert_allclose(up.mean("rank"), 0, atol=1e-6)


def test_only_tokens_that_are_raised_are_said_to_be_promoted() -> None:
    model = with_memory(memory={"conv_kernel": 0})
    result = attribution.promoted(model, TEXT, top=3, draws=40, layers=[2])
    data = result.data.copy(deep=True)
    data["effect"][:, 0, 0] = [2.0, 0.0, -1.0]
    data["top_token"][:, 0, 0] = ["one", "two", "three"]
    assert "promotes “one”, the first by +2" in replace(result, data=data).summary()
    with ablation.ablate(model, "rows_zero"):
        silent = attribution.promoted(model, TEXT, top=3, draws=40, layers=[2])
    assert "layer 2 writes nothing that promotes a token" in silent.summary()


def test_provenance_names_what_is_frozen_and_the_result_survives_a_file(tmp_path: Any) -> None:
    result = attribution.memory(with_memory(), TEXT, target=7, against=" ", draws=40, seed=5)
    attrs = result.data.attrs
    assert "skips what later layers compute" in attrs["frozen"]
    assert attrs["n_draws"] == 40 and attrs["seed"] == 5 and attrs["against"] == " "
    loaded = MemoryAttribution.load(result.save(tmp_path / "a.nc"))
    assert loaded.data.identical(result.data)
    assert loaded.summary() == result.summary()
    again = attribution.memory(with_memory(), TEXT, target=7, against=" ", draws=40, seed=5)
    np.testing.assert_array_equal(again.data["control_by_source"], result.data["control_by_source"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token": 40}, "Token 40 lies outside the prompt, which has .* tokens"),
        ({"token": -40}, "Token -40 lies outside the prompt"),
        ({"layers": [0, 1]}, r"Layers \[0\] have no memory; layers that have one: \[1, 2\]"),
        ({"layers": []}, "layers names none; leave it out"),
        (
            {"target": "Karen met"},
            r"target wants one token, got 'Karen met', which is \d+ \(.* = \d+.*target=",
        ),
        ({"target": ""}, r"which is 0 \(none\)"),
        ({"target": 7, "against": 331}, r"against wants an id in 0 … 330, got 331"),
        ({"target": -1}, "target wants an id in 0 … 330, got -1"),
        ({"target": 7, "against": 7}, "both token 7, so there is no difference"),
        ({"target": True}, "target wants a token's text or its id, got True"),
        ({"draws": 10}, "wants at least 40 draws, got 10"),
    ],
)
def test_bad_input_says_what_was_wanted(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attribution.memory(with_memory(), TEXT, **given)


def test_models_that_cannot_be_taken_apart_say_what_is_needed() -> None:
    with pytest.raises(InputError, match="tiny has no memory whose writes could be attributed"):
        attribution.memory(support.subject(support.model_config()), TEXT)
    with pytest.raises(InputError, match="of one prompt, got 2"):
        attribution.memory(with_memory(), [TEXT, TEXT])
    with pytest.raises(InputError, match="top wants to lie in 1 … 331, got 0"):
        attribution.promoted(with_memory(), TEXT, top=0)
    inner = support.model()

    class Foreign(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.rows = inner, torch.nn.Module()
            self.rows.reader = torch.nn.Identity()

    named = {site: f"inner.{site}" for site in inner.hook_dict}
    sized: dict[str, Any] = {"d_model": 20, "layout": inner.layout, "name": "mine"}
    partly = {site: path for site, path in named.items() if "attn_out" not in site}
    with pytest.raises(
        InputError, match=r"mine cannot be taken apart: \['blocks.0.hook_attn_out', .*4 sites"
    ):
        attribution.memory(wrap(Foreign(), support.tokenizer(), sites=partly, **sized), TEXT)
    moved = named | {"blocks.2.engram.hook_memory": "rows.reader"}
    with pytest.raises(InputError, match="memory of mine at layer 2 is a Module, whose gate"):
        attribution.memory(wrap(Foreign(), support.tokenizer(), sites=moved, **sized), TEXT)
    with pytest.raises(InputError, match="without its unembedding and hash layout"):
        attribution.memory(wrap(Foreign(), support.tokenizer(), sites=named, **sized), TEXT)
