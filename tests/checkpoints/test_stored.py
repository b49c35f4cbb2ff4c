"""Eight-bit matrices: how far rounding goes, what is left alone, and what damage says."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engram_interp.checkpoints import load_model
from engram_interp.checkpoints.native import save_native
from engram_interp.checkpoints.stored import BLOCK, from_int8, restored, stored, to_int8
from engram_interp.errors import DamagedFileError
from tests import support


@pytest.mark.parametrize("spread", [1e-30, 1e-4, 1.0, 1e4])
def test_a_value_moves_by_half_a_step_at_most(spread: float) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(40, 3 * BLOCK, generator=generator) * spread
    weight[:, 0] *= 50  # one block of each row has an outlier
    weight[7] = 0
    whole, scale = to_int8(weight)
    assert (whole.dtype, scale.dtype) == (torch.int8, torch.bfloat16)
    step = scale.float().repeat_interleave(BLOCK, -1)
    assert ((from_int8(whole, scale) - weight).abs() <= 0.5001 * step).all()
    largest = weight.unflatten(-1, (-1, BLOCK)).abs().amax(-1)
    assert (scale.float() <= largest / 127 * (1 + 2**-7)).all()
    assert not from_int8(whole, scale)[7].any()


def test_only_matrices_whose_rows_split_are_stored_small() -> None:
    tensors = {
        "matrix.weight": torch.randn(4, 64),
        "odd.weight": torch.randn(4, 20),
        "norm.weight": torch.randn(64),
        "token_map": torch.arange(64),
        "blocks.1.engram.table.weight": torch.randn(6, 32),
    }
    kept = stored(tensors, dtype="int8", tables="float8_e4m3")
    assert {k: v.dtype for k, v in kept.items() if not k.endswith("scale")} == {
        "matrix.weight": torch.int8,
        "odd.weight": torch.bfloat16,
        "norm.weight": torch.bfloat16,
        "token_map": torch.int64,
        "blocks.1.engram.table.weight": torch.float8_e4m3fn,
    }
    assert sorted(restored(kept)) == sorted(tensors)


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_lost_scales_are_named(damage: str, tmp_path: Path) -> None:
    model = support.model(support.model_config(d_model=32, n_heads=2))
    save_native(tmp_path, model, tokenizer=support.tokenizer(), dtype="int8")
    assert load_model(tmp_path).module(support.token_ids(1, 5)).isfinite().all()
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    scale = tensors.pop("embed.weight.int8_scale")
    if damage == "short":
        tensors["embed.weight.int8_scale"] = scale[:-1].contiguous()
    save_file(tensors, path)
    with pytest.raises(DamagedFileError, match=r"embed\.weight is stored in eight bits and wants scales"):
        load_model(tmp_path)
