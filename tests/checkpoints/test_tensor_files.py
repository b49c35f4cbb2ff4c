"""Safetensors byte by byte: the same as the library's, and damage named before it is read."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engram_interp.checkpoints.row_reader import fetch, read_rows
from engram_interp.checkpoints.sharded import INDEX, check_against, open_shards
from engram_interp.checkpoints.tensor_files import Reader, read_header, write_tensors
from engram_interp.errors import DamagedFileError, InputError


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 255, (7, 5), generator=generator, dtype=torch.uint8)
    return {
        "a": torch.randn(3, 4, 2, generator=generator),
        "b": torch.randn(6, generator=generator).bfloat16(),
        "c": raw.view(torch.float8_e4m3fn),
        "d": raw.clone().view(torch.float8_e8m0fnu),
        "e": torch.tensor(9),
    }


def test_files_are_those_of_the_library(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    write_tensors(tmp_path / "ours.safetensors", tensors)
    save_file(tensors, tmp_path / "theirs.safetensors")
    for name in ("ours", "theirs"):
        path = tmp_path / f"{name}.safetensors"
        loaded, places = load_file(path), read_header(path)
        with Reader() as reader:
            for key, value in tensors.items():
                found = reader.tensor(places[key])
                assert (found.dtype, found.shape) == (value.dtype, value.shape)
                for other in (value, loaded[key]):
                    assert found.view(-1).view(torch.uint8).equal(other.view(-1).view(torch.uint8))
        assert reader.done == sum(value.nbytes for value in tensors.values())


def test_rows_are_read_once_each_and_in_file_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).integers(0, 255, (5000, 24), dtype=np.uint8)
    write_tensors(tmp_path / "t.safetensors", {"x": torch.zeros(3), "t": torch.from_numpy(table)})
    place = read_header(tmp_path / "t.safetensors")["t"]
    rows = np.unique(np.random.default_rng(1).integers(0, 5000, 3000))
    reader = Reader()
    assert np.array_equal(read_rows(reader, place, rows), table[rows])
    assert reader.done == len(rows) * 24
    with monkeypatch.context() as patch:  # one read may give less than was asked for
        preadv = os.preadv
        patch.setattr(os, "preadv", lambda handle, into, start: preadv(handle, [into[0][:17]], start))
        assert np.array_equal(read_rows(reader, place, rows), table[rows])
    wide = np.random.default_rng(2).integers(0, 5000, (4, 9, 3))
    found = fetch(reader, place, place, wide)
    assert found.rows.tolist() == sorted(set(wide.flatten().tolist()))
    with pytest.raises(IndexError):
        found(torch.tensor([[[next(i for i in range(5000) if i not in found.rows)]]]))
    with pytest.raises(InputError, match="distinct rows in rising order"):
        read_rows(reader, place, np.array([3, 3]))
    with pytest.raises(InputError, match=r"t has 5,000 rows, and rows 2 … 5,000 were asked for"):
        read_rows(reader, place, np.array([2, 5000]))
    assert read_rows(reader, place, np.array([], np.int64)).shape == (0, 24)


def test_damage_is_named(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "m.safetensors"
    write_tensors(path, tensors)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    broken = (
        whole[:8]
        + whole[8 : 8 + length].replace(b'"shape":[3,4,2]', b'"shape":[3,4,3]')
        + whole[8 + length :]
    )
    for content, words in (
        (whole[:-1], r"m.safetensors is cut short: [\d,]+ bytes for [\d,]+"),
        (whole + b"x", "longer than its header says"),
        (whole[:5], "no safetensors file, or cut short"),
        (whole[:40], "cut short within its header"),
        (whole[:8] + b"{" * length + whole[8 + length :], "is no safetensors header"),
        (broken, r"says that a \[3, 4, 3\] F32 takes bytes 0 to 96, and it would take 144"),
    ):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=words):
            read_header(path)
    path.write_bytes(whole.replace(b"BF16", b"C128"))
    with pytest.raises(InputError, match="tensors of type C128; we read F64"):
        read_header(path)
    with pytest.raises(InputError, match="No weights at"):
        read_header(tmp_path / "none")


def test_shards_may_be_absent_until_they_are_asked_for(tmp_path: Path) -> None:
    for number in (1, 2):
        write_tensors(tmp_path / f"{number}.safetensors", {f"{n}{number}": torch.ones(2) for n in "ab"})
    files = {f"{n}{i}": f"{i}.safetensors" for n in "abc" for i in (1, 2, 3) if n != "c" or i == 3}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": files}))
    shards = open_shards(tmp_path)
    assert shards.absent == {"3.safetensors": ["a3", "b3", "c3"]}
    assert shards.place("b2").shape == (2,)
    with pytest.raises(InputError, match=r"3.safetensors is missing; it holds b3, a3\. Fetch it"):
        shards.require(["b2", "b3", "a3"])
    with pytest.raises(InputError, match="has no z, which its config wants"):
        shards.require(["z"])
    write_tensors(tmp_path / "3.safetensors", {"a3": torch.ones(1)})
    with pytest.raises(DamagedFileError, match=r"does not hold what the index says, they differ in b3, c3"):
        open_shards(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(DamagedFileError, match="no weight_map"):
        open_shards(tmp_path)


def test_what_is_unknown_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {n: torch.ones(2, 3) for n in ("a", "eye.x", "strange")})
    shards = open_shards(tmp_path)
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {"a": ("F32", (2, 3))}
    with pytest.raises(InputError, match="tensors that we do not know: strange"):
        check_against(shards, wanted, ignored=("eye.", "ear."))
    assert check_against(shards, wanted, ignored=("eye.", "ear.", "strange")) == ("eye.", "strange")
    with pytest.raises(InputError, match=r"lacks b, which its config.json wants"):
        check_against(shards, wanted | {"b": ("F32", (1,))}, ignored=("eye.", "strange"))
    with pytest.raises(
        DamagedFileError, match=r"another shape than the config gives: \[2, 3\] F32 for \[2, 4\]"
    ):
        check_against(shards, {"a": ("F32", (2, 4))}, ignored=("eye.", "strange"))
