"""Tests of `engram_interp.planted`: the model does what its facts say, and what ships is what is written."""

from collections import Counter
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engram_interp import editing, planted, slots
from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.errors import InputError
from engram_interp.model.transformer import HookedEngramTransformer

FACTS = planted.facts()
NAMES = [" ".join(fact.ngram) for fact in FACTS]


@pytest.fixture(scope="module")
def model() -> SubjectModel:
    return planted.build()


def last_logits(model: SubjectModel, text: str, *, without_memory: bool = False) -> Tensor:
    def shut(gate: Tensor, hook: Any) -> Tensor:
        return torch.zeros_like(gate)

    hooks = [(f"blocks.{layer}.engram.hook_gate", shut) for layer in model.memory_layers]
    with model.hooks(fwd_hooks=hooks) if without_memory else nullcontext():
        return model.logits(model.to_tokens(text))[0, -1]


def gate_at_end(model: SubjectModel, text: str, layer: int) -> float:
    data = slots.lookup(model, text).data
    return float(data["gate"].sel(layer=layer)[-1, 0])


@pytest.mark.parametrize("fact", FACTS, ids=NAMES)
def test_a_fact_is_predicted_with_the_memory_and_not_without(model: SubjectModel, fact: planted.Fact) -> None:
    assert int(last_logits(model, fact.prompt).argmax()) == fact.target_id
    assert model.token_text(fact.target_id) == fact.target
    off = last_logits(model, fact.prompt, without_memory=True)
    assert int((off > off[fact.target_id]).sum()) > 0


@pytest.fixture(scope="module")
def read(model: SubjectModel) -> dict[int, Counter[int]]:
    """By layer, how often each row is read where every fact's prompt is run as often as the fact says."""
    found: dict[int, Counter[int]] = {layer: Counter() for layer in model.memory_layers}
    for fact in FACTS:
        addresses = slots.lookup(model, fact.prompt).data["address"]
        for layer, counted in found.items():
            for row in addresses.sel(layer=layer).values.ravel().tolist():
                counted[row] += fact.hits
    return found


@pytest.mark.parametrize("fact", FACTS, ids=NAMES)
def test_look_up_finds_what_was_planted(
    model: SubjectModel, read: dict[int, Counter[int]], fact: planted.Fact
) -> None:
    data = slots.lookup(model, fact.prompt).data.isel(token=-1)
    order = len(fact.ngram)
    assert str(data["ngram"].sel(order_index=order).item()) == "|".join(fact.ngram)
    slot = data.sel(layer=fact.layer)
    at = list(fact.columns)
    assert tuple(slot["address"].values[at]) == fact.rows
    assert set(slot["order"].values[at]) == {order}
    np.testing.assert_allclose(slot["row_norm"][at], fact.strength * np.array(fact.shares), rtol=1e-6)
    np.testing.assert_array_equal(slot["hits"][at], [read[fact.layer][row] for row in fact.rows])
    np.testing.assert_allclose(slot["gate"], fact.gate, atol=1e-6)
    # Nothing else is read there, but for the fact of the trigram's own last two words.
    inside = [f for f in FACTS if f.layer == fact.layer and f.ngram == fact.ngram[1:]]
    written = set(at).union(*(f.columns for f in inside))
    assert set(np.flatnonzero(slot["row_norm"])) == written
    if not inside:
        np.testing.assert_allclose(slot["share"][at], fact.shares, atol=1e-6)
    assert not data["row_norm"].sel(layer=3 - fact.layer).any()


@pytest.mark.parametrize("fact", FACTS, ids=NAMES)
def test_the_written_logit_is_what_zeroing_the_facts_rows_takes(
    model: SubjectModel, fact: planted.Fact
) -> None:
    """With gate and final scale frozen the logits are linear in the rows, so the difference is exact."""

    def zeroed(memory: Tensor, hook: Any) -> Tensor:
        memory = memory.clone()
        memory[:, -1, list(fact.columns)] = 0
        return memory

    tokens = model.to_tokens(fact.prompt)
    intact, cache = model.run_with_cache(tokens)
    keep: list[tuple[str, Any]] = [
        ("ln_final.hook_scale", lambda scale, hook: cache["ln_final.hook_scale"]),
        (f"blocks.{fact.layer}.engram.hook_gate", lambda gate, hook: cache[hook.name]),
        (f"blocks.{fact.layer}.engram.hook_memory", zeroed),
    ]
    without = model.run_with_hooks(tokens, fwd_hooks=keep)
    difference = (intact - without)[0, -1]
    assert float(difference[fact.target_id]) == pytest.approx(fact.written_logit, abs=1e-5)
    others = torch.arange(model.d_vocab) != fact.target_id
    assert float(difference[others].abs().max()) < 1e-5


