"""Addresses from two small files, and what is refused because every address would be wrong."""

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engram_interp.checkpoints.address_book import is_book, open_addresses
from engram_interp.errors import DamagedFileError, InputError
from engram_interp.memory import hashing
from tests import support
from tests.checkpoints import v41_files


def test_addresses_are_those_of_the_rule(tmp_path: Path) -> None:
    v41_files.write(tmp_path, tables=False)
    book = open_addresses(tmp_path)
    mapping, count = hashing.token_map(support.tokenizer())
    layout = hashing.Layout.deepseek(layer_ids=(1, 3), budget=50, max_order=4, heads=2, n_canonical=count)
    ids = support.token_ids(2, 9)
    ids[ids == v41_files.IMAGE] = 8
    assert book.addresses(ids).equal(hashing.addresses(mapping[ids], layout, pad_id=int(mapping[2])))
    assert (book.d_row, book.model.n_streams, book.model.separator_id) == (64, 3, 0)
    assert is_book(tmp_path) and not is_book(tmp_path / "elsewhere")


def test_windows_stop_at_images(tmp_path: Path) -> None:
    v41_files.write(tmp_path, tables=False)
    book = open_addresses(tmp_path)
    ids = torch.tensor([[0, 40, v41_files.IMAGE, 41, 42]])
    rows = book.addresses(ids)
    assert book.dead(ids).tolist() == [[False, False, True, False, False]]
    assert rows[0, 3:].equal(book.addresses(ids[:, 3:])[0])
    padding = hashing.addresses(np.full((1, 1), hashing.DEAD), book.model.layout, pad_id=book.pad_id)  # type: ignore[arg-type]
    assert rows[0, 2].equal(padding[0, 0])


def test_it_cannot_be_run(tmp_path: Path) -> None:
    v41_files.write(tmp_path, tables=False)
    with pytest.raises(InputError, match="no weights, so it cannot be run on 2 tokens; load the checkpoint"):
        open_addresses(tmp_path).model.logits(torch.tensor([[0, 1]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"engram_compressed_vocab_size": 250},
            r"331 ids and \d+ canonical ids, and .* 331 and 250, so every",
        ),
        ({"vocab_size": 400}, r"has 331 ids .* trained with 400 and \d+"),
        ({"engram_num_embeddings": [10, 20]}, r"says \[10, 20\]; it hashes by another rule"),
        ({"engram_hash": "polynomial"}, "has engram_hash, which this version does not know"),
    ],
)
def test_what_would_make_addresses_wrong_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    v41_files.write(tmp_path, tables=False, **changes)
    with pytest.raises(InputError, match=message):
        open_addresses(tmp_path)


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No model directory at .*; give one, an https:// address or hf://"):
        open_addresses(tmp_path / "none")
    with pytest.raises(InputError, match=r"No config.json in"):
        open_addresses(tmp_path)
    v41_files.write(tmp_path, tables=False)
    config = v41_files.configuration()
    del config["text_config"]["engram_pad_token_id"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="lacks engram_pad_token_id, which fix addresses"):
        open_addresses(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(InputError, match="of family 'llama', and addresses without weights are known of"):
        open_addresses(tmp_path)
    (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(DamagedFileError, match="wants to hold a JSON object, got a list"):
        open_addresses(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"config.json of .* is not valid JSON"):
        open_addresses(tmp_path)
    v41_files.write(tmp_path, tables=False)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"tokenizer.json of .* is not a tokenizer file"):
        open_addresses(tmp_path)


@pytest.mark.shared
def test_the_released_models_addresses(shared_dir: Path, tmp_path: Path) -> None:
    published = json.loads(
        (shared_dir / "conformance" / "deepseek_v41_published_vectors.json").read_text(encoding="utf-8")
    )
    packed = shared_dir / "data" / "tokenizer" / "deepseek_v4_tokenizer.json.xz"
    (tmp_path / "tokenizer.json").write_bytes(lzma.decompress(packed.read_bytes()))
    sizes = {"vocab_size": 129_280, "hidden_size": 5120, "num_hidden_layers": 40, "hc_mult": 4}
    text = sizes | {
        "engram_layer_ids": [1, 14],
        "engram_num_embeddings": published["layout"]["rows"],
        "engram_max_ngram_size": 4,
        "engram_vocab_size": 16_000_000,
        "engram_n_heads": 8,
        "engram_head_dim": 256,
        "engram_pad_token_id": 2,
        "engram_compressed_vocab_size": 99_092,
    }
    config = {"model_type": "deepseek_v41", "bos_token_id": 0, "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    book = open_addresses(tmp_path)
    entry = next(e for e in published["hash_ids"] if e["name"] == "alexander")
    tokens = book.model.to_tokens(entry["text"])
    assert tokens[0].tolist() == entry["input_ids"]
    rows = book.addresses(tokens)[0]
    assert rows[:, 0].tolist() == entry["layer1"]
    assert rows[:, 1].tolist() == entry["layer14"]
    assert book.model.layout is not None
    assert book.model.layout.multipliers.tolist() == published["layout"]["multipliers"]
    assert book.model.layout.primes.tolist() == published["layout"]["primes"]
    # Another map with as many canonical ids is found out by its digest: two ids change places.
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["Ġthe"], vocabulary["Ġhorse"] = vocabulary["Ġhorse"], vocabulary["Ġthe"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(InputError, match=r"has 99,092 canonical ids as DeepSeek-V4.1 does, but others"):
        open_addresses(tmp_path)


@pytest.mark.shared
@pytest.mark.parametrize("prompt", ["a", "b", "c"])
def test_the_tiny_checkpoints_addresses(shared_dir: Path, prompt: str) -> None:
    folder = shared_dir / "conformance" / "deepseek_v41_tiny"
    expected = load_file(folder / "expected" / f"prompt_{prompt}.safetensors")
    rows = open_addresses(folder / "checkpoint").addresses(expected["input_ids"][None])[0]
    for place, layer in enumerate((1, 3)):
        assert rows[:, place].equal(expected[f"layers.{layer}.engram.hash_ids"])
