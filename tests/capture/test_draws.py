"""Another row of the same head: which are drawn, how often, and never the row itself."""

from dataclasses import replace

import numpy as np
import torch

from engram_interp.capture.draws import OtherRows, drawn_by, fixed_uniform
from tests import support

DRAWS = 30_000


def test_other_rows_are_drawn_by_hits_and_never_the_row_itself() -> None:
    model = support.subject(support.model_config(memory=support.memory_config()))
    assert model.layout is not None
    sizes, offsets = model.layout.primes[0].ravel(), model.layout.offsets[0]
    hits = np.random.default_rng(2).integers(0, 5, int(model.layout.rows[0]))
    hits[offsets[1] : offsets[1] + sizes[1]] = 0  # nobody was read here: all rows alike
    hits[offsets[2] : offsets[2] + sizes[2]] = 0
    hits[offsets[2] + 4] = 9  # only the row itself was
    rows = torch.from_numpy(offsets + 4)
    chance = torch.rand(DRAWS, len(rows), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for known in (True, False):
        told = replace(model, hits={1: hits} if known else {})
        drawn = OtherRows.of(told, 1)(rows, chance)
        for column, (size, first) in enumerate(zip(sizes, offsets, strict=True)):
            weights = hits[first : first + size].astype(float)
            weights[4] = 0
            if not known or not weights.any():
                weights = np.arange(size) != 4
            found = np.bincount(drawn[:, column].numpy() - first, minlength=size)
            assert len(found) == size
            expected = DRAWS * weights / weights.sum()
            assert (found[weights == 0] == 0).all()
            assert (np.abs(found - expected) <= 5 * np.sqrt(expected)).all()


def test_provenance_says_how_rows_were_drawn() -> None:
    model = support.subject()
    assert "every row alike" in drawn_by(model)
    hits = {layer: np.ones(1, np.int64) for layer in model.memory_layers}
    assert "weighted by training hits" in drawn_by(replace(model, hits=hits))
    assert "where training hits are not known" in drawn_by(replace(model, hits={1: hits[1]}))


def test_fixed_numbers_are_even_and_depend_on_seed_layer_and_address() -> None:
    addresses = torch.arange(20_000)
    one, other, layer = (fixed_uniform(addresses, *parts) for parts in ((3, 1), (4, 1), (3, 2)))
    assert fixed_uniform(addresses.flip(0), 3, 1).flip(0).equal(one)
    for x in (one, other, layer):
        cells = torch.histc(x, 50, 0, 1)
        assert float(((cells - 400) ** 2 / 400).sum()) < 100  # χ² of 49 degrees: beyond 100 in 2 of 10⁵
    for x, y in ((one, other), (one, layer), (one[1:], one[:-1])):
        assert abs(np.corrcoef(x, y)[0, 1]) < 0.035
