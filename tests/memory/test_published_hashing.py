"""DeepSeek-V4.1's token map, layout, multipliers and hash ids, as published, and those of a tiny one."""

import hashlib
import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from engram_interp.checkpoints.files import load_tokenizer
from engram_interp.memory import hashing
from engram_interp.memory.hashing import DEAD, Layout

pytestmark = pytest.mark.shared


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, "<i8").tobytes()).hexdigest()


@pytest.fixture(scope="module")
def vectors(shared_dir: Path) -> Any:
    path = shared_dir / "conformance" / "deepseek_v41_published_vectors.json"
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def v4_tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_str(lzma.decompress(path.read_bytes()).decode())


@pytest.fixture(scope="module")
def tokenizer(shared_dir: Path) -> Tokenizer:
    return v4_tokenizer(shared_dir / "data" / "tokenizer" / "deepseek_v4_tokenizer.json.xz")


@pytest.fixture(scope="module")
def token_map(tokenizer: Tokenizer) -> np.ndarray:
    return hashing.token_map(tokenizer)[0]


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout.deepseek(
        layer_ids=(1, 14), budget=16_000_000, max_order=4, heads=8, n_canonical=99_092, seed=0
    )


@pytest.fixture(scope="module")
def published(vectors: Any) -> dict[str, Any]:
    return {entry["name"]: entry for entry in vectors["hash_ids"]}


def rows_of(ids: Any, token_map: np.ndarray, layout: Layout) -> np.ndarray:
    canonical = token_map[np.asarray(ids, np.int64)][None]
    return hashing.addresses(canonical, layout, pad_id=int(token_map[2])).numpy()


def test_token_map(vectors: Any, tokenizer: Tokenizer, token_map: np.ndarray) -> None:
    wanted = vectors["token_map"]
    assert (len(token_map), int(token_map.max()) + 1) == (wanted["len"], wanted["compressed"])
    assert token_map[wanted["pad_token_id"]] == wanted["compressed_pad"]
    assert digest(token_map) == wanted["sha256_int64"]
    for text, (token, canonical) in wanted["samples"].items():
        assert tokenizer.token_to_id(text) == token
        assert token_map[token] == canonical


def test_layout(vectors: Any, layout: Layout) -> None:
    wanted = vectors["layout"]
    assert layout.rows.tolist() == wanted["rows"]
    assert layout.primes.tolist() == wanted["primes"]
    assert layout.offsets.tolist() == wanted["offsets"]
    assert layout.multipliers.tolist() == wanted["multipliers"]
    assert {k: digest(getattr(layout, k)) for k in wanted["sha256_int64"]} == wanted["sha256_int64"]


def test_products_wrap_around_in_int64(vectors: Any) -> None:
    def row_of(last: int, current: int, factor: int, rows: int) -> int:
        layout = Layout(primes=np.array([[[rows]]]), multipliers=np.array([[factor, 1]]))
        return int(hashing.addresses(np.array([[last, current]]), layout, pad_id=0)[0, 1])

    largest = 2**63 - 25  # prime; a value below it is its own remainder
    for row in vectors["int64_wrap"]["rows"]:
        a, b = row["a"], row["b"]
        assert row_of(0, a, b, largest) == row["product"]
        assert row_of(b, a, b, largest) == row["xor_b"]
        assert row_of(0, a, b, 16_000_057) == row["mod_16000057"]


def test_ids_0_3(published: Any, token_map: np.ndarray, layout: Layout) -> None:
    entry = published["ids_0_3"]
    rows = rows_of(entry["input_ids"], token_map, layout)
    wanted = entry["sha256_int64"]
    assert rows[0, :, 0].tolist() == entry["layer1"]
    assert rows[0, :, 1].tolist() == entry["layer14"]
    assert digest(rows) == wanted["all_[1,2,2,24]"]
    assert digest(rows[:, :, 0]) == wanted["layer1_[1,2,24]"]
    assert digest(rows[:, :, 1]) == wanted["layer14_[1,2,24]"]


def test_random_ids_2048(published: Any, token_map: np.ndarray, layout: Layout) -> None:
    entry = published["random_ids_2048"]
    ids = np.random.default_rng(4112026).integers(0, 129_280, size=2048, dtype=np.uint32)
    rows = rows_of(ids, token_map, layout)
    assert ids[:8].tolist() == entry["first_ids"]
    first = np.asarray(entry["first_positions"])
    assert rows[0, : len(first)].tolist() == first.tolist()
    assert digest(rows) == entry["rows_u64_[1,2048,2,24]_sha256"]


def test_alexander_from_its_text(
    published: Any, tokenizer: Tokenizer, token_map: np.ndarray, layout: Layout
) -> None:
    entry = published["alexander"]
    ids = [0, *tokenizer.encode(entry["text"], add_special_tokens=False).ids]
    assert ids == entry["input_ids"]
    rows = rows_of(ids, token_map, layout)
    assert rows[0, :, 0].tolist() == entry["layer1"]
    assert rows[0, :, 1].tolist() == entry["layer14"]


