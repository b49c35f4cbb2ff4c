"""A plain torch transformer of somebody else, wrapped."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engram_interp.capture import intervene, record
from engram_interp.checkpoints import wrap
from engram_interp.errors import InputError
from tests import support
from tests.checkpoints import transformers_models

SITES = {
    "blocks.0.hook_resid_post": "layers.0",
    "blocks.1.hook_resid_post": "layers.1",
    "hook_embed": "tokens",
}


class Foreign(nn.Module):
    """Two of torch's own encoder layers with a causal mask; knows nothing of this project."""

    def __init__(self, *, as_object: bool = False) -> None:
        super().__init__()
        self.as_object = as_object
        self.tokens = nn.Embedding(support.D_VOCAB, 12)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(12, support.D_VOCAB)

    def forward(self, ids: Tensor) -> Any:
        x = self.tokens(ids)
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        logits = self.head(x)
        return SimpleNamespace(logits=logits) if self.as_object else logits


@pytest.mark.parametrize("as_object", [False, True])
def test_a_foreign_module_is_recorded_and_changed(as_object: bool) -> None:
    module = Foreign(as_object=as_object).eval()
    model = wrap(module, support.tokenizer(), sites=SITES, name="foreign", n_ctx=9, separator="<|endoftext|>")
    assert (model.family, model.n_layers, model.d_model, model.d_vocab) == ("wrapped", 2, 12, support.D_VOCAB)
    assert (model.separator_id, model.memory_layers, model.hits) == (0, (), {})
    ids = support.token_ids(2, 9)
    rec = record(model, ids, sites=["blocks.*.hook_resid_post", "hook_embed"])
    torch.testing.assert_close(rec["hook_embed"], module.tokens(ids))
    torch.testing.assert_close(module.head(rec["blocks.1.hook_resid_post"]), rec.logits)
    with intervene(model, {"blocks.0.hook_resid_post": torch.zeros_like}):
        silent = record(model, ids, sites=["blocks.0.hook_resid_post"])
    assert not silent["blocks.0.hook_resid_post"].any()
    assert not silent.logits.equal(rec.logits)
    assert record(model, ids).logits.equal(rec.logits)
    with pytest.raises(
        InputError, match=r"foreign is a plain torch module .* use engram_interp.capture.record"
    ):
        model.run_with_cache(ids)


def test_our_own_module_needs_no_sites() -> None:
    module = support.model()
    model = wrap(module, support.tokenizer(), name="live")
    assert (model.name, model.memory_layers) == ("live", (1, 2))
    assert model.layout is module.layout


def test_a_causal_model_of_transformers_needs_no_sites() -> None:
    module = transformers_models.random_module("gpt2")
    model = wrap(module, support.tokenizer(), name="run")
    assert (model.family, model.name, model.n_layers, model.module) == ("baseline", "run", 5, module)
    with pytest.raises(InputError, match=r"wrap knows where a GPT2LMHeadModel .* or all of it with sites="):
        wrap(module, support.tokenizer(), separator=0)
    own = wrap(module, support.tokenizer(), sites={"blocks.0.hook_resid_post": "transformer.h.0"}, n_ctx=9)
    assert (own.family, own.n_ctx) == ("wrapped", 9)


def test_memory_sites_and_a_layout_make_memory_layers() -> None:
    sites = SITES | {"blocks.1.engram.hook_gate": "head"}
    layout = support.model().layout
    model = wrap(Foreign(), support.tokenizer(), sites=sites, layout=layout, d_model=12, separator=7)
    assert (model.memory_layers, model.separator_id) == ((1,), 7)
    assert model.token_map is not None and len(model.token_map) == support.D_VOCAB


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (
            Foreign(),
            {"sites": None},
            r"cannot guess where a Foreign keeps its residual stream; pass\s+sites=",
        ),
        (
            Foreign(),
            {"sites": {"blocks.0.hook_mlp_out": "layers.7"}},
            r"\['layers.7'\] that the Foreign does",
        ),
        (Foreign(), {"sites": {"hook_embed": "tokens"}}, "At least one site wants to name a layer"),
        (
            nn.ModuleDict({"layers": nn.Linear(2, 2)}),
            {"sites": {"blocks.0.hook_x": "layers"}},
            "without an nn.E",
        ),
        (Foreign(), {"separator": "<none>"}, "has no token '<none>' to put before every text"),
        (Foreign(), {"tokenizer": str}, "wants a tokenizers.Tokenizer or a fast transformers tokenizer"),
    ],
)
def test_what_wrap_lacks_is_said(module: nn.Module, changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"tokenizer": support.tokenizer(), "sites": SITES} | changes
    with pytest.raises(InputError, match=message):
        wrap(module, values.pop("tokenizer"), **values)
