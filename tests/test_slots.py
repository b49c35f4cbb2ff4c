"""Tests of `engram_interp.slots`: n-grams, addresses and exact shares."""

from typing import Any

import numpy as np
import pytest
import torch

from engram_interp import ablation, planted, slots
from engram_interp.checkpoints import SubjectModel, wrap
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.memory.module import Engram
from engram_interp.model.transformer import HookedEngramTransformer
from tests import support

TEXT = "The Karen met THE Karen"


@pytest.mark.parametrize("bias", [False, True])
def test_shares_are_exact_and_sum_to_one(bias: bool) -> None:
    model = support.subject(support.model_config(memory=support.memory_config(bias=bias)))
    data = slots.lookup(model, TEXT).data
    np.testing.assert_allclose(data["share"].sum("column") + data["share_bias"], 1, atol=1e-9)
    assert bool((data["share_bias"] != 0).any()) is bias
    engram = model.module.get_submodule("blocks.2.engram")
    assert isinstance(engram, Engram)
    token, column, width = 4, 3, 5
    rows = engram.table.weight[torch.from_numpy(data["address"].sel(layer=2).values)].double()
    value = engram.value(rows[token].flatten().float()).double()
    part = engram.value.weight[:, column * width : (column + 1) * width].double() @ rows[token, column]
    np.testing.assert_allclose(
        data["share"].sel(layer=2)[token, column], part @ value / (value @ value), rtol=1e-4
    )
    np.testing.assert_allclose(
        data["row_norm"].sel(layer=2)[token, column], rows[token, column].norm(), rtol=1e-6
    )


