"""Tables of one token: the rows it read, sorted and filtered, and the lens at every layer."""

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.views import lens_rows, tables
from tests.results import samples
from tests.views.test_html import rows_of


def test_slots_are_sorted_and_limited_to_some_n_grams() -> None:
    data = samples.slot_lookup().data
    chosen = data.sel(token=4, layer=4)
    rows = rows_of(tables.slot_table(data, token=4, layer=4, by="share"))[1:-1]
    expected = [f"{int(chosen['address'][c]):,}" for c in np.argsort(-chosen["share"].values, kind="stable")]
    assert [row[3] for row in rows] == expected
    rows = rows_of(tables.slot_table(data, token=4, layer=4, orders=[3]))[1:]
    assert {row[0] for row in rows} == {"3", "bias"} and len(rows) == 1 + int((data["order"] == 3).sum())
    html = tables.slot_table(data, token=4, layer=4)
    assert html.count("--bar:") == int((chosen["share"].values > 0).sum())


def test_the_lens_at_one_token_says_how_far_the_answer_moved() -> None:
    data = samples.lens_table().data
    rows = rows_of(lens_rows.lens_at_token(data, token=3))
    assert [int(row[0]) for row in rows[1:]] == data["layer"].values.tolist()[::-1]
    moves = data["rank_move"].sel(token=3).values[::-1]
    words = [
        "" if np.isnan(m) else "same" if m == 0 else f"{'up' if m > 0 else 'down'} {abs(int(m)):,}"
        for m in moves
    ]
    assert [row[4] for row in rows[1:]] == words and words[-1] == ""
    assert [int(row[3]) for row in rows[1:]] == data["final_rank"].sel(token=3).values.tolist()[::-1]
    with pytest.raises(InputError, match="no token 99"):
        lens_rows.lens_at_token(data, token=99)
