"""What a link sets beside the selection: ablations in one word, and values that do not exist."""

from pathlib import Path

import pytest

from engram_interp.capture.ablations import KINDS
from engram_interp.capture.kinds import TABLE
from tests.apps.helpers import EXPLORER, Start, written


@pytest.fixture(autouse=True)
def explorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))


def test_every_ablation_of_the_package_has_a_name_on_the_screen() -> None:
    from explorer import spec

    assert set(spec.KINDS) == set(KINDS)
    assert set(spec.BY_ROWS) == {kind for kind in KINDS if TABLE[kind].by_rows}


@pytest.mark.parametrize(
    "text",
    ["rows_zero:t12", "gate_zero:t3:all:L1,4", "rows_random:t0:L1:n2,3:h0:s7", "ngram_swap:t5:w2"],
)
def test_a_link_s_ablation_is_written_as_it_was_read(text: str) -> None:
    from explorer import spec

    found = spec.parse(text)
    assert found is not None and found.text == text


@pytest.mark.parametrize(
    "text", ["", "rows_zero", "rows_zero:t", "rows_zero:t-1", "rm:t1", "rows_zero:t1:q2", "rows_zero:t1:n2,x"]
)
def test_what_is_no_ablation_is_none(text: str) -> None:
    from explorer import spec

    assert spec.parse(text) is None


def test_settings_of_a_page_come_from_the_link_and_what_does_not_exist_is_said(
    start: Start, bundle: Path
) -> None:
    app = start(bundle, page="layers", cell="3.4", align="soft", q="entropy", log="on", shift="nonsense")
    group = {group.key: group.value for group in app.button_group}
    assert (group["alignment"], group["estimate"], group["quantity"]) == ("soft", "path", "entropy")
    assert app.toggle(key="log scale").value is True
    assert "The link sets estimate to “nonsense”, which is none of path, peak, soft" in written(app)
    assert app.query_params["align"] == "soft" and app.query_params["shift"] == "path"
