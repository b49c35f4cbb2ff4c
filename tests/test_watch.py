"""A run of somebody else's, watched: the numbers are those of the analyses, and the run is not disturbed."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engram_interp import gates
from engram_interp.capture import record
from engram_interp.checkpoints import wrap
from engram_interp.errors import InputError
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.results import TrainingWatch
from engram_interp.watch import Watch
from tests import support
from tests.checkpoints.qwen4_exp_models import causal

TEXTS = support.documents(21, seed=6)


def fresh(*, streams: int = 2) -> HookedEngramTransformer:
    """A model at its initialisation, in training mode, with dropout nowhere and experts that count load."""
    cfg = support.model_config(memory=support.memory_config(), n_streams=streams, n_experts=3)
    made = support.model(cfg)
    made.requires_grad_(True)
    return made.train()


def batches(count: int) -> list[Tensor]:
    return [support.token_ids(3, 17, seed=step) for step in range(count)]


def train(module: HookedEngramTransformer, steps: int, after: Any = None) -> dict[str, Tensor]:
    dense = torch.optim.SGD(module.parameters(), lr=0.3)
    for step, ids in enumerate(batches(steps), start=1):
        dense.zero_grad()
        module(ids, return_type="loss").backward()
        dense.step()
        if after is not None:
            after(step)
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_looking_leaves_no_trace_in_the_run() -> None:
    plain = train(fresh(), 6)
    module = fresh()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    with Watch(wrap(module, support.tokenizer()), TEXTS[:4], every=2, per_document=1) as watch:
        assert torch.get_rng_state().equal(state)
        watched = train(module, 6, watch)
    assert all(value.equal(watched[name]) for name, value in plain.items())
    assert module.training and all(part.training for part in module.modules())
    assert watch.result().data["step"].values.tolist() == [0, 2, 4, 6]


def test_the_numbers_are_those_of_the_analyses() -> None:
    module = fresh()
    model = wrap(module, support.tokenizer(), name="mine")
    start = record(model, TEXTS, sites=["blocks.1.engram.hook_gate"], logits=False)
    watch = Watch(model, TEXTS, every=3, per_document=2, seed=5)
    read: dict[int, list[Tensor]] = {1: [], 2: []}
    handles = [
        module.get_submodule(f"blocks.{layer}.engram.hook_rows").register_forward_hook(
            lambda part, _given, rows, into=read[layer]: (
                into.append(rows.flatten()) if part.training else None
            )
        )
        for layer in read
    ]
    train(module, 3, watch)
    for handle in handles:
        handle.remove()
    watch.close()
    found = watch.result()
    end = record(model, TEXTS, sites=["blocks.1.engram.hook_gate"], logits=False)
    counted = start.mask & (start.tokens != 0)
    moved = (end["blocks.1.engram.hook_gate"] - start["blocks.1.engram.hook_gate"])[counted].mean(0)
    np.testing.assert_allclose(found.data["shift"].sel(step=3, layer=1), moved, atol=1e-6)
    np.testing.assert_array_equal(found.data["shift"].sel(step=0), 0)
    assert (found.data["shift_low"] <= found.data["shift"]).all()
    useful = gates.usefulness(model, TEXTS, per_document=2, n_boot=200, seed=5, n_inits=0).data
    for name in ("mean_delta", "mean_delta_low", "auc"):
        np.testing.assert_allclose(found.data[name].sel(step=3), useful[name])
    assert model.layout is not None
    for place, layer in enumerate((1, 2)):
        share = len(torch.cat(read[layer]).unique()) / model.layout.rows[place]
        assert float(found.data["rows_touched"].sel(step=3, layer=layer)) == pytest.approx(share)
        assert float(found.data["rows_touched"].sel(step=0, layer=layer)) == 0
    assert found.data.attrs["null"] == "the same tokens at step 0"
    assert found.data.attrs["seed"] == 5
    before = float(found.data["rows_touched"].sel(step=3, layer=1))
    train(module, 5)  # after close() nothing is marked
    watch.look(9)
    assert float(watch.result().data["rows_touched"].sel(step=9, layer=1)) == before


def test_it_says_draws_and_saves_itself(tmp_path: Any) -> None:
    module = fresh()
    with Watch(wrap(module, support.tokenizer(), name="mine"), TEXTS, every=2, per_document=1) as watch:
        train(module, 2, watch)
    found = watch.result()
    said = found.summary()
    assert said.startswith("Gates of mine, steps 0 to 2 (")
    assert "of 4 layer–stream pairs moved off their value at step 0" in said
    assert "of the rows (layers 1 and 2); shutting one gate costs" in said
    for quantity in ("shift", "mean", "auc", "mean_delta", "rows_touched"):
        lines = found.plot(quantity=quantity).data
        assert len(lines) == (2 if quantity in {"mean_delta", "rows_touched"} else 4)
    again = TrainingWatch.load(found.save(tmp_path / "watch.nc"))
    assert again.data.identical(found.data)
    few = Watch(wrap(module, support.tokenizer()), TEXTS[:3], per_document=1).result().summary()
    assert "no interval of a shift is possible (an interval wants at least 20 documents" in few


def test_transformers_own_handler_calls_it() -> None:
    callbacks = pytest.importorskip("transformers.trainer_callback")
    training_arguments = pytest.importorskip("transformers.training_args")
    module = fresh(streams=1)
    watch = Watch(wrap(module, support.tokenizer()), TEXTS[:4], every=2, per_document=1)
    handler = callbacks.CallbackHandler([watch], module, None, None, None)
    arguments = training_arguments.TrainingArguments(report_to=[], use_cpu=True)
    state, control = callbacks.TrainerState(), callbacks.TrainerControl()
    handler.on_train_begin(arguments, state, control)

    def after(step: int) -> None:
        state.global_step = step
        assert handler.on_step_begin(arguments, state, control) is control
        assert handler.on_step_end(arguments, state, control) is control

    train(module, 4, after)
    handler.on_train_end(arguments, state, control)
    assert watch.result().data["step"].values.tolist() == [0, 2, 4]
    with pytest.raises(AttributeError, match="Watch has no elsewhere"):
        _ = watch.elsewhere


def test_what_cannot_be_watched_is_said() -> None:
    with pytest.raises(InputError, match="has no memory, so it has no gates"):
        Watch(support.subject(support.model_config()), TEXTS)
    with pytest.raises(InputError, match="every wants to be at least 1 step, got 0"):
        Watch(support.subject(), TEXTS, every=0)


def test_training_that_looks_rows_up_elsewhere() -> None:
    module = causal().train().requires_grad_(True)
    model = wrap(module, support.tokenizer(), name="q")
    unknown = Watch(model, TEXTS[:3], per_document=1).result()
    assert "Rows touched are not known (where training looks its rows up is not known" in unknown.summary()
    tables = {layer: module.model.layers[layer].ple.ple_embedding.ngram_embedding for layer in (1, 3)}
    with Watch(model, TEXTS[:3], tables=tables, per_document=1) as watch:
        optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
        ids = support.token_ids(2, 15)
        module(ids, labels=ids, use_cache=False).loss.backward()
        optimiser.step()
        watch.look(1)
    found = watch.result().data
    assert (found["rows_touched"].sel(step=1) > 0).all() and (found["rows_touched"].sel(step=0) == 0).all()
    assert (found["shift"].sel(step=1) != 0).all()