def test_addresses_are_those_the_model_read() -> None:
    model = support.subject()
    data = slots.lookup(model, TEXT).data
    assert model.layout is not None and model.token_map is not None
    ids = model.to_tokens(TEXT)
    expected = hashing.addresses(
        torch.from_numpy(model.token_map)[ids],
        model.layout,
        pad_id=int(model.token_map[0]),
        segment_ids=torch.ones_like(ids),
    )
    np.testing.assert_array_equal(data["address"].transpose("token", "layer", "column"), expected[0])
    np.testing.assert_array_equal(data["order"], [2, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(data["head"], [0, 1, 2, 0, 1, 2])


def test_ngrams_are_canonical_and_end_at_their_token() -> None:
    data = slots.lookup(support.subject(), TEXT).data
    assert str(data["ngram"].sel(order_index=3)[0].item()).startswith("∅|∅|")
    last = str(data["ngram"].sel(order_index=2)[-1].item())
    assert last == last.lower() and last.count("|") == 1
    # Spelling variants share canonical ids, and so the rows.
    upper, lower = (slots.lookup(support.subject(), t).data for t in ("THE", " the"))
    if upper.sizes["token"] == lower.sizes["token"]:
        np.testing.assert_array_equal(upper["address"], lower["address"])


def test_hits_are_missing_where_the_checkpoint_does_not_tell() -> None:
    data = slots.lookup(support.subject(), TEXT).data
    assert np.isnan(data["hits"]).all()
    assert "does not tell" in data["hits"].attrs["missing"]


def test_a_zero_value_has_no_shares() -> None:
    shares, constant = slots.value_shares(torch.zeros(1, 2, 3), torch.ones(4, 6), None)
    assert np.isnan(shares).all() and np.isnan(constant).all()


def test_what_cannot_be_looked_up_says_why() -> None:
    with pytest.raises(InputError, match="no memory whose addresses are known"):
        slots.lookup(support.subject(support.model_config()), TEXT)
    with pytest.raises(InputError, match="one prompt at a time, got 2"):
        slots.lookup(support.subject(), [TEXT, TEXT])
    with pytest.raises(InputError, match="The prompt is empty"):
        slots.lookup(support.subject(), "")


class Plain(torch.nn.Module):
    """A model of ours behind a module that knows nothing of hook points."""

    def __init__(self, inner: HookedEngramTransformer) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(ids)
        return logits


def wrapped(inner: HookedEngramTransformer, **changes: Any) -> SubjectModel:
    sites = {site: f"inner.{site}" for site in inner.hook_dict if site.startswith("blocks.")}
    assert inner.cfg.engram is not None
    given: dict[str, Any] = {
        "layout": inner.layout,
        "token_map": inner.get_buffer("token_map").numpy(),
        "boundary": inner.cfg.engram.boundary,
        "n_streams": inner.cfg.n_streams,
    }
    sized: dict[str, Any] = {"d_model": 20, "n_ctx": support.N_CTX, "separator": 0}
    return wrap(Plain(inner), support.tokenizer(), sites=sites, **sized, **given | changes)


DEMO: dict[str, Any] = {"bias": True, "boundary": "none", "pad_token": 2, "norm_eps": 1.2e-7}
QWEN: dict[str, Any] = {
    "hash_rule": "qwen4_exp",
    "rows": 30,
    "compression": "none",
    "norm": "zero_centred",
    "boundary": "separator_ends",
    "seed": 1234,
}


@pytest.mark.parametrize("n_streams", [1, 3])
@pytest.mark.parametrize("form", [{}, DEMO, QWEN], ids=["ours", "demo", "qwen4_exp"])
def test_shares_sum_to_one_in_every_form(form: dict[str, Any], n_streams: int) -> None:
    cfg = support.model_config(memory=support.memory_config(**form), n_streams=n_streams)
    inner = support.model(cfg)
    data = slots.lookup(wrapped(inner), TEXT).data
    assert data.sizes["stream"] == n_streams
    np.testing.assert_allclose(data["share"].sum("column") + data["share_bias"], 1, atol=1e-6)
    ours = slots.lookup(support.subject(cfg), TEXT).data
    np.testing.assert_array_equal(data["address"], ours["address"])
    np.testing.assert_array_equal(data["ngram"], ours["ngram"])


class Otherwise(torch.nn.Module):
    """A memory of another kind: reads rows, and makes its value in its own way."""

    def __init__(self, layout: hashing.Layout) -> None:
        super().__init__()
        self.layout, self.rows, self.gate = layout, torch.nn.Identity(), torch.nn.Identity()
        self.memory = torch.nn.Embedding(int(layout.rows[0]), 5)
        self.tokens = torch.nn.Embedding(support.D_VOCAB, 20)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        addresses = self.rows(hashing.addresses(ids, self.layout, pad_id=0)[:, :, 0])
        read = self.memory(addresses).mean((-2, -1))
        gate = self.gate(torch.sigmoid(read)[..., None])
        logits: torch.Tensor = gate * self.tokens(ids)
        return logits


def test_a_memory_without_a_linear_value_has_no_shares() -> None:
    layout = hashing.Layout.deepseek(layer_ids=[0], budget=50, max_order=3, heads=2, n_canonical=300)
    names = {"rows": "rows", "memory": "memory", "gate": "gate"}
    sites = {f"blocks.0.engram.hook_{name}": path for name, path in names.items()}
    raw = np.arange(support.D_VOCAB)
    model = wrap(
        Otherwise(layout), support.tokenizer(), sites=sites, layout=layout, token_map=raw, d_model=20
    )
    data = slots.lookup(model, [5, 6, 7, 8]).data
    assert np.isnan(data["share"]).all() and "no linear `value`" in data["share"].attrs["missing"]
    assert (data["row_norm"] > 0).all()


def test_a_false_token_map_is_noticed() -> None:
    inner = support.model()
    expected = slots.lookup(support.subject(), TEXT).data
    np.testing.assert_array_equal(slots.lookup(wrapped(inner), TEXT).data["ngram"], expected["ngram"])
    with pytest.raises(
        InputError, match="did not read the rows that its layout, token map and boundary give"
    ):
        slots.lookup(wrapped(inner, token_map=np.arange(support.D_VOCAB)), TEXT)


def test_rows_exchanged_by_an_ablation_are_not_named_after_the_text() -> None:
    model = support.subject()
    with (
        ablation.ablate(model, "rows_random"),
        pytest.raises(InputError, match="Perhaps an ablation of rows is active"),
    ):
        slots.lookup(model, TEXT)


def test_a_value_of_zero_says_why_it_has_no_shares() -> None:
    data = slots.lookup(planted.build(), "nax yod zor vel").data
    assert np.isnan(data["share"][1]).all() and "the value is zero" in data["share"].attrs["missing"]
    assert not np.isnan(data["share"].sel(layer=1)[-1]).any()


@pytest.mark.parametrize("kind", ["tensor", "row", "array", "list"])
def test_token_ids_of_any_kind_are_one_prompt(kind: str) -> None:
    model = support.subject()
    ids = model.to_tokens(TEXT)
    given = {"tensor": ids, "row": ids[0], "array": ids[0].numpy(), "list": list(ids[0].numpy())}[kind]
    np.testing.assert_array_equal(
        slots.lookup(model, given).data["address"], slots.lookup(model, TEXT).data["address"]
    )
