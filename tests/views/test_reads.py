"""What one token read, told by layer and n-gram."""

import pytest

from engram_interp.errors import InputError
from engram_interp.views import memory_tables
from tests.results import samples
from tests.views.test_html import rows_of


def test_reads_are_told_by_layer_and_n_gram_with_every_stream() -> None:
    data = samples.slot_lookup().data
    html = memory_tables.reads_table(data, token=4)
    found = rows_of(html)
    assert [row[0] for row in found[1:]] == ["1", "1", "4", "4"]
    assert found[2][3] == "one␣two␣4" and len(found[0]) == 5
    at = data.sel(token=4, layer=4)
    assert found[3][1:3] == [f"{value:.3f}" for value in at["gate"].values]
    share = float(found[4][4].replace("−", "-"))
    assert share == pytest.approx(float(at["share"][3:].sum()), abs=0.0006)
    many = data.isel(stream=[0, 1, 0, 1, 1]).assign_coords(stream=range(5))
    [head, first, *_] = rows_of(memory_tables.reads_table(many, token=4))
    assert head[1] == "largest gate of 5 streams"
    assert first[1] == f"{float(data['gate'].sel(token=4, layer=1).max()):.3f}"
    assert "<img" not in html
    with pytest.raises(InputError, match="no token 9; tokens are 0 to 8"):
        memory_tables.reads_table(data, token=9)
