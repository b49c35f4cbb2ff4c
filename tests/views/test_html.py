"""Strips and tables: right numbers, escaped text."""

import re

import numpy as np
import pytest

from engram_interp.errors import InputError
from engram_interp.views import strips, tables
from tests.results import samples
from tests.views.test_tokens import ATTACK


def rows_of(html: str) -> list[list[str]]:
    """The cells' text of every table row."""
    found = re.findall(r"<tr>(.*?)</tr>", html, flags=re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL) for row in found]
    return [[re.sub("<[^>]+>", "", cell) for cell in row] for row in cells]


def test_the_strip_has_a_chip_for_every_token_layer_and_stream() -> None:
    data = samples.gate_reading().data
    html = strips.gate_strip(data)
    values = re.findall(r"--value:([\d.]+)", html)
    np.testing.assert_allclose(np.asarray(values, float), data["gate"].values[0].ravel(), atol=5e-4)
    assert re.findall(r'class="row-name">([^<]+)<', html)[4] == "layer 4 · stream 1"
    assert "All 9 tokens." in html
    assert "0.5 (neutral)" in html
    assert "counted from 0; the paper counts from 1" in html


def test_the_strip_shows_the_attack_and_does_not_run_it() -> None:
    html = strips.gate_strip(samples.gate_reading().data)
    assert "<img" not in html
    assert "&lt;img" in html
    assert "\u202e" not in html
    html.encode()


@pytest.mark.parametrize("rows", ["max", "mean"])
def test_a_reduced_strip_is_named_as_such(rows: strips.Rows) -> None:
    data = samples.gate_reading().data
    html = strips.gate_strip(data, prompt=1, rows=rows)
    reduced = getattr(data["gate"].sel(prompt=1), rows)("stream").values[:, :4]
    values = np.asarray(re.findall(r"--value:([\d.]+)", html), float)
    np.testing.assert_allclose(values, reduced.ravel(), atol=5e-4)
    assert f"layer 1 · {rows} of 3" in html


def test_a_window_says_what_it_leaves_out() -> None:
    html = strips.gate_strip(samples.gate_reading().data, start=2, stop=5)
    assert html.count("--value") == 3 * 6
    assert "Tokens 2 to 4 of 9; the others are not shown here." in html


def test_strips_refuse_what_is_not_there() -> None:
    with pytest.raises(InputError, match="no prompt 5"):
        strips.gate_strip(samples.gate_reading().data, prompt=5)
    with pytest.raises(InputError, match="rows is one of all, max, mean, or a stream of 0, 1, 2; got 'min'"):
        strips.gate_strip(samples.gate_reading().data, rows="min")  # type: ignore[arg-type]


def test_an_undefined_gate_inside_a_text_is_hatched() -> None:
    data = samples.gate_reading().data.copy(deep=True)
    data["gate"][0, 0, 0, 2] = np.nan
    html = strips.gate_strip(data)
    assert html.count("tok missing") == 1
    assert "gate — (undefined)" in html


def test_the_lens_window_has_the_last_layer_on_top() -> None:
    data = samples.lens_table().data
    html = strips.lens_window(data, start=1, stop=8)
    table = rows_of(html)
    assert [row[0] for row in table] == ["layer", "3", "2", "1", "0"]
    assert all(len(row) == 8 for row in table)
    probability = float(np.exp(data["top_logprob"].values[0, 3, 0]))
    assert table[4][3].endswith(f"{probability:.2f}")
    assert "raw logit lens" in html
    assert "<img" not in html


def test_a_lens_window_is_bounded() -> None:
    data = samples.lens_table(60).data
    assert strips.lens_window(data).count('scope="col"') == 49
    assert "Tokens 0 to 47 of 60" in strips.lens_window(data)
    with pytest.raises(InputError, match="holds 1 to 48 of the 60 tokens; got 0 to 60"):
        strips.lens_window(data, stop=60)
    with pytest.raises(InputError, match="got 60 to 60"):
        strips.lens_window(data, start=60)


def test_lens_cells_without_kl_are_hatched() -> None:
    data = samples.lens_table().data.copy(deep=True)
    data["kl"][1, 2] = np.nan
    assert strips.lens_window(data).count('<td class="missing"') == 1


