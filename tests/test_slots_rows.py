"""Tests of `slots.trained_rows`: rows that stayed, moved and collapsed by hand, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engram_interp import slots
from engram_interp.checkpoints import SubjectModel
from engram_interp.checkpoints.native import subject_of
from engram_interp.errors import InputError
from engram_interp.memory import hashing
from engram_interp.model.transformer import HookedEngramTransformer
from engram_interp.results import SlotRows
from tests import support


@pytest.fixture(scope="module")
def model() -> SubjectModel:
    """Rows hit 0, 3, 20 and 90 times: left alone; all in one direction; moved two lengths; left alone."""
    cfg = support.model_config(memory=support.memory_config(rows=300))
    made = HookedEngramTransformer(cfg, token_map=hashing.token_map(support.tokenizer())[0])
    subject = subject_of(made, support.tokenizer(), name="by hand")
    assert subject.layout is not None
    draw, sizes = np.random.default_rng(5), zip((1, 2), subject.layout.rows.tolist(), strict=True)
    hits = {layer: draw.choice([0, 3, 20, 90], size=rows) for layer, rows in sizes}
    with torch.no_grad():
        for layer, each in hits.items():
            table = made.get_parameter(f"blocks.{layer}.engram.table.weight")
            few, some = (torch.from_numpy(each == n) for n in (3, 20))
            table[few] = torch.linspace(1, 2, int(few.sum()))[:, None] * torch.tensor([3.0, 0, 4, 0, 0])
            turned = torch.randn(table[some].shape, generator=torch.Generator().manual_seed(1))
            length = table[some].norm(dim=-1, keepdim=True)
            table[some] += 2 * length * turned / turned.norm(dim=-1, keepdim=True)
    return replace(subject, hits=hits)


def test_rows_that_stayed_moved_and_collapsed_are_told_apart(model: SubjectModel) -> None:
    data = slots.trained_rows(model, n_boot=50).data
    for group, hits in (("0", 0), ("≥ 50", 90)):
        cell = data.sel(group=group)
        assert not cell["moved"].any() and np.allclose(cell["cosine"], 1) and (cell["hits"] == hits).all()
        np.testing.assert_allclose(cell["rank"], cell["initial_rank"])
    np.testing.assert_allclose(data["moved"].sel(group="5–49"), 2, rtol=1e-5)
    np.testing.assert_allclose(data["rank"].sel(group="1–4"), 1, atol=1e-6)
    assert (data["initial_rank"].sel(group="1–4") > 4).all()
    assert (abs(data["other_cosine"]) < 0.1).all()
    assert data["rows"].isel(group=slice(0, 4)).sum("group").values.tolist() == [
        len(model.hits[layer]) for layer in (1, 2)
    ]
    tenths = data["hits"].sel(group=["tenth hit least", "tenth hit most"])
    assert tenths.values.tolist() == [[0, 90], [0, 90]]


def test_a_result_keeps_itself_and_says_what_was_never_hit(model: SubjectModel, tmp_path: Path) -> None:
    result = slots.trained_rows(model, n_boot=5)
    never = int((model.hits[1] == 0).sum())
    assert f"layer 1, {never:,} of {len(model.hits[1]):,} never hit" in result.summary()
    assert SlotRows.load(result.save(tmp_path / "r.nc")).summary() == result.summary()
    assert len(result.plot().data) == 2


def test_what_cannot_be_told_is_refused(model: SubjectModel) -> None:
    with pytest.raises(InputError, match="does not tell its rows' training hits"):
        slots.trained_rows(replace(model, hits={}))
    with pytest.raises(InputError, match="initial state is not known"):
        slots.trained_rows(replace(model, rebuild=None))
