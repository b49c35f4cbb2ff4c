"""Samples: entity ends or random tokens, and groups that share no document."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram_interp.capture import encode, record
from engram_interp.capture.encode import Encoded
from engram_interp.capture.samples import Samples, Streams, choose, document_groups, residuals
from engram_interp.data.prompts import PromptSet
from engram_interp.data.tokenizer import train_tokenizer
from engram_interp.errors import InputError
from tests import support

TEXTS = ["the [[Karen]] of [[Miren]] saw", "no entity here at all", "In [[Dorél]], THE"]
MARKED = PromptSet.from_texts(TEXTS, markup="brackets")


def encoded(lengths: list[int]) -> Encoded:
    return encode(support.subject(), [[0, *range(1, n)] for n in lengths])


def test_marked_entities_are_the_samples() -> None:
    one = encode(support.subject(), MARKED)
    samples = choose([one, one], seed=0)
    assert samples.document.tolist() == [0, 0, 2]
    wanted = [p for ends in one.entity_ends for p in ends]
    assert samples.position.tolist() == [wanted, wanted]
    assert samples.what == "last token of every marked entity"


def test_entities_pair_models_with_different_tokenizers() -> None:
    own = support.subject()
    other = replace(own, tokenizer=train_tokenizer(support.documents(30, seed=3), d_vocab=270))
    samples = choose([encode(own, MARKED), encode(other, MARKED)], seed=0)
    assert samples.position.shape == (2, 3)
    assert samples.position[0].tolist() != samples.position[1].tolist()
    plain = ["the Karen of Miren saw"]
    with pytest.raises(InputError, match=r"cut these texts into different tokens.*at marked entities"):
        choose([encode(own, plain), encode(other, plain)], seed=0)


@given(lengths=st.lists(st.integers(1, 27), min_size=1, max_size=6), seed=st.integers(0, 5))
def test_without_marks_up_to_sixteen_distinct_tokens_a_document(lengths: list[int], seed: int) -> None:
    one = encoded(lengths)
    samples = choose([one, one, one], seed=seed)
    assert samples.position.shape == (3, len(samples))
    assert (samples.position == samples.position[0]).all()
    for document, length in enumerate(lengths):
        places = samples.position[0, samples.document == document]
        assert len(places) == min(16, length - 1)
        assert (np.diff(places) > 0).all()
        assert ((places >= 1) & (places < length)).all()  # not the separator, not the padding
    assert choose([one], seed=seed).position.tolist() == samples.position[:1].tolist()


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=20),
    rows=st.integers(1, 12),
    seed=st.integers(0, 3),
)
def test_groups_hold_whole_disjoint_documents(counts: list[int], rows: int, seed: int) -> None:
    document = np.repeat(np.arange(len(counts)), counts)
    samples = Samples(document=document, position=np.zeros((1, len(document)), np.int64), what="made")
    groups = document_groups(samples, rows=rows, seed=seed)
    assert all(len(group) == rows for group in groups)
    chosen = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    assert len(set(chosen.tolist())) == len(chosen)
    owners = [set(document[group].tolist()) for group in groups]
    assert sum(map(len, owners)) == len(set().union(*owners))
    again = document_groups(samples, rows=rows, seed=seed)
    assert [g.tolist() for g in groups] == [g.tolist() for g in again]
    # What stays out is less than a group, plus what overflowed the last document of each.
    assert len(document) - len(chosen) < rows + len(groups) * max([*counts, 1])


def test_groups_differ_between_seeds() -> None:
    samples = Samples(
        document=np.repeat(np.arange(30), 4), position=np.zeros((1, 120), np.int64), what="made"
    )
    one, other = (document_groups(samples, rows=20, seed=seed) for seed in (0, 1))
    assert [g.tolist() for g in one] != [g.tolist() for g in other]
    assert one[0].tolist() != sorted(one[0].tolist())


@pytest.mark.parametrize("streams", ["concat", "mean", "readout", 0, 3])
def test_residuals_are_those_of_the_samples(streams: Streams) -> None:
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=4))
    prompts = [" ".join(text.split()[:4]) for text in support.documents(5)]
    one = encode(model, prompts)
    samples = choose([one], seed=0)
    found = residuals(model, one, samples, 0, streams=streams, batch_size=2)
    rec = record(model, one, sites=["blocks.*.hook_resid_post"], logits=False)
    assert len(found) == 4
    for layer in range(4):
        x = rec[f"blocks.{layer}.hook_resid_post"][samples.document, samples.position[0]]
        if streams == "concat":
            wanted = x.flatten(1)
        elif streams == "mean":
            wanted = x.mean(1)
        elif streams == "readout":
            assert model.readout is not None
            wanted = model.readout(x[None])[0]
        else:
            assert isinstance(streams, int)
            wanted = x[:, streams]
        assert found[layer].dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(found[layer]), wanted, atol=1e-4, rtol=1e-4)


def test_one_stream_needs_no_choice_and_a_wrong_one_is_refused() -> None:
    single = support.subject()
    one = encode(single, MARKED)
    samples = choose([one], seed=0)
    assert [r.shape for r in residuals(single, one, samples, 0)] == [(3, 20)] * 4
    several = support.subject(support.model_config(n_streams=2))
    with pytest.raises(InputError, match=r"'readout' or a number below 2, got 2"):
        residuals(several, one, samples, 0, streams=2)
    bare = replace(single, sites={"hook_embed": "hook_embed"})
    with pytest.raises(InputError, match=r"tiny has no blocks.0.hook_resid_post; add it to wrap's sites"):
        residuals(bare, one, samples, 0)


def test_entities_that_one_model_has_not_whole_are_left_out() -> None:
    own = support.subject()
    other = replace(own, tokenizer=train_tokenizer(support.documents(30, seed=3), d_vocab=270))
    short = encode(other, MARKED, limit=6)
    long = encode(own, MARKED)
    samples = choose([long, short], seed=0)
    assert 0 < len(samples) < sum(map(len, long.entity_ends))
    assert "were not" in samples.what
    for document, mine, theirs in zip(samples.document, *samples.position, strict=True):
        places = dict(zip(long.entity_ends[document], long.entities[document], strict=True))
        others = dict(zip(short.entity_ends[document], short.entities[document], strict=True))
        assert places[mine] == others[theirs]


def test_equal_ids_of_different_tokenizers_are_not_paired() -> None:
    own = support.subject()
    other = replace(own, tokenizer=train_tokenizer(support.documents(30, seed=3), d_vocab=270))
    ids = support.token_ids(3, 9)
    assert len(choose([encode(own, ids), encode(own, ids)], seed=0))
    with pytest.raises(InputError, match="tokenizers differ"):
        choose([encode(own, ids), encode(other, ids)], seed=0)
