"""Tests of `gates.preference`: planted preferences, hits by a loop, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram_interp import gates
from engram_interp.capture import encode, record
from engram_interp.checkpoints import SubjectModel
from engram_interp.errors import InputError
from engram_interp.gate_preference import _correlations, _hits
from engram_interp.gate_usefulness import sample
from engram_interp.results import GatePreference
from tests import support

TEXTS = support.documents(22, seed=6)


def subject(n_streams: int = 1) -> SubjectModel:
    model = support.subject(support.model_config(memory=support.memory_config(), n_streams=n_streams))
    assert model.layout is not None
    draw, sizes = np.random.default_rng(5), zip((1, 2), model.layout.rows.tolist(), strict=True)
    return replace(model, hits={layer: draw.integers(0, 300, size=rows) for layer, rows in sizes})


def test_a_preference_that_turns_where_reads_hurt_is_found() -> None:
    generator = np.random.default_rng(0)
    n, documents = 600, np.repeat(np.arange(30), 20)
    hits, delta = generator.random((n, 2)), generator.standard_normal((n, 2))
    follows = np.where(delta > 0, hits, 1 - hits)
    gate = np.stack([follows, generator.random((n, 2)), hits], axis=-1)
    found = _correlations(gate, delta, hits, documents)
    rho = found["correlation"]
    assert (rho[1, :, 0] > 0.999).all() and (rho[2, :, 0] < -0.999).all() and (abs(rho[0, :, 0]) < 0.2).all()
    assert (abs(rho[:, :, 1]) < 0.25).all()  # four standard errors of some 300 reads
    assert (rho[..., 2] > 0.999).all()


def test_hits_of_a_read_are_the_mean_over_the_rows_it_takes() -> None:
    model, ids = subject(), support.token_ids(3, 11)
    rows = record(model, ids, sites=["blocks.*.engram.hook_rows"], logits=False)
    row, position = np.array([0, 2, 2]), np.array([4, 1, 9])
    found = _hits(model, encode(model, ids), row, position)
    for place, layer in enumerate((1, 2)):
        read = rows[f"blocks.{layer}.engram.hook_rows"]
        for i in range(3):
            each = [np.log(1 + model.hits[layer][int(a)]) for a in read[row[i], position[i]]]
            assert found[i, place] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("n_streams", [1, 3])
def test_a_result_counts_its_reads_and_has_untrained_gates_beside_it(tmp_path: Path, n_streams: int) -> None:
    model = subject(n_streams)
    result = gates.preference(model, TEXTS, per_document=3, n_boot=5, n_inits=2)
    data = result.data
    assert dict(data["correlation"].sizes) == {"read": 3, "layer": 2, "stream": n_streams}
    row, _ = sample(model, encode(model, TEXTS), per_document=3, seed=0)
    assert (data["reads"].sel(read="all") == len(row)).all()
    useful = gates.usefulness(model, TEXTS, per_document=3, n_boot=5, n_inits=0).data["delta_loss"]
    assert data["reads"].sel(read="hurt").values.tolist() == (useful < 0).sum("sample").values.tolist()
    assert (data["null_correlation_low"] <= data["null_correlation_high"]).all()
    assert GatePreference.load(result.save(tmp_path / "p.nc")).summary() == result.summary()
    assert "over those that hurt" in result.summary() and "untrained" in result.summary()
    assert len(result.plot().data) == 2


def test_without_hits_there_is_nothing_to_prefer() -> None:
    with pytest.raises(InputError, match="does not tell the training hits of layer 1"):
        gates.preference(replace(subject(), hits={}), TEXTS[:2])
