"""Gates at one token: layers by streams, beside the rest of the text and an untrained gate."""

import re

import numpy as np
import pytest
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views.gate_here import gates_here

GATE = xr.DataArray(
    np.array([[[0.1, 0.9, 0.5, np.nan], [0.2, 0.3, 0.4, np.nan]], [[0.7, 0.6, 0.5, np.nan], [np.nan] * 4]]),
    dims=("layer", "stream", "token"),
    coords={"layer": [2, 15], "stream": [0, 1], "token": range(4)},
)


def cells(html: str) -> list[str]:
    return [
        " ".join(re.sub("<[^>]+>", " ", cell).split())
        for cell in re.findall(r"<td[^>]*>(.*?)</td>", html, flags=re.DOTALL)
    ]


def test_every_gate_stands_beside_the_others_of_its_text() -> None:
    shown = gates_here(GATE, token=1)
    assert cells(shown) == [
        "0.900 above 2 of 2 other tokens", "0.300 above 1 of 2 other tokens",
        "0.600 above 1 of 2 other tokens", "—",
    ]  # fmt: skip
    assert re.findall(r'<th scope="(?:col|row)">(.*?)</th>', shown) == [
        "layer",
        "stream 0",
        "stream 1",
        "2",
        "15",
    ]
    assert "--value:0.900" in shown and "untrained" not in shown
    assert cells(gates_here(GATE.transpose("token", "stream", "layer"), token=1)) == cells(shown)
    assert "stream" not in gates_here(GATE.isel(stream=[0]), token=1)


def test_an_untrained_gate_stands_below_where_it_is_known() -> None:
    ends = {f"null_q{end}": (("null", "layer", "stream"), np.full((1, 1, 2), value))
            for end, value in (("05", 0.2), ("95", 0.8))}  # fmt: skip
    statistics = xr.Dataset(ends, coords={"null": ["untrained"], "layer": [2], "stream": [0, 1]})
    shown = cells(gates_here(GATE, token=0, statistics=statistics))
    assert shown[0] == "0.100 above 0 of 2 other tokens untrained 0.200 to 0.800"
    assert shown[2].endswith("untrained —"), "another layer's null is none of this one's"
    with pytest.raises(InputError, match="There is no token 9; tokens are 0 to 3"):
        gates_here(GATE, token=9)