def test_masked_coding_positions(published: Any, layout: Layout) -> None:
    """The text is not published, but around a masked stretch only one id a position can give the rows."""
    wanted = np.asarray(published["coding_2048_masked"]["positions_96_101"])
    pad = 2
    dead = hashing.addresses(np.full((1, 3), DEAD), layout, pad_id=pad)[0].numpy()
    assert wanted[1:4].tolist() == dead.tolist()  # positions 97 to 99 are masked
    every = np.arange(99_092)

    def only_id(place: int, before: list[int]) -> int:
        known = np.tile(np.array([DEAD, *before], np.int64), (len(every), 1))
        ids = np.concatenate([known, every[:, None]], axis=1)
        rows = hashing.addresses(ids, layout, pad_id=pad)[:, -1].numpy()
        [found] = np.flatnonzero((rows == wanted[place]).all((1, 2)))
        return int(found)

    first = only_id(4, [])
    second = only_id(5, [first])
    rows = hashing.addresses(np.array([[DEAD, first, second]]), layout, pad_id=pad)[0].numpy()
    assert rows[1:].tolist() == wanted[4:].tolist()


@pytest.fixture(scope="module")
def tiny(shared_dir: Path) -> dict[str, np.ndarray]:
    return load_file(shared_dir / "conformance" / "deepseek_v41_tiny" / "expected" / "units.safetensors")


def test_tiny_checkpoint_hashes_as_expected(shared_dir: Path, tiny: dict[str, np.ndarray]) -> None:
    folder = shared_dir / "conformance" / "deepseek_v41_tiny" / "checkpoint"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_config"]
    mapping, count = hashing.token_map(load_tokenizer(folder / "tokenizer.json"))
    assert mapping.tolist() == tiny["hash.token_map"].tolist()
    assert count == config["engram_compressed_vocab_size"]
    pad = int(mapping[config["engram_pad_token_id"]])
    assert [pad] == tiny["hash.pad_compressed_id"].tolist()
    layout = Layout.deepseek(
        layer_ids=config["engram_layer_ids"],
        budget=config["engram_vocab_size"],
        max_order=config["engram_max_ngram_size"],
        heads=config["engram_n_heads"],
        n_canonical=count,
    )
    for name in ("primes", "offsets", "multipliers"):
        assert getattr(layout, name).tolist() == tiny[f"hash.{name}"].tolist()
    assert layout.rows.tolist() == config["engram_num_embeddings"]
    ids = torch.from_numpy(mapping[tiny["hash.random.input_ids"]])
    rows = hashing.addresses(ids, layout, pad_id=pad)
    assert rows.tolist() == tiny["hash.random.rows"].tolist()
    masked = ids.masked_fill(torch.from_numpy(tiny["hash.masked.token_mask"]) == 0, DEAD)
    assert masked.tolist() == tiny["hash.masked.compressed_ids"].tolist()
    rows = hashing.addresses(masked, layout, pad_id=pad)
    assert rows.tolist() == tiny["hash.masked.rows"].tolist()


@pytest.mark.parametrize("prompt", ["a", "b", "c"])
def test_tiny_checkpoint_prompts(shared_dir: Path, tiny: dict[str, np.ndarray], prompt: str) -> None:
    path = shared_dir / "conformance" / "deepseek_v41_tiny" / "expected" / f"prompt_{prompt}.safetensors"
    wanted = load_file(path)
    canonical = tiny["hash.token_map"][wanted["input_ids"]]
    assert canonical.tolist() == wanted["compressed_ids"].tolist()
    layout = Layout(primes=tiny["hash.primes"], multipliers=tiny["hash.multipliers"], layer_ids=(1, 3))
    rows = hashing.addresses(canonical[None], layout, pad_id=int(tiny["hash.pad_compressed_id"][0]))[0]
    for index, layer in enumerate(layout.layer_ids):
        assert rows[:, index].tolist() == wanted[f"layers.{layer}.engram.hash_ids"].tolist()


def test_qwen4_exp_layout_and_rows(shared_dir: Path) -> None:
    folder = shared_dir / "conformance" / "qwen4_exp"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    layout = Layout.qwen4_exp(
        layer_ids=[i - 1 for i in config["ple_layer_ids"]],  # the checkpoint counts from 1
        base=config["ngram_vocab_size_base"],
        max_order=config["ngram_size"],
        heads=config["heads_per_ngram"],
        d_vocab=config["vocab_size"],
        seed=config["seed"],
    )
    tables = load_file(folder / "expected" / "tables.safetensors")
    for index, layer in enumerate(layout.layer_ids):
        assert layout.multipliers[index].tolist() == tables[f"layers.{layer}.layer_multipliers"].tolist()
        sizes = layout.primes[index].flatten()
        assert sizes.tolist() == tables[f"layers.{layer}.ngram_heads_vocab_sizes"].tolist()
        assert layout.offsets[index].tolist() == tables[f"layers.{layer}.ngram_heads_offsets"].tolist()
    eos = config["eos_token_id"]
    for prompt in "abc":
        wanted = load_file(folder / "expected" / f"prompt_{prompt}.safetensors")
        ids = torch.from_numpy(wanted["input_ids"])[None]
        split = hashing.segments(ids, separator_id=eos, boundary="separator_ends")
        rows = hashing.addresses(ids, layout, pad_id=eos, segment_ids=split)[0]
        for index, layer in enumerate(layout.layer_ids):
            assert rows[:, index].tolist() == wanted[f"layers.{layer}.ple.row_ids"].tolist()
