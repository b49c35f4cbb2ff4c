"""Tests of the bundled pair: that it is what its papers and the README say."""

import re
from pathlib import Path

import numpy as np
import pytest

from engram_interp import pairs
from engram_interp.capture import record
from engram_interp.checkpoints import load_model
from engram_interp.data.documents import documents
from engram_interp.data.packing import encode_stream
from engram_interp.errors import InputError
from engram_interp.model.training.evaluate import held_out_loss
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.results import DepthResult, open_bundle

README = Path(__file__).resolve().parent.parent / "README.md"
LARGEST = 22_000_000


@pytest.fixture(scope="module")
def pair() -> pairs.Pair:
    return pairs.load("wiki-nano")


def test_both_models_share_all_but_the_memory(pair: pairs.Pair) -> None:
    engram, baseline = pair.engram.module, pair.baseline.module
    assert isinstance(engram, HookedEngramTransformer) and isinstance(baseline, HookedEngramTransformer)
    assert engram.cfg.memory_layers == (1, 4) and baseline.cfg.memory_layers == ()
    shared = {k: v.shape for k, v in baseline.state_dict().items()}
    assert {k: v.shape for k, v in engram.state_dict().items() if ".engram." not in k} == shared
    runs = [pair.training[part] for part in ("engram", "baseline")]
    assert runs[0]["text_sha256"] == runs[1]["text_sha256"]
    assert runs[0]["trained_tokens"] == runs[1]["trained_tokens"] >= 4_000_000
    assert runs[0]["recipe"]["schedule"]["seed"] == runs[1]["recipe"]["schedule"]["seed"]


def test_hits_are_the_reads_of_training(pair: pairs.Pair) -> None:
    tokens = pair.training["engram"]["trained_tokens"]
    assert pair.engram.layout is not None
    assert {layer: int(h.sum()) for layer, h in pair.engram.hits.items()} == dict.fromkeys(
        (1, 4), tokens * pair.engram.layout.columns
    )


def test_the_pair_is_small_enough_to_travel() -> None:
    folder = pairs.bundle_path("wiki-nano").parent.parent / "pairs" / "wiki-nano"
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) <= LARGEST


def test_storing_it_small_cost_nothing(pair: pairs.Pair) -> None:
    for facts in pair.training.values():
        assert abs(facts["shipped"]["valid_loss"] - facts["valid_loss"]) < 0.0005


def readme_losses() -> list[float]:
    """Baseline and Engram loss as the README's table gives them."""
    row = re.search(r"held-out loss.*", README.read_text(encoding="utf-8"))
    assert row is not None
    return [float(x) for x in re.findall(r"\d\.\d{3}", row.group())]


def test_the_readme_gives_the_recorded_losses(pair: pairs.Pair) -> None:
    recorded = [pair.training[part]["shipped"]["valid_loss"] for part in ("baseline", "engram")]
    np.testing.assert_allclose(readme_losses(), recorded, atol=5e-4)


@pytest.mark.shared
def test_the_losses_are_measured_again(pair: pairs.Pair, shared_dir: Path) -> None:
    valid = [shared_dir / "data" / "wiki" / "wiki_valid.txt.xz"]
    models = {"baseline": pair.baseline, "engram": pair.engram}
    for expected, (part, subject) in zip(readme_losses(), models.items(), strict=True):
        assert subject.separator_id is not None and isinstance(subject.module, HookedEngramTransformer)
        stream = encode_stream(documents(valid), subject.tokenizer, separator_id=subject.separator_id)
        found = held_out_loss(subject.module, stream)
        assert found.tokens == pair.training[part]["valid_tokens"]
        assert abs(found.loss - expected) < 0.002


def test_the_bundle_is_of_these_weights(pair: pairs.Pair) -> None:
    depth = open_bundle(pairs.bundle_path("wiki-nano"))["depth"]
    assert isinstance(depth, DepthResult)
    assert depth.data.attrs["engram_digest"] == pair.engram.digest
    assert depth.data.attrs["baseline_digest"] == pair.baseline.digest


def test_the_readme_says_what_the_bundle_holds() -> None:
    text = " ".join(README.read_text(encoding="utf-8").split())
    bundle = open_bundle(pairs.bundle_path("wiki-nano"))
    depth, effect = bundle["depth"].data, bundle["ablation"].data.sel(kind="rows_zero")
    lens = [bundle[f"lens-{part}"].data["kl"][4] for part in ("engram", "baseline")]
    ends = (float(depth["headline_low"]), float(depth["headline_high"]))
    where = "later" if float(depth["headline"]) > 0 else "earlier"
    low, high = ends if where == "later" else (-ends[1], -ends[0])
    for words in (
        f"{abs(float(depth['headline'])):.2f} layers *{where}* [{low:.2f}, {high:.2f}]",
        f"{float(depth['control_shift']):.2f} [{float(depth['control_shift_low']):.2f}, "
        f"{float(depth['control_shift_high']):.2f}]",
        f"({float(lens[0]):.2f} against {float(lens[1]):.2f} nats of KL after layer 4)",
        f"{float(effect['delta_loss']):.2f} nats [{float(effect['delta_loss_low']):.2f}, "
        f"{float(effect['delta_loss_high']):.2f}]",
        f"costs {float(effect['control_delta_loss']):.2f}",
    ):
        assert words.replace("-", "−") in text.replace("-", "−")


def test_residual_parts_sum_to_the_logits(pair: pairs.Pair) -> None:
    model = pair.engram.module
    assert isinstance(model, HookedEngramTransformer)
    logits, cache = pair.engram.run_with_cache(pair.engram.to_tokens("Pope John Paul"))
    parts, labels = cache.decompose_resid(apply_ln=True, return_labels=True)
    assert {"1_engram_out", "4_engram_out"} <= set(labels)
    assert float((model.unembed(parts.sum(0)) - logits).abs().max()) < 1e-4


def test_examples_end_where_the_text_went_on(pair: pairs.Pair) -> None:
    for example in pairs.examples("wiki-nano"):
        assert example["count"] > 0
        assert f"{example['text']} {example['next']}" == example["phrase"]
        assert record(pair.engram, example["text"]).logits.isfinite().all()


def test_an_unknown_pair_names_those_there_are() -> None:
    with pytest.raises(InputError, match="No packaged pair 'wiki-mega'; there are wiki-nano"):
        pairs.load("wiki-mega")


def test_packaged_models_lie_where_they_are_said_to_and_are_called_so() -> None:
    found = pairs.with_memory()
    assert set(found) == {"wiki-nano/engram", "planted"}
    for name, folder in found.items():
        model = load_model(name.removesuffix("/engram"))
        assert model.name == name and model.memory_layers and (folder / "model.safetensors").is_file()