def test_cells_are_written_by_their_kind() -> None:
    html = tables.table(
        ["name", "n", "x", "token", "shift"],
        [[ATTACK, 1234, 0.5, tables.Token(text=" of"), tables.Change(value=0.25)],
         ["b", tables.Missing(reason="not <run>"), np.nan, tables.Token(text=""), tables.Change(value=-1)]],
        caption="a & b",
    )  # fmt: skip
    assert rows_of(html)[1] == ["&lt;img src=x onerror=alert(1)&gt;", "1,234", "0.500", "␣of", "+0.250"]
    assert rows_of(html)[2] == ["b", "—", "—", "‹empty›", "−1.000"]
    assert 'title="not &lt;run&gt;"' in html
    assert '<p class="note">— not &lt;run&gt;</p><p class="note">— undefined, no reason recorded</p>' in html
    assert "<caption>a &amp; b</caption>" in html


def test_a_ragged_table_is_refused() -> None:
    with pytest.raises(InputError, match="A table of 2 columns got a row of 1 cells"):
        tables.table(["a", "b"], [["x"]])


def test_predictions_stand_before_after_and_under_control() -> None:
    data = samples.ablation_comparison().data
    html = tables.prediction_table(data)
    table = rows_of(html)
    assert table[0] == ["rank (0 = top)", "before", "log p (nats)", "after", "log p (nats)", "random rows",
                        "log p (nats)", "random change of the same size", "log p (nats)"]  # fmt: skip
    assert len(table) == 5
    assert table[1][0] == "0"
    assert table[1][1::2] == ["␣Prince", "␣of", "␣Prince", "␣Prince"]
    assert table[2][4] == f"−{-float(data['logprob'].sel(condition='ablated')[1]):.3f}"
    assert "gate_zero at layers 1,4" in html
    assert "<b>" not in html


def test_a_given_answer_gets_its_row() -> None:
    data = samples.ablation_comparison().data.copy(deep=True)
    data["answer_logprob"][:2] = [-1.0, -2.5]
    data["answer_logprob"].attrs["missing"] = "control not run"
    data.attrs["answer"] = "<Paris>"
    html = tables.prediction_table(data)
    assert rows_of(html)[-1] == [
        "answer",
        "&lt;Paris&gt;",
        "−1.000",
        "&lt;Paris&gt;",
        "−2.500",
        "&lt;Paris&gt;",
        "—",
        "&lt;Paris&gt;",
        "—",
    ]
    assert "— control not run" in html


def test_slots_show_every_column_and_the_bias() -> None:
    data = samples.slot_lookup().data
    html = tables.slot_table(data, token=4, layer=4)
    table = rows_of(html)
    assert len(table) == 1 + 6 + 1
    assert table[5][:3] == ["3", "1", "one␣two␣4"]
    assert table[5][3] == f"{int(data['address'].sel(token=4, layer=4)[4]):,}"
    shares = [float(row[5].replace("−", "-")) for row in table[1:]]
    assert sum(shares) == pytest.approx(1, abs=0.005)
    assert "— the model&#x27;s training hits are not known" in html
    assert "<img" not in html
    with pytest.raises(
        InputError, match="no token 9 at memory layer 4; tokens are 0 to 8, memory layers 1, 4"
    ):
        tables.slot_table(data, token=9, layer=4)


def test_the_numbers_behind_the_figures_are_tables_too() -> None:
    depth = rows_of(tables.depth_table(samples.depth().data))
    assert len(depth) == 8
    assert depth[1][-1] == "control: before the first memory read; edge-biased"
    assert depth[4][3] == "+0.600"
    gates = rows_of(tables.gate_table(samples.gate_statistics().data))
    assert len(gates) == 7
    assert gates[5][:2] == ["4", "1"]
    assert gates[5][-3:] == ["0.500", "0.200", "0.310"]
    effects = rows_of(tables.effect_table(samples.ablation_effect().data))
    assert effects[2] == [
        "rows_zero",
        "+0.380",
        "+0.360",
        "+0.410",
        "+0.370",
        "+0.350",
        "+0.400",
        "0.608",
        "0.592",
    ]


def test_an_absent_null_is_a_dash_with_its_reason() -> None:
    html = tables.gate_table(samples.gate_statistics().data, null="queries permuted")
    assert rows_of(html)[1][-1] == "—"
    assert "— queries cannot be permuted with one token a document" in html
