"""Recording: shapes, axes, names, and a model left as it was."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engram_interp.capture import encode, intervene, record
from engram_interp.capture.record import run_batches
from engram_interp.capture.sites import SITES, axes, kind_of, resolve
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data.prompts import PromptSet
from engram_interp.errors import InputError
from tests import support
from tests.support import D_VOCAB, N_CTX

TEXTS = ["the Karen of Miren saw", "In Dorél, THE", "Tasban\n"]


def hooks_on(model: SubjectModel) -> int:
    return sum(len(module._forward_hooks) for module in model.module.modules())


@pytest.fixture(params=[1, 4], ids=["m1", "m4"])
def model(request: pytest.FixtureRequest) -> SubjectModel:
    return support.subject(support.model_config(memory=support.memory_config(), n_streams=request.param))


def test_every_site_has_the_axes_it_declares(model: SubjectModel) -> None:
    sizes = {
        "batch": 3,
        "stream": model.n_streams,
        "d_model": 20,
        "column": 6,
        "d_row": 5,
    }
    own = set(SITES) - {"blocks.{l}.hook_resid_read"}  # of models whose streams an earlier mix collapses
    rec = record(model, TEXTS, sites=[name.replace("{l}", "*") for name in sorted(own)])
    sizes["token"] = rec.tokens.shape[1]
    assert {kind_of(site) for site in rec.sites} == own
    for site, value in rec.sites.items():
        names = rec.axes(site)
        assert names is not None
        assert tuple(value.shape) == tuple(sizes[n] for n in names), site
    assert rec["blocks.1.engram.hook_rows"].dtype == torch.int64
    assert rec.logits.shape == (3, sizes["token"], D_VOCAB)
    assert axes("blocks.0.attn.hook_pattern", n_streams=1) is None


def test_padding_is_masked_and_batches_agree(model: SubjectModel) -> None:
    sites = ["blocks.2.engram.hook_gate", "blocks.3.hook_resid_post", "blocks.1.attn.hook_pattern"]
    whole = record(model, TEXTS, sites=sites)
    lengths = [len(model.tokenizer.encode(t).ids) + 1 for t in TEXTS]
    assert whole.mask.sum(1).tolist() == lengths
    assert not whole.tokens[~whole.mask].any()
    for size in (1, 2):
        parts = record(model, TEXTS, sites=sites, batch_size=size)
        for site in sites:
            torch.testing.assert_close(parts[site], whole[site], atol=1e-4, rtol=0)
    for row, text in enumerate(TEXTS):
        alone = record(model, text, sites=sites)
        kept = whole[sites[1]][row, : lengths[row]]
        torch.testing.assert_close(alone[sites[1]][0], kept, atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.logits[0], whole.logits[row, : lengths[row]], atol=1e-4, rtol=0)
    gates = whole[sites[0]][~whole.mask]
    assert not gates.any()


def test_recorded_values_are_those_of_transformerlens(model: SubjectModel) -> None:
    ids = support.token_ids(2, 9)
    sites = ["blocks.1.engram.hook_score", "blocks.2.hook_mlp_out", "blocks.0.attn.hook_z"]
    rec = record(model, ids, sites=sites)
    logits, cache = model.run_with_cache(ids, names_filter=sites)
    assert all(rec[site].equal(cache[site]) for site in sites)
    assert rec.logits.equal(logits)


def test_no_sites_give_logits_only_and_logits_can_be_left_out() -> None:
    model = support.subject()
    rec = record(model, "the Karen", sites=[])
    assert dict(rec.sites) == {}
    assert rec.logits.shape[-1] == D_VOCAB
    without = record(model, "the Karen", sites=["hook_embed"], logits=False)
    with pytest.raises(InputError, match="logits were not kept; record again with logits=True"):
        _ = without.logits
    with pytest.raises(InputError, match=r"'hook_embeds' was not recorded; recorded were \['hook_embed'\]"):
        without["hook_embeds"]


def test_types_of_floats_are_chosen_and_integers_kept() -> None:
    rec = record(
        support.subject(), "the", sites=["hook_embed", "blocks.1.engram.hook_rows"], dtype=torch.float16
    )
    assert (rec["hook_embed"].dtype, rec.logits.dtype) == (torch.float16, torch.float16)
    assert rec["blocks.1.engram.hook_rows"].dtype == torch.int64


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (
            "blocks.1.engram.hook_gates",
            r"tiny has no site 'blocks.1.engram.hook_gates'; did you mean blocks.1.eng",
        ),
        ("blocks.9.hook_mlp_out", r"its layers run from 0 to 3\."),
        ("blocks.0.engram.hook_gate", r"layers with a memory: \[1, 2\]"),
        ("blocks.*.hook_nothing", "did you mean blocks"),
        ("zzz", r"list\(model.sites\) names them all"),
    ],
)
def test_unknown_sites_name_the_near_ones(site: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        record(support.subject(), "the", sites=["hook_embed", site])


def test_a_text_in_place_of_a_list_of_sites_is_refused() -> None:
    with pytest.raises(InputError, match=r'got the text \'hook_embed\'; write sites=\["hook_embed"\]'):
        record(support.subject(), "the", sites="hook_embed")


def test_patterns_keep_the_models_order_without_repeats() -> None:
    model = support.subject()
    found = resolve(model, ["blocks.2.hook_resid_post", "blocks.*.hook_resid_post", "hook_embed"])
    layers = [2, 0, 1, 3]
    assert found == [*(f"blocks.{layer}.hook_resid_post" for layer in layers), "hook_embed"]
    assert resolve(model, []) == []


def test_prompts_longer_than_the_context_are_cut_and_noted() -> None:
    model = support.subject()
    long = " ".join(support.documents(2))
    rec = record(model, [long, "the"], sites=["hook_embed"])
    assert rec.tokens.shape == (2, N_CTX)
    assert rec.tokens[0].tolist() == model.to_tokens(long)[0, :N_CTX].tolist()
    count = model.to_tokens(long).shape[1]
    assert rec.notes == (
        f"Prompt 'texts-0' has {count:,} tokens and the context holds {N_CTX}: its first {N_CTX} "
        "were analysed.",
    )
    assert record(model, "the").notes == ()


@pytest.mark.parametrize(
    "ids",
    [
        [[0, 5, 9], [0, 7]],
        (torch.tensor([0, 5, 9]), torch.tensor([0, 7])),
        [np.array([0, 5, 9]), np.array([0, 7], dtype=np.int32)],
    ],
)
def test_ids_of_unequal_length_are_padded(ids: Any) -> None:
    encoded = encode(support.subject(), ids)
    assert encoded.tokens.tolist() == [[0, 5, 9], [0, 7, 0]]
    assert encoded.mask.tolist() == [[True, True, True], [True, True, False]]
    assert (encoded.names, encoded.texts, len(encoded)) == (("ids-0", "ids-1"), (), 2)


@pytest.mark.parametrize(
    "ids",
    [
        [0, 5, 9],
        torch.tensor([0, 5, 9]),
        torch.tensor([[0, 5, 9]]),
        np.array([[0, 5, 9]]),
        [np.int64(0), 5, 9],
    ],
)
def test_one_prompt_of_ids_in_any_form(ids: Any) -> None:
    assert encode(support.subject(), ids).tokens.tolist() == [[0, 5, 9]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "empty"),
        (["the", "  "], "empty"),
        ([], "at least one"),
        ([[]], "no token ids to run; give at least one id per prompt"),
        ([[0, 3], []], "at least one id per prompt"),
        ([[0, D_VOCAB]], rf"lie in 0 … {D_VOCAB - 1} for tiny, got 0 … {D_VOCAB}"),
        ([[-1, 3]], r"got -1 … 3"),
        (torch.zeros(1, 3), r"integers \[batch, token\], got torch.float32 \(1, 3\)"),
        (torch.zeros(1, 3, 2, dtype=torch.int64), r"torch.int64 \(1, 3, 2\)"),
        (7, "got int"),
    ],
)
def test_prompts_that_cannot_be_run_are_refused(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        record(support.subject(), given)


def test_entities_end_at_the_last_token_that_holds_their_last_character() -> None:
    model = support.subject()
    text = "In [[Dorél]], THE [[Karen of Miren]]; ström [[é]]"
    encoded = encode(model, PromptSet.from_texts([text, "no mark"], markup="brackets"))
    plain = text.replace("[[", "").replace("]]", "")
    ids = model.to_tokens(plain)[0].tolist()
    ends = encoded.entity_ends
    assert ends[1] == ()
    for position, entity in zip(ends[0], ("Dorél", "Karen of Miren", "é"), strict=True):
        written = model.tokenizer.decode(ids[1 : position + 1])
        before = model.tokenizer.decode(ids[1:position])
        assert entity in written
        assert not before.endswith(entity)
    cut = " ".join(["[[Karen]]"] * N_CTX)
    kept = encode(model, PromptSet.from_texts([cut], markup="brackets")).entity_ends[0]
    assert 0 < len(kept) < N_CTX
    assert max(kept) < N_CTX


def test_recording_inside_an_intervention_sees_it_and_afterwards_nothing_is_left(model: SubjectModel) -> None:
    ids, site = support.token_ids(2, 9), "blocks.1.hook_engram_out"
    before = record(model, ids, sites=[site])
    with intervene(model, {site: lambda x: x * 0, "blocks.3.hook_*": lambda x: None}) as same:
        assert same is model
        inside = record(model, ids, sites=[site])
    assert not inside[site].any()
    assert not inside.logits.equal(before.logits)
    after = record(model, ids, sites=[site])
    assert after.logits.equal(before.logits)
    assert hooks_on(model) == 0


def test_hooks_come_off_after_an_error_wherever_it_happens(
    model: SubjectModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = support.token_ids(3, 9)
    before = model.logits(ids)

    def fail(_: Tensor) -> Tensor:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), intervene(model, {"blocks.2.engram.hook_gate": fail}):
        record(model, ids, sites=["blocks.0.hook_resid_post"])
    assert hooks_on(model) == 0
    with pytest.raises(ValueError, match="block"), intervene(model, {"hook_embed": torch.zeros_like}):
        raise ValueError("in the with block")
    assert hooks_on(model) == 0
    with pytest.raises(InputError), intervene(model, {"hook_embed": torch.zeros_like, "hook_nothing": fail}):
        pass
    assert hooks_on(model) == 0
    with monkeypatch.context() as patch, pytest.raises(MemoryError) as held:
        patch.setattr(Tensor, "cpu", lambda _: (_ for _ in ()).throw(MemoryError()))
        record(model, ids, sites=["blocks.1.engram.hook_rows"], batch_size=1)
    assert held.value is not None
    assert hooks_on(model) == 0  # though the traceback still holds the generator
    batches = run_batches(model, encode(model, ids), ["hook_embed"], batch_size=1)
    next(batches)
    assert hooks_on(model) == 1
    batches.close()
    assert hooks_on(model) == 0
    assert model.logits(ids).equal(before)


def test_recorded_tensors_are_ordinary_ones_of_their_own() -> None:
    model, ids = support.subject(), support.token_ids(3, 9)
    rec = record(model, ids, sites=["hook_embed"], batch_size=2)
    probe = torch.randn(20, requires_grad=True)
    (rec["hook_embed"] @ probe).sum().backward()
    assert probe.grad is not None
    before = rec.logits.clone()
    rec["hook_embed"].zero_()
    assert record(model, ids, batch_size=2).logits.equal(before)
    for output, _ in run_batches(model, encode(model, ids), ["hook_embed"], batch_size=2):
        assert not torch.is_inference_mode_enabled()
        assert output.shape[0] in {1, 2}


def test_a_site_that_only_some_runs_pass_is_said() -> None:
    model = support.subject(support.model_config(n_experts=5, experts_per_token=1))
    with pytest.raises(InputError, match=r"tiny ran without passing \['blocks.0.mlp.experts"):
        record(model, [[0, 3]], sites=["blocks.0.mlp.experts.*.hook_post"])


def test_looking_at_a_model_in_training_does_not_train_it() -> None:
    model = support.subject(support.model_config(n_experts=3))
    model.module.train()
    model.module.get_submodule("blocks.0").eval()
    loads = {k: v.clone() for k, v in model.module.named_buffers()}
    record(model, support.token_ids(2, 9), sites=["blocks.*.hook_mlp_out"])
    assert all(v.equal(loads[k]) for k, v in model.module.named_buffers())
    assert model.module.training and model.module.get_submodule("blocks.1").training
    assert not model.module.get_submodule("blocks.0").training
