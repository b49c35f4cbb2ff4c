"""What a link sets beside the selection: ablations in one word, and values that do not exist."""

import shutil
from pathlib import Path

import pytest

from engram_interp.capture.ablations import KINDS
from engram_interp.capture.kinds import TABLE
from tests.apps.helpers import EXPLORER, Start, figures, settle, show, written


@pytest.fixture(autouse=True)
def explorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))


def test_every_ablation_of_the_package_has_a_name_on_the_screen() -> None:
    from explorer import spec

    assert set(spec.KINDS) == set(KINDS)
    assert set(spec.BY_ROWS) == {kind for kind in KINDS if TABLE[kind].by_rows}


@pytest.mark.parametrize(
    "text",
    [
        "rows_zero:t12", "gate_zero:t3:all:L1,4", "rows_random:t0:L1:n2,3:h0:s7", "ngram_swap:t5:w2",
        "gate_zero:t9:a3,7-9:b0,2", "rows_zero:t9:a12:h0-3",
    ],
)  # fmt: skip
def test_a_link_s_ablation_is_written_as_it_was_read(text: str) -> None:
    from explorer import spec

    found = spec.parse(text)
    assert found is not None and found.text == text


@pytest.mark.parametrize(
    "text",
    ["", "rows_zero", "rows_zero:t", "rows_zero:t-1", "rm:t1", "rows_zero:t1:q2", "rows_zero:t1:n2,x",
     "rows_zero:t1:a", "rows_zero:t1:a9-3", "rows_zero:t1:a0-999999999",
     "rows_zero:t1:a2:all", "rows_zero:t1:a2:a3"],
)  # fmt: skip
def test_what_is_no_ablation_is_none(text: str) -> None:
    from explorer import spec

    assert spec.parse(text) is None


def test_a_label_names_every_token_so_that_no_two_ablations_are_called_alike() -> None:
    from explorer import spec

    one, other = (spec.parse(f"rows_zero:t90:a1,3,5,7,9-20,{last}") for last in (30, 40))
    assert one is not None and other is not None and one.label != other.label
    assert one.label == "rows → 0 · at tokens 1, 3, 5, 7, 9-20, 30, seen at 90"
    assert one.changed == (1, 3, 5, 7, *range(9, 21), 30)


def test_settings_of_a_page_come_from_the_link_and_what_does_not_exist_is_said(
    start: Start, bundle: Path
) -> None:
    app = start(bundle, page="layers", cell="3.4", align="soft", q="entropy", log="on", shift="nonsense")
    group = {group.key: group.value for group in app.button_group}
    assert (group["alignment"], group["estimate"], group["quantity"]) == ("soft", "path", "entropy")
    assert app.toggle(key="log scale").value is True
    said = "The link says shift=nonsense, but shift is one of path, peak, soft; shift=path is shown."
    assert said in written(app)
    assert app.query_params["align"] == "soft" and app.query_params["shift"] == "path"


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"page": "compare", "with": "../x"}, "There is no bundle “../x” here; other is shown."),
        (
            {"page": "compare", "part": "nope"},
            "There is no part of both bundles “nope” here; depth map is shown.",
        ),
        ({"page": "memory", "slot": "9.9"}, "There is no row “9.9” here; order 2, head 0: row"),
    ],
)
def test_a_link_s_choice_that_a_page_does_not_offer_is_said(
    start: Start, bundle: Path, tmp_path: Path, link: dict[str, str], said: str
) -> None:
    other = shutil.copytree(bundle, tmp_path / "other.engram")
    app = start(bundle, other, tok="8", **link)
    assert said in written(app)
    app.run()
    assert said in written(app)  # a page that waits for a run is drawn again and again
    show(app, "")
    assert said not in written(app)
    app = start(bundle, other, tok="8", **link)
    app.number_input(key="bar token").set_value(2).run()
    assert said not in written(app)


LIVE = {"page": "tokens", "run": "live"}


