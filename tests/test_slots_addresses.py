"""What a text looks up in tables that are not loaded."""

from pathlib import Path

import numpy as np
import pytest

from engram_interp import slots
from engram_interp.checkpoints.address_book import open_addresses
from engram_interp.checkpoints.table_rows import open_tables
from engram_interp.errors import InputError
from engram_interp.results import SlotLookup
from tests.checkpoints import v41_files


def test_addresses_alone(tmp_path: Path) -> None:
    v41_files.write(tmp_path / "book", tables=False)
    book = open_addresses(tmp_path / "book")
    found = slots.addresses(book, "The Kalo of Dor")
    tokens = book.model.to_tokens("The Kalo of Dor")
    assert found.data["address"].values.tolist() == book.addresses(tokens)[0].tolist()
    assert found.data["address"].dims == ("token", "layer", "column")
    assert np.isnan(found.data["row_norm"]).all()
    assert "no table is at hand" in found.data["row_norm"].attrs["missing"]
    sizes = found.data["table_bytes"].values.tolist()
    assert sizes == [rows * 64 for rows in v41_files.configuration()["text_config"]["engram_num_embeddings"]]
    assert (found.data["scale_bytes"].values * 32).tolist() == sizes
    assert (
        "with their scales); no share of the value could be given (the network was not run" in found.summary()
    )
    assert found.plot().to_dict()
    found.save(tmp_path / "found.nc")
    assert SlotLookup.load(tmp_path / "found.nc").data.identical(found.data)
    with pytest.raises(InputError, match="one prompt at a time, got 2"):
        slots.addresses(book, ["a", "b"])


def test_rows_names_and_dead_tokens(tmp_path: Path) -> None:
    tables = v41_files.write(tmp_path)
    book = open_addresses(tmp_path)
    ids = [0, *book.model.tokenizer.encode("Kalo", add_special_tokens=False).ids, v41_files.IMAGE, 40]
    found = slots.addresses(book, ids, tables=open_tables(book)).data
    for place, layer in enumerate(v41_files.LAYERS):
        norms = tables[layer].double().norm(dim=-1).numpy()[found["address"].values[:, place]]
        np.testing.assert_array_equal(found["row_norm"].values[:, place], norms)
    assert found["dead"].values.tolist() == [False] * (len(ids) - 2) + [True, False]
    assert str(found["ngram"].sel(order_index=4)[-2].item()) == "∅|∅|∅|∅"
    assert str(found["ngram"].sel(order_index=2)[-1].item()).startswith("∅|")
    distinct = sum(len(np.unique(found["address"].values[:, place])) for place in range(2))
    assert found.attrs["bytes_read"] == distinct * 66
    assert found.attrs["dtype"] == "none"


def test_one_shard_is_enough_for_its_layer(tmp_path: Path) -> None:
    v41_files.write(tmp_path)
    book = open_addresses(tmp_path)
    ids = book.model.to_tokens("The Kalo of Dor")
    whole = slots.addresses(book, ids, tables=open_tables(book)).data
    (tmp_path / v41_files.SHARDS[1]).unlink()
    part = slots.addresses(book, ids, tables=open_tables(book)).data
    assert np.isnan(part["row_norm"].sel(layer=1)).all()
    np.testing.assert_array_equal(part["row_norm"].sel(layer=3), whole["row_norm"].sel(layer=3))
    why = part["row_norm"].attrs["missing"]
    assert f"layer 1's table lies in {v41_files.SHARDS[1]}, not in" in why
    assert part.attrs["bytes_read"] == 66 * len(np.unique(part["address"].sel(layer=3)))
    assert part["address"].equals(whole["address"])


def test_an_index_of_a_text_without_weights(tmp_path: Path) -> None:
    v41_files.write(tmp_path / "book", tables=False)
    book = open_addresses(tmp_path / "book")
    index = slots.index(book.model, ["The Kalo of Dor", "THE Kalo of Mi"], out=tmp_path / "index")
    address = int(slots.addresses(book, "The Kalo of Dor").data["address"][2, 0, 0])
    lives = slots.occupants(book.model, index, layer=1, address=address).data
    assert int(lives["occurrences"]) >= 2
