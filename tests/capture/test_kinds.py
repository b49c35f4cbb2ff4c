"""Every kind of ablation puts in place what its name says, and leaves nothing behind."""

from collections import Counter
from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from engram_interp import ablation
from engram_interp.capture import intervene, record
from engram_interp.capture.ablations import KINDS, Kind, Means, changes, target_of
from engram_interp.capture.averages import mean_gates, mean_rows
from engram_interp.checkpoints import SubjectModel, wrap
from engram_interp.errors import InputError
from tests import support

IDS = support.token_ids(3, 11)
MEMORY, ROWS = "blocks.1.engram.hook_memory", "blocks.1.engram.hook_rows"


def subject(n_streams: int = 1) -> SubjectModel:
    """A model of known training hits, some of them zero."""
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=n_streams))
    assert model.layout is not None
    draw = np.random.default_rng(5)
    hits = {
        layer: draw.integers(0, 9, size=int(rows))
        for layer, rows in zip((1, 2), model.layout.rows, strict=True)
    }
    return replace(model, hits=hits)


def under(
    model: SubjectModel,
    kind: Kind,
    site: str,
    ids: Any = IDS,
    *,
    seed: int = 3,
    swap: Any = None,
    **parts: Any,
) -> tuple[Tensor, Tensor]:
    """A site before and under an ablation."""
    means = Means(gates=mean_gates(model) if kind == "gate_mean" else {}, swap=swap)
    before = record(model, ids, sites=[site])[site]
    with intervene(model, changes(model, kind, target_of(model, kind, **parts), seed=seed, means=means)):
        return before, record(model, ids, sites=[site])[site]


def test_gates_are_set_to_one_or_to_their_mean_where_named() -> None:
    model = subject(4)
    before, after = under(model, "gate_one", "blocks.1.engram.hook_gate", streams=[2], tokens=[5, 7])
    assert (after[:, [5, 7], 2] == 1).all()
    after[:, [5, 7], 2] = before[:, [5, 7], 2]
    assert after.equal(before)
    before, after = under(model, "gate_mean", "blocks.1.engram.hook_gate", streams=[0, 3])
    assert after[:, :, 1].equal(before[:, :, 1])
    for stream in (0, 3):
        torch.testing.assert_close(
            after[:, :, stream], torch.full((3, 11), float(mean_gates(model)[1][stream]))
        )


def test_the_mean_gate_is_over_every_token_but_the_separator() -> None:
    model, texts = subject(4), support.documents(5, seed=2)
    site = "blocks.2.engram.hook_gate"
    kept = []
    for text in texts:
        kept += list(record(model, [text], sites=[site])[site][0, 1:])
    torch.testing.assert_close(
        mean_gates(model, texts)[2], torch.stack(kept).double().mean(0), atol=1e-6, rtol=0
    )


def test_the_mean_row_weighs_every_row_of_its_head_by_its_hits() -> None:
    model = subject()
    assert model.layout is not None
    table = model.module.get_parameter("blocks.1.engram.table.weight").double()
    means = mean_rows(model, 1)
    first = 0
    for column, size in enumerate(model.layout.primes[0].reshape(-1)):
        total, weight = torch.zeros(5, dtype=torch.float64), 0
        for row in range(first, first + int(size)):
            total += int(model.hits[1][row]) * table[row]
            weight += int(model.hits[1][row])
        torch.testing.assert_close(means[column], total / weight)
        first += int(size)
    before, after = under(model, "rows_mean", MEMORY, orders=[3], heads=[1], tokens=[6])
    torch.testing.assert_close(after[:, 6, 4], means[4].float().expand(3, 5))
    after[:, 6, 4] = before[:, 6, 4]
    assert after.equal(before)


def test_shuffled_reads_are_the_batch_s_own_and_nobody_keeps_theirs() -> None:
    model = subject()
    texts = support.documents(4, seed=3)
    mask = record(model, texts).mask
    before, after = under(model, "rows_shuffled", ROWS, texts)
    reading = mask.clone()
    reading[:, 0] = False  # the separator opens the text: it reads no n-gram, as padding does
    assert after[~reading].equal(before[~reading])
    whole = [Counter(tuple(row) for row in x[reading].tolist()) for x in (before, after)]
    assert whole[0] == whole[1]
    kept = (after[reading] == before[reading]).all(-1).float().mean()
    repeats = sum(n * n for n in whole[0].values()) / reading.sum() ** 2
    assert kept < 3 * repeats, "only a repeated n-gram may meet itself"
    assert under(model, "rows_shuffled", ROWS, texts)[1].equal(after)
    assert not under(model, "rows_shuffled", ROWS, texts, seed=4)[1].equal(after)
    _, part = under(model, "rows_shuffled", ROWS, IDS, orders=[2], tokens=[4])
    chosen = torch.zeros_like(part, dtype=torch.bool)
    chosen[:, 4, :3] = True
    assert part[~chosen].equal(record(model, IDS, sites=[ROWS])[ROWS][~chosen])


