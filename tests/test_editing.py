"""Tests of `engram_interp.editing`: the closed form, exact undoing, and who else is moved."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import edit_effects, editing, planted
from engram_interp.capture import encode, record
from engram_interp.capture.intervene import intervene
from engram_interp.checkpoints import SubjectModel
from engram_interp.edit_search import HELD_STILL, Rise
from engram_interp.errors import InputError
from engram_interp.results.editing import GROUPS, EditReport
from tests import support

TEXTS = support.documents(23, seed=7)
TARGET = 77


def subject(n_streams: int = 1, **memory: Any) -> SubjectModel:
    cfg = support.model_config(memory=support.memory_config(**memory), n_streams=n_streams)
    return support.subject(cfg)


def words(text: str, count: int) -> str:
    """The beginning of a text, up to so many tokens."""
    tokenizer = support.tokenizer()
    return str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids[:count]))


PROMPT = words(TEXTS[0], 7)


def _held(value: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return value


def tables(model: SubjectModel) -> list[torch.Tensor]:
    return [
        model.module.get_parameter(f"blocks.{layer}.engram.table.weight").clone()
        for layer in model.memory_layers
    ]


@pytest.mark.parametrize("n_streams", [1, 3])
def test_the_closed_form_reaches_what_was_asked_where_the_rest_is_held_still(n_streams: int) -> None:
    model = subject(n_streams, conv_kernel=0)
    edit = editing.plan(model, PROMPT, TARGET, strength=2.5, corrections=0)
    held = ("hook_gate", "hook_attn_out", "hook_mlp_out", "hook_scale", "hook_pre", "hook_post", "hook_comb")
    sites = [s for s in model.sites if s.rsplit(".", 1)[-1] in held and ".ln" not in s]
    ids = torch.tensor([edit.prompt])
    before = record(model, ids, sites=sites)
    still = {site: partial(_held, before[site]) for site in sites}

    def logit() -> float:
        logits = record(model, ids).logits[0, -1].double()
        return float(logits[TARGET] - logits.mean())

    with intervene(model, still):
        start = logit()
        with editing.applied(model, edit):
            assert logit() - start == pytest.approx(2.5, abs=1e-4)


def test_no_shorter_change_of_the_rows_reaches_as_much() -> None:
    model = subject(conv_kernel=0)
    edit = editing.plan(model, PROMPT, TARGET, layers=[2], strength=1.0, corrections=0)
    # By hand: gate · W_U (centred) · W_V / scale, for the rows of layer 2.
    sites = ["blocks.2.engram.hook_gate", "ln_final.hook_scale"]
    rec = record(model, torch.tensor([edit.prompt]), sites=sites)
    weight = model.module.get_parameter("embed.weight")
    value = model.module.get_parameter("blocks.2.engram.value.weight")
    factor = float(rec[sites[0]][0, -1, 0] / rec[sites[1]][0, -1, 0])
    slope = factor * ((weight[TARGET] - weight.mean(0)) @ value).view(6, 5)
    torch.testing.assert_close(edit.changes[2].change, slope / slope.square().sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_streams", [1, 3])
def test_the_search_brings_the_rise_to_what_was_asked(n_streams: int) -> None:
    model = subject(n_streams)
    edit = editing.plan(model, PROMPT, TARGET, strength=1.5)
    assert edit.reached == pytest.approx(1.5, rel=0.05)
    assert abs(edit.closed_form - 1.5) > 0.05 * 1.5
    ids = torch.tensor([edit.prompt])
    before = record(model, ids).logits[0, -1].double()
    with editing.write(model, PROMPT, TARGET, strength=1.5) as again:
        after = record(model, ids).logits[0, -1].double()
    rise = float(after[TARGET] - after.mean() - before[TARGET] + before.mean())
    assert rise == pytest.approx(again.reached, abs=1e-5) == pytest.approx(edit.reached, abs=1e-5)


def test_the_slope_is_that_of_the_logit_through_the_gate() -> None:
    model = subject(conv_kernel=0)
    prompt = (0, 5, 9, 7, 5, 9, 7)  # the n-gram stands in it twice
    encoded = encode(model, [list(prompt)])
    sites = {layer: f"blocks.{layer}.engram.hook_rows" for layer in (1, 2)}
    rec = record(model, encoded, sites=list(sites.values()))
    reads = {layer: rec[site][0] for layer, site in sites.items()}
    rise = Rise(model=model, encoded=encoded, target=TARGET, columns=(0, 4), reads=reads)
    generator = torch.Generator().manual_seed(3)
    change = torch.randn(2, 2, 5, generator=generator) / 4
    direction = torch.randn(2, 2, 5, generator=generator) / 100
    _, slope = rise.at(change)
    up, down = rise.at(change + direction)[0], rise.at(change - direction)[0]
    assert up - down == pytest.approx(2 * float((slope * direction).sum()), rel=0.02, abs=2e-5)
    direct = rise.at(change, still=HELD_STILL)[1]
    assert not torch.allclose(direct, slope, rtol=0.1)


def test_edits_of_the_planted_model_are_reached_where_the_value_can_carry_them() -> None:
    model = planted.build()
    before = tables(model)
    facts = planted.facts()
    words = ("cev nax bim tiv", "pex oru dal fen", "yod wim jat gol", "hep lak ruo mun")
    for text, fact in zip(words, facts, strict=False):
        edit = editing.plan(model, text, fact.target, strength=4.0)
        assert edit.reached == pytest.approx(4.0, rel=0.05)
        assert edit.closed_form < 2.0  # its key shuts the gate, which the closed form holds still
        with editing.applied(model, edit):
            logits = record(model, torch.tensor([edit.prompt])).logits[0, -1]
            assert set(logits.topk(2).indices.tolist()) >= {fact.target_id}  # beside the word itself
    assert all(torch.equal(old, new) for old, new in zip(before, tables(model), strict=True))


def test_rows_changed_in_between_are_left_and_said() -> None:
    model = subject()
    table = model.module.get_parameter("blocks.2.engram.table.weight")
    edit = editing.plan(model, PROMPT, TARGET, layers=[2])
    row = int(edit.changes[2].rows[0])
    with pytest.raises(InputError, match="were changed before it ended"), editing.applied(model, edit):
        table.data[row] = 7.0
    assert (table[row] == 7.0).all()
    small = support.subject(support.model_config(memory=support.memory_config(rows=2)))
    with pytest.raises(InputError, match=r"rows .* and the table has"), editing.applied(small, edit):
        pass


def test_a_model_in_bfloat16_is_edited_and_restored() -> None:
    model = subject()
    model.module.to(torch.bfloat16)
    before = tables(model)
    with editing.write(model, PROMPT, TARGET):
        assert not torch.equal(before[1], tables(model)[1])
    assert all(torch.equal(old, new) for old, new in zip(before, tables(model), strict=True))


def test_an_ngram_may_be_given_by_its_canonical_ids() -> None:
    model = subject()
    by_text = editing.plan(model, PROMPT, TARGET, corrections=0)
    by_ids = editing.plan(model, by_text.ngram, TARGET, corrections=0)
    for layer in model.memory_layers:
        assert torch.equal(by_text.changes[layer].rows, by_ids.changes[layer].rows)
    assert by_text.columns == tuple(range(6))
    two = editing.plan(model, by_text.ngram[1:], TARGET, heads=[2])
    assert two.columns == (2,) and int(two.changes[1].rows[0]) == int(by_text.changes[1].rows[2])


def groups_by_hand(model: SubjectModel, edit: editing.Edit) -> list[str]:
    """Slowly: the group of every predicted position, document after document."""
    encoded = encode(model, TEXTS)
    assert model.token_map is not None
    mapping = model.token_map
    sites = [f"blocks.{layer}.engram.hook_rows" for layer in edit.changes]
    rec = record(model, encoded, sites=sites)
    found = []
    for document, ids in enumerate(encoded.tokens):
        reached = False
        for t in range(int(encoded.mask[document].sum()) - 1):
            window = tuple(int(mapping[i]) for i in ids[max(0, t - 2) : t + 1])
            reads = any(
                int(rec[site][document, t, column]) == int(made.rows[place])
                for site, made in zip(sites, edit.changes.values(), strict=True)
                for place, column in enumerate(edit.columns)
            )
            if window == edit.ngram:
                found.append(GROUPS[0])
            elif reads:
                found.append(GROUPS[1])
            else:
                found.append(GROUPS[2] if reached else GROUPS[3])
            reached = reached or reads
    return found


@pytest.mark.parametrize("n_streams", [1, 3])
def test_a_report_counts_who_reads_the_rows_and_who_is_out_of_reach(n_streams: int) -> None:
    model = subject(n_streams)
    edit = editing.plan(model, PROMPT, TARGET, orders=[3], strength=2.0)
    report = editing.evaluate(model, edit, TEXTS, n_boot=20, batch_size=5)
    by_hand = groups_by_hand(model, edit)
    data = report.data
    assert data["tokens"].values.tolist() == [by_hand.count(group) for group in GROUPS]
    assert by_hand.count("own n-gram") >= 1 and by_hand.count("shared row") >= 1
    assert int(data["shared_reads"].sum()) == by_hand.count("shared row")
    assert int(data["local_equal"]) == int(data["local_tokens"]) > 0
    assert int(data["local_documents_equal"]) == int(data["local_documents"])
    assert float(data["kl"].sel(group="untouched")) == 0 < float(data["kl"].sel(group="own n-gram"))
    assert float(data["after_logprob"][0]) > float(data["before_logprob"][0])
    assert np.isnan(data["composed"]) and "nothing to compose with" in data["composed"].attrs["missing"]
    assert "kept every bit" in report.summary()
    assert f"its logit rose {edit.reached:.2f} of 2.00 asked" in report.summary()
    assert data["reached"].attrs["units"] == "logit" and "(0 is first)" in report.summary()


def test_edits_that_share_no_row_compose(tmp_path: Path) -> None:
    model = subject(rows=(4000, 7000))
    edits = [
        editing.plan(model, words(text, 9), target, strength=2.0, orders=[3])
        for text, target in zip(TEXTS[1:4], (50, 60, 70), strict=True)
    ]
    report = editing.evaluate(model, edits, TEXTS[:6], n_boot=5)
    data = report.data
    assert dict(data.sizes)["edit"] == 3
    assert 0.5 < float(data["composed"]) < 1.5
    assert np.isnan(data["delta_loss_low"]).all()
    assert "fewer than 20 documents" in data["delta_loss_low"].attrs["missing"]
    back = EditReport.load(report.save(tmp_path / "edits.nc"))
    assert back.summary() == report.summary()
    assert len(report.plot().data) == 5 and len(report.plot(show="collateral").data) == 2
    with pytest.raises(InputError, match="show is one of success, collateral"):
        report.plot(show="harm")  # type: ignore[arg-type]


def test_the_control_moves_every_row_as_far() -> None:
    model = subject()
    edit = editing.plan(model, PROMPT, TARGET)
    other = edit_effects.randomised(edit, seed=3)
    for layer, made in edit.changes.items():
        assert torch.equal(made.rows, other.changes[layer].rows)
        moved = other.changes[layer].change
        torch.testing.assert_close(made.change.norm(dim=-1), moved.norm(dim=-1))
        assert not torch.allclose(made.change, moved)


def test_bad_input_says_what_to_do() -> None:
    model = subject()
    with pytest.raises(InputError, match=r"Layer 3 of tiny has no memory; layers that have one: \[1, 2\]"):
        editing.plan(model, PROMPT, TARGET, layers=[3])
    with pytest.raises(
        InputError, match=r"target wants one token, got .*, which is \d+ \(.*give the id of one"
    ):
        editing.plan(model, PROMPT, "zzzzzz")
    with pytest.raises(InputError, match="target wants an id in 0 … 330, got 331"):
        editing.plan(model, PROMPT, support.D_VOCAB)
    with pytest.raises(InputError, match="at least two tokens, got 1"):
        editing.plan(model, words(PROMPT, 1), TARGET)
    with pytest.raises(InputError, match=r"n-gram's text has .* context holds 29"):
        editing.plan(model, TEXTS[0] * 9, TARGET)
    with pytest.raises(InputError, match=r"orders of this n-gram want to lie in 2 … 3, got \[4\]"):
        editing.plan(model, PROMPT, TARGET, orders=[4])
    with pytest.raises(InputError, match=r"orders of this n-gram want to lie in 2 … 2, got \[3\]"):
        editing.plan(model, editing.plan(model, PROMPT, TARGET).ngram[1:], TARGET, orders=[3])
    with pytest.raises(InputError, match="strength > 0"):
        editing.plan(model, PROMPT, TARGET, strength=0)
    with pytest.raises(InputError, match="canonical ids in 0"):
        editing.plan(model, [1, 2, 10**6], TARGET)
    with pytest.raises(InputError, match="no memory whose addresses are known"):
        editing.plan(support.subject(support.model_config()), PROMPT, TARGET)
    with pytest.raises(InputError, match="at least one edit"):
        editing.evaluate(model, [], TEXTS)
    model.module.get_parameter("blocks.1.engram.value.weight").data.zero_()
    with pytest.raises(InputError, match="can raise the logit"):
        editing.plan(model, PROMPT, TARGET, layers=[1])


def test_a_fact_is_moved_in_the_planted_model() -> None:
    planted = pytest.importorskip("engram_interp.planted")
    model = planted.build()
    fact = next(f for f in planted.facts() if f.layer == 2 and len(f.columns) == 3 and f.conflict is None)
    before, logits = tables(model), model.logits(model.to_tokens(fact.prompt))
    # The same last word after another one: a row that holds nothing yet.
    other = f"{fact.prompt.split()[0]} mun {fact.ngram[-1]}"
    ids = model.to_tokens(other)
    assert int(model.logits(ids)[0, -1].argmax()) != fact.target_id
    with editing.write(model, other, fact.target, layers=[2], strength=5.0) as edit:
        assert int(model.logits(ids)[0, -1].argmax()) == fact.target_id
        assert abs(edit.reached - 5.0) < 0.25
        assert torch.equal(model.logits(model.to_tokens(fact.prompt)), logits)
    for old, new in zip(before, tables(model), strict=True):
        assert torch.equal(old.view(torch.int32), new.view(torch.int32))
    assert torch.equal(model.logits(model.to_tokens(fact.prompt)), logits)
