"""Eight and four bits looked up in tables: every code, blocks at the edges, the published bytes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engram_interp.checkpoints import decoding
from engram_interp.errors import DamagedFileError

EVERY = np.arange(256, dtype=np.uint8)


def test_every_fp8_code_with_every_scale_is_torchs() -> None:
    found = decoding.fp8_rows(np.tile(EVERY, (256, 1)), np.repeat(EVERY[:, None], 8, axis=1))
    codes = torch.from_numpy(EVERY)
    wanted = codes.view(torch.float8_e4m3fn).float() * codes.view(torch.float8_e8m0fnu).float()[:, None]
    assert torch.equal(found.nan_to_num(7), wanted.nan_to_num(7))


def test_every_fp4_code_low_nibble_first() -> None:
    found = decoding.fp4(EVERY.reshape(16, 16), np.full((16, 1), 128, np.uint8))
    magnitude = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    values = magnitude + [-v for v in magnitude]
    wanted = [[2 * values[code % 16], 2 * values[code // 16]] for code in range(256)]
    assert found.reshape(-1, 2).tolist() == wanted


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (33, 31), (64, 65), (70, 96), (5, 7)])
def test_blocks_at_the_edges_are_smaller(rows: int, columns: int) -> None:
    generator = np.random.default_rng(rows)
    raw = generator.integers(0, 127, (rows, columns), dtype=np.uint8)
    shape = (-(-rows // 32), -(-columns // 32))
    scale = generator.integers(120, 130, shape, dtype=np.uint8)
    found = decoding.fp8(raw, scale)
    values = torch.from_numpy(raw).view(torch.float8_e4m3fn).float()
    for i in range(rows):
        for j in range(columns):
            wanted = values[i, j] * 2.0 ** (int(scale[i // 32, j // 32]) - 127)
            assert found[i, j] == wanted or (found[i, j].isnan() and wanted.isnan())
    assert found.data_ptr() % 64 == 0


def test_scales_of_another_layout_are_refused() -> None:
    raw = np.zeros((40, 64), np.uint8)
    for decode, scale in ((decoding.fp8, (40, 2)), (decoding.fp8_rows, (2, 2)), (decoding.fp4, (40, 2))):
        with pytest.raises(DamagedFileError, match=r"in blocks of 32 wants scales \[.*\], got"):
            decode(raw, np.zeros(scale, np.uint8))


@pytest.mark.shared
def test_published_digest_and_bytes(shared_dir: Path) -> None:
    path = shared_dir / "conformance" / "deepseek_v41_published_vectors.json"
    published = json.loads(path.read_text(encoding="utf-8"))["dequant"]
    every = decoding.fp8_rows(np.tile(EVERY, (256, 1)), np.repeat(EVERY[:, None], 8, axis=1))
    bits = every.bfloat16().view(torch.uint16).numpy().copy()
    bits[every.isnan().numpy()] = 0x7FC0  # every NaN under one pattern, as the published digest has it
    assert hashlib.sha256(bits.astype("<u2").tobytes()).hexdigest() == published["all_bits"]["sha256"]
    for decode, probe, first in (
        (decoding.fp8, "fp8_probe", "first8"),
        (decoding.fp4, "fp4_probe", "first16"),
    ):
        raw = np.frombuffer(bytes.fromhex(published[probe]["bytes_hex"]), np.uint8)[None]
        scale = np.array([[int(published[probe]["scale_byte"], 16)]], np.uint8)
        wanted = published[probe][first]
        assert decode(raw, scale)[0, : len(wanted)].tolist() == wanted
