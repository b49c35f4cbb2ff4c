"""The concordance of an n-gram: every place, the most open gate first, beside the gates of all tokens."""

import re

import numpy as np
import pytest
import xarray as xr

from engram_interp.errors import InputError
from engram_interp.views import contexts

IDS = np.array([[5, 1, 2, 9, 1, 2], [1, 2, 7, -1, -1, -1], [2, 1, 8, 1, 2, 2]])
GATES = np.where(IDS < 0, np.nan, np.arange(18).reshape(3, 6) / 20)


def reading(*, streams: int = 1) -> xr.Dataset:
    gate = np.stack([GATES * (1 - 0.5 * stream) for stream in range(streams)])[:, None]  # stream layer …
    texts = np.where(IDS < 0, "", np.char.add("t", IDS.astype(str))).astype(object)
    texts[2, 5] = "<img src=x onerror=alert(1)>"
    return xr.Dataset(
        {
            "gate": (("stream", "layer", "prompt", "token"), gate),
            "token_id": (("prompt", "token"), IDS),
            "token_text": (("prompt", "token"), texts),
            "prompt_id": ("prompt", ["a", "b", "c"]),
        },
        coords={"layer": [3], "prompt": [0, 1, 2]},
    )


def cells(html: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)[1:]
    return [
        [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.DOTALL)]
        for row in rows
    ]


def test_every_place_is_found_and_the_most_open_comes_first() -> None:
    html = contexts.strongest(reading(), [1, 2], layer=3)
    assert cells(html) == [
        ["c", "t2t1t8", "t1t2", "&lt;img src=x onerror=alert(1)&gt;".replace(" ", "␣"), "0.800"],
        ["b", "", "t1t2", "t7", "0.350"],
        ["a", "t5t1t2t9", "t1t2", "", "0.250"],
        ["a", "t5", "t1t2", "t9t1t2", "0.100"],
    ]
    assert (
        "So written, the n-gram stands 4 times in the 3 prompts: median gate 0.300, of all tokens 0.350"
        in html
    )
    assert "5–95 % 0.035 to 0.815" in html  # of the 15 tokens that are there
    assert "gate at layer 3<" in html and "<img" not in html


def test_only_the_most_open_are_shown_and_streams_count_by_their_largest() -> None:
    html = contexts.strongest(reading(streams=2), [2], layer=3, top=2)
    assert [row[0] + row[-1] for row in cells(html)] == ["c0.850", "c0.800"]
    assert "stands 6 times in the 3 prompts, the 2 most open gates first" in html
    assert "gate at layer 3, largest of the streams" in html


@pytest.mark.parametrize("ids", [[9, 9], [2, 9, 1, 2, 5, 1, 2]])
def test_an_n_gram_that_stands_nowhere_is_said_to(ids: list[int]) -> None:
    html = contexts.strongest(reading(), ids, layer=3)
    assert "stands in none of the 3 prompts" in html and not cells(html)


def test_without_a_known_gate_nothing_is_shown_and_that_is_said() -> None:
    data = reading()
    data["gate"][:] = np.nan
    html = contexts.strongest(data, [1, 2], layer=3)
    assert "stands in none of the 3 prompts whose gates are known" in html and not cells(html)


@pytest.mark.parametrize(("ids", "layer"), [([1], 2), ([], 3)])
def test_what_cannot_be_looked_for_says_what_is_wanted(ids: list[int], layer: int) -> None:
    with pytest.raises(InputError, match=r"one of the memory layers \[3\]"):
        contexts.strongest(reading(), ids, layer=layer)
