"""Every tensor of the reference forward pass, in memory and streamed, the two bit for bit equal."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engram_interp.capture import Recording, record, streamed
from engram_interp.capture.captured import open_capture
from engram_interp.capture.source import recorded
from engram_interp.checkpoints import SubjectModel, load_model
from engram_interp.model.deepseek_v41 import fake_quantise
from engram_interp.model.deepseek_v41.backbone import DeepSeekV41
from engram_interp.model.deepseek_v41.indexer import candidate_blocks
from engram_interp.model.deepseek_v41.rope import frequencies

pytestmark = pytest.mark.shared

PROMPTS = "abc"
SITES = {
    "engram.hash_ids": "engram.hook_rows",
    "engram.rows": "engram.hook_memory",
    "engram.key": "engram.hook_mem_key",
    "engram.value": "engram.hook_mem_value",
    "engram.dot": "engram.hook_score",
    "engram.gate": "engram.hook_gate",
    "streams.before_engram": "hook_resid_pre",
    "streams.after_attn": "hook_resid_mid",
    "streams.after_ffn": "hook_resid_post",
    "attn.out": "hook_attn_out",
    "ffn.out": "hook_mlp_out",
    **{f"hc.attn.{name}": f"hc_attn.hook_{name}" for name in ("pre", "post", "comb")},
    **{f"hc.ffn.{name}": f"hc_mlp.hook_{name}" for name in ("pre", "post", "comb")},
    "index.selected": "attn.hook_index_selected",
    "index.candidates": "attn.hook_index_candidates",
    "moe.indices": "mlp.hook_expert_ids",
    "moe.weights": "mlp.hook_expert_weights",
}


class Fixture:
    def __init__(self, folder: Path) -> None:
        self.checkpoint, self.expected = folder / "checkpoint", folder / "expected"
        self.prompts = [load_file(self.expected / f"prompt_{p}.safetensors") for p in PROMPTS]
        self.ids = [prompt["input_ids"].tolist() for prompt in self.prompts]
        self.allowed = json.loads((self.expected / "tolerances.json").read_text())["absolute"]
        self.model = load_model(self.checkpoint)
        self.sites = list(self.model.sites)


@pytest.fixture(scope="module")
def tiny(shared_dir: Path) -> Fixture:
    return Fixture(shared_dir / "conformance" / "deepseek_v41_tiny")


@pytest.fixture(scope="module")
def memory(tiny: Fixture) -> Recording:
    return record(tiny.model, tiny.ids, sites=tiny.sites)


@pytest.fixture(scope="module")
def disk(tiny: Fixture, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    out = tmp_path_factory.mktemp("streamed") / "c"
    model = load_model(tiny.checkpoint, weights="disk")
    streamed.capture(model, tiny.ids, sites=tiny.sites, out=out, batch_size=2)
    found = open_capture(out, model=model, check="checksums")
    return recorded(found, found.encoded, tiny.sites)


def _found(rec: Recording, name: str, prompt: int, length: int) -> Tensor:
    if name in ("logits", "final_hidden"):
        return rec[{"logits": "hook_logits", "final_hidden": "ln_final.hook_normalized"}[name]][
            prompt, :length
        ]
    _, layer, kind = name.split(".", 2)
    if kind == "streams.after_engram":
        parts = [rec[f"blocks.{layer}.hook_{s}"][prompt, :length] for s in ("resid_pre", "engram_out")]
        return parts[0] + parts[1]
    return rec[f"blocks.{layer}.{SITES[kind]}"][prompt, :length]


def _check(tiny: Fixture, rec: Recording) -> None:
    compared = set()
    for number, wanted in enumerate(tiny.prompts):
        length = len(tiny.ids[number])
        for name, expected in wanted.items():
            value = expected
            kind = name.split(".", 2)[2] if name.startswith("layers.") else name
            if kind in ("input_ids", "compressed_ids"):
                continue
            found = _found(rec, name, number, length)
            if kind.startswith("index."):
                found = found[:, : value.shape[1]]
            if kind.startswith("moe."):
                ids = name.replace("weights", "indices")
                found = found.gather(1, _found(rec, ids, number, length).argsort(1))
                value = value.gather(1, wanted[ids].argsort(1))
            apart = float((found.double() - value.double()).abs().max())
            assert apart <= tiny.allowed.get(kind, 0), f"{name} of prompt {PROMPTS[number]}: {apart:.2g}"
            compared.add(kind)
    assert compared == {*SITES, "streams.after_engram", "logits", "final_hidden"}


def test_in_memory(tiny: Fixture, memory: Recording) -> None:
    _check(tiny, memory)


def test_streamed(tiny: Fixture, disk: Recording) -> None:
    _check(tiny, disk)


def test_streamed_is_as_in_memory_bit_for_bit(tiny: Fixture, memory: Recording, disk: Recording) -> None:
    for site in tiny.sites:
        assert torch.equal(memory[site][memory.mask], disk[site][disk.mask]), site


def test_no_prompt_feels_its_batch(tiny: Fixture, memory: Recording) -> None:
    for number, ids in enumerate(tiny.ids):
        alone = record(tiny.model, [ids], sites=tiny.sites)
        for site in tiny.sites:
            own, among = alone[site][0], memory[site][number, : len(ids)]
            assert torch.equal(own, among[..., : own.shape[-1]]), site
        assert torch.equal(alone.logits[0], memory.logits[number, : len(ids)])


def test_every_layer_sees_every_token(tiny: Fixture, disk: Recording) -> None:
    """A serving engine may skip late layers for early tokens; a capture must not."""
    counts = {len(disk[f"blocks.{layer}.hook_resid_post"][disk.mask]) for layer in range(tiny.model.n_layers)}
    assert counts == {sum(map(len, tiny.ids))}


def _backbone(model: SubjectModel) -> DeepSeekV41:
    assert isinstance(model.module, DeepSeekV41)
    return model.module


def test_units(tiny: Fixture) -> None:
    units: dict[str, Any] = load_file(tiny.expected / "units.safetensors")
    quantisers = {"fp8_block32_ue8m0": fake_quantise.fp8, "fp4_block32_ue8m0": fake_quantise.fp4}
    for name, quantise in (quantisers | {"fp4_block16_e4m3": fake_quantise.fp4_e4m3}).items():
        assert torch.equal(quantise(units["quant.input"]), units[f"quant.{name}"]), name
    model = _backbone(tiny.model)
    for name, compressed in (("main", False), ("compress", True)):
        found = frequencies(model.cfg, compressed=compressed)
        assert torch.allclose(found, units[f"rope.{name}.inv_freq"], rtol=1e-6, atol=0)
    mixes = model.blocks[0].get_submodule("hc_attn")(units["hc.layer0_attn.input_streams"][None])
    for name, mix in zip(("pre", "post", "comb"), mixes, strict=True):
        assert (
            float((mix[0] - units[f"hc.layer0_attn.{name}"]).abs().max()) <= tiny.allowed[f"hc.attn.{name}"]
        )
    for blocks, size in ((2, 4), (3, 3)):
        kept = candidate_blocks(
            units["candidates.logits"], units["candidates.visible"], blocks=blocks, size=size
        )
        assert torch.equal(kept.byte(), units[f"candidates.keep_blocks{blocks}_size{size}"])
