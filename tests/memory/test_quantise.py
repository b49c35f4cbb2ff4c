"""Eight-bit rows: what is kept, what is lost, and V4.1's own bytes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram_interp.errors import InputError
from engram_interp.memory.quantise import dequantise_rows, quantise_rows
from tests.support import shapes_unchecked


@given(seed=st.integers(0, 999), exponent=st.integers(-60, 60), width=st.sampled_from([5, 32, 96]))
def test_the_error_is_below_a_sixteenth(seed: int, exponent: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(7, width, generator=generator) * 2.0**exponent
    values, scale = quantise_rows(rows)
    assert scale.shape == (7, max(1, width // 32))
    back = dequantise_rows(values, scale)
    error = (back - rows).abs()
    smallest = scale.float().repeat_interleave(width // scale.shape[1], -1) * 2.0**-6
    assert (error <= torch.maximum(rows.abs() * 2.0**-4, smallest * 2.0**-4)).all()


def test_what_was_eight_bit_stays_exactly() -> None:
    rows = torch.randn(9, 64)
    once = dequantise_rows(*quantise_rows(rows))
    assert dequantise_rows(*quantise_rows(once)).equal(once)


def test_blocks_have_scales_of_their_own_and_zeros_stay_zeros() -> None:
    rows = torch.zeros(3, 96)
    rows[0, 32:64] = 448 * 2.0**5
    rows[1, 0] = -3.5
    values, scale = quantise_rows(rows)
    assert scale.float().tolist() == [[1, 2.0**5, 1], [2.0**-7, 1, 1], [1, 1, 1]]
    assert dequantise_rows(values, scale).equal(rows)


def test_the_last_block_may_be_narrower() -> None:
    values = torch.ones(2, 33).to(torch.float8_e4m3fn)
    scale = torch.tensor([[2.0, 0.5], [1.0, 8.0]])
    rows = dequantise_rows(values, scale.to(torch.float8_e8m0fnu))
    assert rows.tolist() == [[2.0] * 32 + [0.5], [1.0] * 32 + [8.0]]


def test_extreme_rows_do_not_overflow() -> None:
    rows = torch.tensor([[torch.finfo(torch.float32).max / 2, -1.0], [torch.finfo(torch.float32).tiny, 0.0]])
    back = dequantise_rows(*quantise_rows(rows))
    assert back.isfinite().all()
    assert (back[:, 0] / rows[:, 0] - 1).abs().max() < 2.0**-4


def test_widths_without_whole_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="a width that 32 divides, got 40; store the tables in bfloat16"):
        quantise_rows(torch.zeros(2, 40))
    values, scale = quantise_rows(torch.zeros(2, 64))
    with shapes_unchecked(), pytest.raises(InputError, match=r"\[2, 64\] want scales.*got \[1, 2\]"):
        dequantise_rows(values, scale[:1])
    with pytest.raises(InputError, match="blocks of 32 channels"):
        dequantise_rows(values, torch.ones(2, 5).to(torch.float8_e8m0fnu))


@pytest.mark.shared
def test_published_bytes(shared_dir: Path) -> None:
    path = shared_dir / "conformance" / "deepseek_v41_published_vectors.json"
    probe = json.loads(path.read_text(encoding="utf-8"))["dequant"]["fp8_probe"]
    raw = np.frombuffer(bytes.fromhex(probe["bytes_hex"]), np.uint8).copy()
    scale = torch.tensor([[int(probe["scale_byte"], 16)]], dtype=torch.uint8)
    rows = dequantise_rows(
        torch.from_numpy(raw)[None].view(torch.float8_e4m3fn), scale.view(torch.float8_e8m0fnu)
    )
    assert rows[0, :8].tolist() == probe["first8"]


@pytest.mark.shared
def test_every_byte_with_every_scale(shared_dir: Path) -> None:
    path = shared_dir / "conformance" / "deepseek_v41_published_vectors.json"
    wanted = json.loads(path.read_text(encoding="utf-8"))["dequant"]["all_bits"]["sha256"]
    every = torch.arange(256, dtype=torch.uint8)
    values = every.view(torch.float8_e4m3fn).expand(256, 256)
    scale = every[:, None].repeat(1, 8)  # one for each 32 channels
    rows = dequantise_rows(values, scale.view(torch.float8_e8m0fnu)).to(torch.bfloat16)
    bits = rows.view(torch.uint16).numpy().copy()
    bits[rows.isnan().numpy()] = 0x7FC0  # every NaN under one pattern, as the published digest has it
    assert hashlib.sha256(bits.astype("<u2").tobytes()).hexdigest() == wanted
