"""Models of transformers as baselines: the numbers are transformers' own, both ways of running."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from engram_interp import depth, lens, opinions, pairs, skipping, stitching
from engram_interp.capture import intervene, record
from engram_interp.capture.store import capture, open_capture
from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.baseline import baseline_of, load_baseline
from engram_interp.checkpoints.subject import SubjectModel
from engram_interp.data import prompts
from engram_interp.errors import DamagedFileError, InputError
from tests import support
from tests.checkpoints import transformers_models as made

KINDS = ("gpt2", "llama", "qwen3", "gemma2")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("baselines")
    return {kind: made.saved(folder, kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_of_running_equal_transformers(models: dict[str, tuple[Any, Path]], kind: str) -> None:
    module, folder = models[kind]
    model = load_model(folder)
    assert (model.family, model.name, model.separator_id) == ("baseline", kind, 0)
    assert len(model.digest) == 64 and model.folder == folder.resolve()
    ids = made.random_ids(3, 17)
    with torch.inference_mode():
        wanted = module(ids).logits
        assert (model.logits(ids) - wanted).abs().max() < 1e-5
        output, cache = model.run_with_cache(ids)
    assert (output - wanted).abs().max() < 1e-5
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers)]
    rec = record(model, ids, sites=[*sites, "hook_embed", "blocks.*.hook_attn_out", "blocks.*.hook_mlp_out"])
    assert (rec.logits - wanted).abs().max() < 1e-5
    for site in sites:
        assert (rec[site] - cache[site]).abs().max() < 1e-5
    # The residual is the sum of what sublayers add, wherever a block normalises.
    for layer in range(1, model.n_layers):
        place = f"blocks.{layer}.hook"
        parts = (
            rec[f"blocks.{layer - 1}.hook_resid_post"] + rec[f"{place}_attn_out"] + rec[f"{place}_mlp_out"]
        )
        assert (parts - rec[f"{place}_resid_post"]).abs().max() < 1e-4
    with model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", lambda value, hook: value * 0)]):
        pass  # TransformerLens's own context manager, on its view
    attention = vars(model.module)["config"]._attn_implementation
    assert attention == module.config._attn_implementation == ("eager" if kind == "gemma2" else "sdpa")


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_block_is_given_is_a_site(models: dict[str, tuple[Any, Path]], kind: str) -> None:
    module, folder = models[kind]
    model, ids = load_model(folder), made.random_ids(2, 9)
    seen: dict[int, torch.Tensor] = {}
    blocks = module.transformer.h if kind == "gpt2" else module.model.layers
    for layer, block in enumerate(blocks):
        block.register_forward_pre_hook(
            lambda _part, given, named, at=layer: seen.update({at: [*given, *named.values()][0]}),
            with_kwargs=True,
        )
    module(ids)
    sites = [f"blocks.{layer}.hook_resid_pre" for layer in range(model.n_layers)]
    rec = record(model, ids, sites=sites)
    for layer, site in enumerate(sites):
        assert rec[site].equal(seen[layer])
    for block in blocks:
        block._forward_pre_hooks.clear()
    if kind == "llama":
        found = skipping.effect(model, support.documents(3, seed=1), n_boot=2)
        assert found.data["delta_loss"].sel(memory="skipped").notnull().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_lens_ends_at_the_models_answer(models: dict[str, tuple[Any, Path]], kind: str) -> None:
    model = load_model(models[kind][1])
    found = lens.convergence(model, support.documents(21, seed=2), limit=19, n_boot=20).data
    assert found.sizes["layer"] == model.n_layers
    assert float(found["kl"][-1]) == pytest.approx(0, abs=1e-6)
    assert float(found["kl"][0]) > 1e-3


def test_padding_changes_no_real_token(models: dict[str, tuple[Any, Path]]) -> None:
    for kind in KINDS:
        model = load_model(models[kind][1])
        short, long = [0, 5, 9], [0, 7, 8, 11, 12, 13]
        both = record(model, [short, long]).logits[0, :3]
        assert (both - record(model, [short]).logits[0]).abs().max() < 1e-5


def test_a_module_in_memory_is_left_as_it_was() -> None:
    module = made.random_module("gpt2")
    names = [name for name, _ in module.named_modules()]
    model = baseline_of(module, support.tokenizer(), name="live")
    ids = made.random_ids(2, 9)
    before = model.logits(ids)
    assert model.bridge is not None
    bridge = model.bridge()
    assert bridge is model.bridge()
    assert [name for name, _ in module.named_modules()] == names
    with intervene(model, {"blocks.2.hook_resid_post": lambda value: value * 0}):
        assert not model.logits(ids).equal(before)
    assert model.logits(ids).equal(before)
    with torch.no_grad():  # the view has the same weights
        module.lm_head.weight.mul_(2)
    assert (bridge(ids) - model.logits(ids)).abs().max() < 1e-5
    assert model.rebuild is not None
    fresh = model.rebuild()
    assert isinstance(fresh, nn.Module) and not fresh(ids).logits.equal(before)


def test_a_capture_of_it_gives_the_same_numbers(models: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    model, texts = load_model(models["llama"][1]), support.documents(22, seed=7)
    capture(model, texts, sites=["blocks.*.hook_resid_post"], out=tmp_path / "acts")
    kept = open_capture(tmp_path / "acts")
    live = lens.convergence(model, texts, n_boot=5).data
    np.testing.assert_allclose(lens.convergence(kept, n_boot=5).data["kl"], live["kl"], atol=1e-6)


# --- beside the bundled Engram model ---------------------------------------------------------------


@pytest.fixture(scope="module")
def engram() -> SubjectModel:
    return pairs.load("wiki-nano").engram


@pytest.fixture(scope="module")
def beside(engram: SubjectModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SubjectModel]:
    """A random model of each shape with the Engram model's tokenizer, opened from its directory."""
    folder = tmp_path_factory.mktemp("beside")
    out = {}
    for kind in KINDS[:3]:
        module = made.random_module(kind, d_vocab=engram.d_vocab)
        out[kind] = load_model(made.save(folder / kind, module, engram.tokenizer))
    return out