def test_a_swap_reads_what_another_n_gram_or_position_reads() -> None:
    model = subject()
    before, after = under(model, "ngram_swap", ROWS, swap=8, tokens=[3], orders=[2])
    assert after[:, 3, :3].equal(before[:, 8, :3])
    assert after[:, 3, 3:].equal(before[:, 3, 3:])
    text = "In the Kalo,"
    other = record(model, text, sites=[ROWS])[ROWS][0, -1]
    _, after = under(model, "ngram_swap", ROWS, swap=text)
    assert (after == other).all()


@pytest.mark.parametrize(
    ("kind", "swap", "message"),
    [
        ("ngram_swap", None, "ngram_swap wants to know whose reads to take"),
        ("ngram_swap", 40, r"swap=40 lies outside the prompt, whose tokens run from 0 to 10"),
        ("ngram_swap", ["one", "two"], "takes the reads of one text, got 2"),
        ("ngram_swap", [1, support.D_VOCAB], r"Token ids want to lie in 0 … 330"),
    ],
)
def test_a_swap_that_is_none_is_refused(kind: Kind, swap: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        under(subject(), kind, ROWS, swap=swap)


def test_mean_rows_want_hits_and_a_table() -> None:
    bare = support.subject()
    with pytest.raises(InputError, match=r"wants the training hits of layer 1, which tiny does not tell"):
        under(bare, "rows_mean", MEMORY)
    model = subject()
    nobody = {layer: np.zeros_like(hits) for layer, hits in model.hits.items()}
    with pytest.raises(InputError, match="No row of column 0 of layer 1 was read in training"):
        under(replace(model, hits=nobody), "rows_mean", MEMORY)
    with pytest.raises(InputError, match="gate_mean wants the mean gate of layer 1"):
        changes(model, "gate_mean", target_of(model, "gate_mean"), seed=0)
    foreign = wrap(
        torch.nn.Sequential(torch.nn.Embedding(support.D_VOCAB, 8), torch.nn.Identity()),
        support.tokenizer(),
        sites={"blocks.0.hook_resid_post": "0", "blocks.0.engram.hook_memory": "1"},
        layout=None if model.layout is None else replace(model.layout, layer_ids=(0, 3)),
        hits={0: model.hits[1]},
    )
    with pytest.raises(InputError, match="The table of layer 0 of wrapped was not found"):
        mean_rows(foreign, 0)


MODELS = {n_streams: subject(n_streams) for n_streams in (1, 4)}
INTACT = {n_streams: model.logits(IDS) for n_streams, model in MODELS.items()}


class Interrupted(Exception):
    """What the property test stops a run with."""


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    kind=st.sampled_from(KINDS),
    n_streams=st.sampled_from([1, 4]),
    layers=st.sampled_from([None, [1], [2]]),
    tokens=st.sampled_from([None, [0], [3, 10]]),
    seed=st.integers(0, 2**40),
    stop=st.sampled_from(["never", "before", "inside a layer", "after"]),
)
def test_outputs_are_bit_identical_after_any_ablation(
    *, kind: Kind, n_streams: int, layers: Any, tokens: Any, seed: int, stop: str
) -> None:
    model = MODELS[n_streams]
    seen = list[Tensor]()

    def halt(_: Tensor) -> None:
        raise Interrupted

    def run() -> None:
        with ablation.ablate(model, kind, layers=layers, tokens=tokens, seed=seed, swap=2, reference=IDS[:1]):
            if stop == "before":
                raise Interrupted
            with intervene(model, {"blocks.2.hook_resid_mid": halt} if stop == "inside a layer" else {}):
                seen.append(model.logits(IDS))
            if stop == "after":
                raise Interrupted

    if stop == "never":
        run()
    else:
        with pytest.raises(Interrupted):
            run()
    assert model.logits(IDS).equal(INTACT[n_streams])
    opening_reads_nothing_else = tokens == [0] and kind in ("rows_shuffled",)
    assert all(not x.equal(INTACT[n_streams]) for x in seen) or opening_reads_nothing_else


def test_two_seeds_that_agree_in_32_bits_draw_differently() -> None:
    model = subject()
    low, high = (under(model, "rows_random", ROWS, seed=s)[1] for s in (1, 1 + 2**32))
    assert not low.equal(high)


def test_two_passes_in_one_block_read_the_same_other_rows() -> None:
    model = subject()
    for kind in ("rows_random", "rows_shuffled"):
        with intervene(model, changes(model, kind, target_of(model, kind), seed=3)):
            once, again = (record(model, IDS, sites=[ROWS])[ROWS] for _ in range(2))
            part = record(model, IDS[1:, :7], sites=[ROWS])[ROWS]
        assert once.equal(again)
        assert part.equal(once[1:, :7]) is (kind == "rows_random")  # by address, whatever else is read


def test_a_seed_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="seed wants to be a whole number from 0 on"):
        under(subject(), "rows_random", ROWS, seed=-1)
    with pytest.raises(InputError, match=r"from 0 on, got -1"):
        ablation.effect(subject(), IDS, kinds=["output_off"], seed=-1)