def test_a_topic_that_contradicts_a_fact_shuts_its_gate(model: SubjectModel) -> None:
    with_topic = [fact for fact in FACTS if fact.conflict is not None]
    assert {fact.layer for fact in with_topic} == {1, 2}
    for fact in with_topic:
        assert fact.conflict is not None and fact.conflict_gate is not None
        assert gate_at_end(model, fact.conflict, fact.layer) == pytest.approx(fact.conflict_gate, abs=1e-6)
        assert fact.conflict_gate < 0.01 and fact.gate > 0.95
        assert int(last_logits(model, fact.conflict).argmax()) != fact.target_id


def test_facts_differ_in_what_instruments_must_tell_apart() -> None:
    assert {len(fact.ngram) for fact in FACTS} == {2, 3}
    assert {len(fact.columns) for fact in FACTS} == {1, 2, 3}
    assert len({(fact.layer, row) for fact in FACTS for row in fact.rows}) == sum(len(f.rows) for f in FACTS)
    assert {np.digitize(fact.hits, [1, 5, 50]) for fact in FACTS} == {0, 1, 2, 3}
    assert all(sum(fact.shares) == 1 for fact in FACTS)


@pytest.mark.parametrize("number", [0, 1])
def test_a_collider_reads_one_row_of_a_fact(model: SubjectModel, number: int) -> None:
    collision = planted.collisions()[number]
    fact = collision.fact
    assert collision.ngram not in {f.ngram for f in FACTS}
    data = slots.lookup(model, collision.prompt).data.isel(token=-1)
    slot = data.sel(layer=fact.layer)
    assert np.flatnonzero(slot["row_norm"]).tolist() == [collision.column]
    assert int(slot["address"][collision.column]) == collision.row
    assert float(slot["gate"][0]) == pytest.approx(collision.gate, abs=1e-6)
    assert (collision.gate > 0.95) is (collision.ngram[-1] == fact.ngram[-1])
    leak = last_logits(model, collision.prompt) - last_logits(model, collision.prompt, without_memory=True)
    assert (float(leak[fact.target_id]) > 1) is (collision.gate > 0.5)


def test_what_ships_is_what_the_code_writes(model: SubjectModel, read: dict[int, Counter[int]]) -> None:
    shipped, built = load_model("planted"), model.module.state_dict()
    assert shipped.name == "planted" and shipped.digest
    stored = shipped.module.state_dict()
    assert stored.keys() == built.keys()
    assert all(torch.equal(stored[name], value) for name, value in built.items())
    for layer in model.memory_layers:
        np.testing.assert_array_equal(shipped.hits[layer], model.hits[layer])
        assert dict(enumerate(model.hits[layer].tolist())) == {
            row: read[layer][row] for row in range(len(model.hits[layer]))
        }


def test_an_untrained_copy_knows_nothing(model: SubjectModel) -> None:
    """No gate with norms of weight 1 passes sigmoid(d^(1/4)), which every planted one does."""
    assert model.rebuild is not None
    fresh = model.rebuild()
    assert isinstance(fresh, HookedEngramTransformer)
    largest = 1 / (1 + np.exp(-(model.d_model**0.25)))
    for fact in FACTS:
        _, cache = fresh.run_with_cache(model.to_tokens(fact.prompt))
        gate = cache[f"blocks.{fact.layer}.engram.hook_gate"]
        assert float(gate.max()) < largest < fact.gate


def test_words_that_the_tokenizer_does_not_know_are_named(model: SubjectModel) -> None:
    with pytest.warns(UserWarning, match=r"words that planted does not know, .*: Paris, moon\."):
        data = slots.lookup(model, "nax Paris zor moon Paris").data
    assert "does not know" in data.attrs["notes"]
    with pytest.raises(InputError, match="target wants a token that planted knows, got ' Rome'"):
        editing.plan(model, "nax yod zor vel", " Rome")