@pytest.mark.parametrize("kind", KINDS[:3])
def test_depth_and_lens_run_beside_the_bundled_model(
    engram: SubjectModel, beside: dict[str, SubjectModel], kind: str
) -> None:
    texts = prompts.load("entities").head(24)
    limit = beside[kind].n_ctx
    found = depth.compare(engram, beside[kind], texts, n_boot=20)
    assert found.data["cka"].shape == (engram.n_layers, beside[kind].n_layers)
    assert found.data.attrs["baseline"] == kind
    assert "layer" in found.summary()
    curves = [lens.convergence(model, texts, limit=limit, n_boot=5) for model in (engram, beside[kind])]
    assert curves[0].data["document_tokens"].equals(curves[1].data["document_tokens"])
    plain = [text[:200] for text in texts]  # no marks: the same tokens, so they can be paired
    assert depth.compare(engram, beside[kind], plain, n_boot=5).data["cka"].notnull().all()


def test_other_measures_run_beside_the_bundled_model(
    engram: SubjectModel, beside: dict[str, SubjectModel]
) -> None:
    texts = prompts.load("entities").head(12)
    second = opinions.compare(engram, beside["llama"], texts, n_boot=5)
    assert second.data.sizes["baseline_layer"] == 4
    stitched = stitching.compare(engram, beside["llama"], texts, max_tokens=16, n_boot=5).data
    own = np.diag(stitched["loss_self"])
    np.testing.assert_allclose(own, float(stitched["intact_loss"]), atol=1e-3)


def test_other_tokenizers_are_compared_at_entities_alone(
    engram: SubjectModel, models: dict[str, tuple[Any, Path]]
) -> None:
    other, texts = load_model(models["llama"][1]), prompts.load("entities").head(24)
    found = depth.compare(engram, other, texts, n_boot=5)
    assert found.data["cka"].shape == (engram.n_layers, 4)
    with pytest.raises(InputError, match=r"tokenizers differ .* compare them at marked entities"):
        depth.compare(engram, other, [text[:60] for text in texts], n_boot=5)
    with pytest.raises(InputError, match="tokens"):
        stitching.compare(engram, other, texts, n_boot=5)


# --- what cannot be opened -------------------------------------------------------------------------


def test_directories_that_do_not_fit(models: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    folder = models["llama"][1]
    lacking = made.without(folder, tmp_path / "lacking", key="model.layers.2.mlp.up_proj.weight")
    with pytest.raises(DamagedFileError, match=r"model.layers.2.mlp.up_proj.weight \(missing\); the two"):
        load_model(lacking)
    wider = made.changed(folder, tmp_path / "wider", intermediate_size=40)
    with pytest.raises(InputError, match=r"do not fit its config.json: .* \(of another shape\).* and 9 more"):
        load_model(wider)
    huge = made.changed(folder, tmp_path / "huge", hidden_size=4200, intermediate_size=90000)
    with pytest.raises(
        DamagedFileError, match=r"are 32,616 numbers and its .* a model of [\d,]{13}; the two"
    ):
        load_model(huge)
    short = made.changed(folder, tmp_path / "short", num_hidden_layers=3)
    with pytest.raises(DamagedFileError, match=r"model.layers.3.input_layernorm.weight \(unknown\)"):
        load_model(short)
    whole = (folder / "model.safetensors").read_bytes()
    (lacking / "model.safetensors").write_bytes(whole[:5000])
    with pytest.raises(DamagedFileError, match=r"lacking/model.safetensors is cut short: 5,000 bytes for"):
        load_model(lacking)
    (lacking / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"No model.safetensors.index.json in .*lacking"):
        load_model(lacking)
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (lacking / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"model-00002-of-00002.safetensors is missing; .* model.norm.weight"
    ):
        load_model(lacking)
    (lacking / "config.json").write_text('{"model_type": "llama", "hidden_size": "x"}', encoding="utf-8")
    (lacking / "model.safetensors").write_bytes(whole)
    (lacking / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match=r"transformers cannot open the llama model in .*lacking"):
        load_model(lacking)
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match=r"No tokenizer in .*llama; a model directory holds"):
        load_baseline(folder)
    (tmp_path / "tokenizer.json").rename(folder / "tokenizer.json")
    unheard = made.changed(folder, tmp_path / "unheard", model_type="unheard_of")
    with pytest.raises(
        InputError, match=r"family 'unheard_of', .* and causal language models of transformers"
    ):
        load_model(unheard)


def test_an_architecture_without_an_adapter_is_pointed_to_wrap() -> None:
    class Unheard(nn.Module):
        config = made.random_module("llama").config

    with pytest.raises(
        InputError, match=r"TransformerLens knows no Unheard; .*wrap\(module, tokenizer, sites="
    ):
        baseline_of(Unheard(), support.tokenizer(), name="x")