@pytest.mark.parametrize(
    ("link", "said", "left"),
    [
        ({"v": "9"}, "The link is of format 9, and this version knows format 1", {"v": "1"}),
        ({"page": "layers", "cell": "3"}, "says cell=3, but a cell has two layers", {"cell": "3.3"}),
        ({"page": "layers", "k": "abc"}, "k=abc is none of", {"k": None}),
        ({"page": "layers", "k": "99"}, "k=99 is none of", {"k": None}),
        ({**LIVE, "n": "9"}, "n=9: n-grams have 2 and 3 tokens here; all", {"n": None}),
        ({**LIVE, "n": "3,9"}, "n=3,9: n-grams have 2 and 3 tokens", {"n": "3"}),
        ({**LIVE, "n": "x"}, "says n=x, but n is a list of lengths such as 2,3", {"n": None}),
        ({"page": "tokens", "draw": "x"}, "says draw=x, but draw is a number from 0 on", {"draw": None}),
        ({"page": "layers", "cell": ".4"}, "says cell=.4, but a cell has two layers", {}),
        ({"page": "layers", "data": "x"}, "There is no data “x” here; the one map is shown.", {"data": None}),
        ({"page": "report", "parts": "none,memory"}, "parts is made of layers", {"parts": "memory"}),
        ({"page": "report", "parts": "foo,memory"}, "parts is made of layers, tokens", {"parts": "memory"}),
        ({"page": "tokens", "token": "5"}, "also says token, which means nothing here", {"token": None}),
    ],
)
def test_a_link_s_value_that_cannot_be_is_said_once_and_leaves_the_address(
    start: Start,
    bundle: Path,
    tiny_model: Path,
    *,
    link: dict[str, str],
    said: str,
    left: dict[str, str | None],
) -> None:
    app = settle(start(bundle, "--model", tiny_model, **link))
    assert written(app).count(said) == 1
    assert {name: dict(app.query_params).get(name) for name in left} == left
    app.number_input(key="bar token").set_value(2).run()
    assert said not in written(settle(app))


def test_a_page_that_does_not_exist_is_named(start: Start, bundle: Path) -> None:
    app = start(bundle)
    app.query_params.clear()
    app.query_params["page"] = "nonsense"
    app.run()
    assert "There is no page “nonsense”; this one is shown." in written(app)
    assert "page" not in app.query_params
    app.query_params["page"] = "layers"
    app.run()
    assert "There is no page" not in written(app)


def test_a_choice_ends_the_line_about_what_it_replaces(start: Start, bundle: Path, tmp_path: Path) -> None:
    for name in ("second", "third"):
        shutil.copytree(bundle, tmp_path / f"{name}.engram")
    app = start(bundle, tmp_path, page="compare", b="made-up", **{"with": "nonsense"})
    assert "“nonsense”" in written(app)
    app.selectbox(key="other bundle").set_value("third").run()
    assert "“nonsense”" not in written(app)


def test_the_ablation_of_a_link_becomes_the_nearest_that_text_and_model_have(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    asked = "rows_zero:t99999:L9:n7"
    app = settle(start(bundle, "--model", tiny_model, page="ablate", run="live", spec=asked))
    assert f"The ablation {asked} names token 99999, layer 9 and order 7" in written(app)
    last = app.number_input(key="bar token").max
    assert last is not None
    assert app.query_params["spec"] == f"rows_zero:t{last:g}:L2:n3"


def test_a_link_opens_the_folds_that_were_open(start: Start, bundle: Path) -> None:
    app = start(bundle, page="layers", open="view stitching")
    assert figures(app) == 5  # agreement, map, shift, lens curves, and the fold
    assert app.query_params["open"] == "view stitching"
    app = start(bundle, page="ablate", open="retained", probes="none of them")
    sets = next(group for group in app.button_group if group.key == "probe set")
    assert figures(app) == 2 and sets.value == sets.options[0]


def test_a_link_holds_what_is_switched_off_and_which_controls_were_drawn(
    start: Start, bundle: Path, tiny_model: Path
) -> None:
    link = {"off": "rows_zero", "n": "3", "draw": "2", "run": "live"}
    app = settle(start(bundle, "--model", tiny_model, page="tokens", **link))
    text = written(app)
    assert "run now by tiny" in text and "order 3" in text
    assert any("orders=(3,)" in code.value and "seed=2" in code.value for code in app.code)
    assert {name: app.query_params[name] for name in link} == link
    next(group for group in app.button_group if group.key == "orders").set_value([2]).run()
    assert settle(app).query_params["n"] == "2"
    app.button(key="redraw").click().run()
    assert settle(app).query_params["draw"] == "3"
    app.selectbox(key="bar prompt").set_value("1").run()
    assert "run" not in settle(app).query_params
