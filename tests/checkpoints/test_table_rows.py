"""Rows read one by one, from the disk and over HTTP, and every way in which that can fail."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from engram_interp.checkpoints import byte_ranges, load_model
from engram_interp.checkpoints.address_book import open_addresses
from engram_interp.checkpoints.sharded import INDEX
from engram_interp.checkpoints.table_rows import has_tables, open_tables, row_bytes
from engram_interp.errors import DamagedFileError, InputError
from tests.checkpoints import v41, v41_files
from tests.checkpoints.range_server import Manner, Served, serving

ROWS = np.array([9, 300, 9, 0, 41, 300])


def test_rows_of_a_width_that_is_no_whole_blocks(tmp_path: Path) -> None:
    """As the loader of the whole model decodes them."""
    folder = v41.write(tmp_path / "tiny", engram_head_dim=33)
    opened, model = open_tables(open_addresses(folder)), load_model(folder).module
    assert row_bytes(33) == 35
    assert opened.read(3, ROWS).equal(model.get_parameter("blocks.3.engram.table.weight")[ROWS])


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(byte_ranges, "_PAUSE_SECONDS", 0.0)
    v41_files.write(tmp_path)
    with serving(tmp_path) as served:
        yield served


def test_rows_from_the_disk(tmp_path: Path) -> None:
    tables = v41_files.write(tmp_path)
    book = open_addresses(tmp_path)
    opened = open_tables(book)
    assert has_tables(book)
    for layer, table in tables.items():
        assert opened.read(layer, ROWS).equal(table[ROWS])
    assert opened.read(1, np.array([], np.int64)).shape == (0, v41_files.D_ROW)
    with pytest.raises(
        InputError, match=r"layers.3.engram.embed.weight has \d+ rows, and rows 2 … 99,999 were"
    ):
        opened.read(3, np.array([2, 99_999]))


def test_a_read_may_give_less_than_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pread = tmp_path / "file", os.pread
    path.write_bytes(bytes(range(100)))
    monkeypatch.setattr(os, "pread", lambda handle, count, start: pread(handle, min(count, 7), start))
    file = byte_ranges.LocalFile(path=path)
    assert file.read([(3, 90), (5, 6), (60, 100)]) == [bytes(range(3, 90)), b"\5", bytes(range(60, 100))]
    with pytest.raises(DamagedFileError, match="bytes 90 to 101 are wanted and the file ends at 100"):
        file.read([(90, 101)])


@pytest.mark.parametrize("moved", [False, True])
def test_rows_over_http_and_nothing_else(tmp_path: Path, server: Served, moved: bool) -> None:
    tables = v41_files.write(tmp_path)
    place = f"{server.address}/moved/some/revision" if moved else server.address
    book = open_addresses(place)
    assert book.model.name == place and has_tables(book)
    opened = open_tables(book)
    before = server.bytes_of(v41_files.SHARDS[1])
    assert opened.read(1, ROWS).equal(tables[1][ROWS])
    assert server.bytes_of(v41_files.SHARDS[1]) - before == len(set(ROWS)) * row_bytes(v41_files.D_ROW)
    read = [(start, stop) for file, start, stop in server.sent if file == v41_files.SHARDS[3]]
    assert max(stop for _, stop in read) < 2000  # of the other shard only the header


def test_a_hub_address(tmp_path: Path, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be read while HF_HUB_OFFLINE is set"):
        open_addresses("hf://somebody/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    book = open_addresses("hf://somebody/model@dba1be0a")
    assert book.model.name == "hf://somebody/model@dba1be0a"
    assert open_tables(book).read(1, ROWS).equal(v41_files.write(tmp_path)[1][ROWS])
    with pytest.raises(InputError, match="wants to be hf://OWNER/NAME or"):
        open_addresses("hf://model")


def test_a_connection_cut_once_is_tried_again(tmp_path: Path, server: Served) -> None:
    opened = open_tables(open_addresses(server.address))
    server.manner, server.failed = "cut once", False
    assert opened.read(1, ROWS).equal(v41_files.write(tmp_path)[1][ROWS])
    assert server.failed


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("whole", "ignores range requests .* download the file and give its directory"),
        ("cut", r"could not be read in 3 tries \(\w+Error: .*\); try again later"),
        ("busy", r"could not be read in 3 tries \(the server answered 503\)"),
        ("forbidden", r"may not be read \(the server answered 403\); accept its terms and log in"),
        ("other range", r"was asked for bytes \d+-\d+ and answered 206 with \d+-\d+ of \d+"),
    ],
)
def test_servers_that_misbehave(server: Served, manner: Manner, message: str) -> None:
    book = open_addresses(server.address)
    server.manner = manner
    with pytest.raises(InputError, match=message):
        open_tables(book)


def test_a_server_may_leave_the_size_out(tmp_path: Path, server: Served) -> None:
    tables = v41_files.write(tmp_path)
    server.manner = "no size"
    assert open_tables(open_addresses(server.address)).read(1, ROWS).equal(tables[1][ROWS])


def test_nothing_there(tmp_path: Path, server: Served) -> None:
    (tmp_path / v41_files.SHARDS[3]).unlink()
    book = open_addresses(server.address)
    with pytest.raises(InputError, match=rf"nothing at {server.address}/{v41_files.SHARDS[3]} \(.* 404\)"):
        open_tables(book)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match=r"There is nothing at http.*/config.json"):
        open_addresses(server.address)
    with pytest.raises(InputError, match=r"could not be read in 3 tries \(ConnectionError"):
        open_addresses("http://127.0.0.1:9")


def test_files_that_do_not_fit(tmp_path: Path, server: Served) -> None:
    shard, index = tmp_path / v41_files.SHARDS[3], tmp_path / INDEX
    whole = shard.read_bytes()
    shard.unlink()
    here, there = open_addresses(tmp_path), open_addresses(server.address)
    assert has_tables(here)  # the other one is there
    assert open_tables(here).read(1, ROWS).shape == (len(ROWS), v41_files.D_ROW)
    with pytest.raises(InputError, match=rf"lacks {shard.name}, which holds the table of layer 3; download"):
        open_tables(here).read(3, ROWS)
    other = tmp_path / v41_files.SHARDS[1]
    other.rename(tmp_path / "away")
    assert not has_tables(here)
    with pytest.raises(
        InputError, match=rf"lacks {other.name}, which holds layers.1.engram.embed.weight and"
    ):
        open_tables(here)
    (tmp_path / "away").rename(other)
    for content, message in (
        (whole[: len(whole) // 2], rf"{shard.name} is cut short: .* ends at byte [\d,]+ and the file at"),
        (b"x", "is cut short: bytes 0 to 8 are wanted"),
        (b"<html>" * 9, "is no safetensors file, or cut short: it begins with b'<html><h'"),
        ((4).to_bytes(8, "little") + b"[0] ", "is no safetensors header"),
        ((4).to_bytes(8, "little") + b"{}  ", "does not hold layers.3.engram.embed"),
    ):
        shard.write_bytes(content)
        for book in (here, there):
            with pytest.raises(DamagedFileError, match=message):
                open_tables(book)
    shard.write_bytes((tmp_path / v41_files.SHARDS[1]).read_bytes().replace(b"layers.1", b"layers.3"))
    with pytest.raises(
        InputError, match=r"embed.weight of .* is F8_E4M3 .* wants F8_E4M3 .* different models"
    ):
        open_tables(here)
    index.write_text(json.dumps({"weight_map": {}}), encoding="utf-8")
    assert not has_tables(here)
    with pytest.raises(InputError, match=r"knows no tensor layers.1.engram.embed.weight; is it this model's"):
        open_tables(here)
    index.write_text("{}", encoding="utf-8")
    with pytest.raises(DamagedFileError, match="holds no weight_map"):
        open_tables(here)
    index.unlink()
    assert not has_tables(here)


@pytest.mark.shared
@pytest.mark.parametrize("remote", [False, True])
def test_the_tiny_checkpoints_rows(shared_dir: Path, remote: bool) -> None:
    folder = shared_dir / "conformance" / "deepseek_v41_tiny"
    expected = load_file(folder / "expected" / "prompt_a.safetensors")
    with serving(folder / "checkpoint") as served:
        book = open_addresses(served.address if remote else folder / "checkpoint")
        opened = open_tables(book)
        for layer in (1, 3):
            wanted = expected[f"layers.{layer}.engram.rows"]
            addresses = expected[f"layers.{layer}.engram.hash_ids"].flatten().numpy()
            assert opened.read(layer, addresses).view(wanted.shape).equal(wanted)
