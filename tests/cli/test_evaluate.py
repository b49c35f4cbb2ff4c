"""`evaluate`: nats a token, bits a byte."""

import json
import math
from pathlib import Path

import pytest

from tests import support
from tests.cli.harness import one_line, run


def test_nats_and_bits(folder: Path) -> None:
    result = run("evaluate", folder / "engram", "--text", folder / "valid.txt", "--json")
    found = json.loads(result.stdout)
    assert found["tokens"] % support.N_CTX == 0
    assert found["tokens_left_out"] < support.N_CTX
    ratio = found["tokens"] / found["bytes"] / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(found["nats_per_token"] * ratio)
    text = (folder / "valid.txt").read_text(encoding="utf-8")
    assert 0.9 * len(text.encode()) < found["bytes"] < len(text.encode())
    assert found["documents"] == 12
    assert "of" in result.stderr


def test_several_files_after_one_option(folder: Path) -> None:
    model, valid, other = (folder / name for name in ("engram", "valid.txt", "other.txt"))
    plain = run("evaluate", model, "--text", valid, other)
    assert plain.stdout == run("evaluate", model, "--text", valid, "--text", other).stdout
    assert "17 documents" in plain.stdout


def test_too_little_text(folder: Path) -> None:
    result = run("evaluate", folder / "engram", "--text", folder / "one.txt")
    one_line(result, "one window wants 30", "give more text")


def test_text_that_is_not_there(folder: Path) -> None:
    one_line(run("evaluate", folder / "engram", "--text", folder / "no.txt"), "No text file at")


def test_text_that_is_no_text(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    one_line(run("evaluate", folder / "engram", "--text", tmp_path / "x.txt"), "not UTF-8")
