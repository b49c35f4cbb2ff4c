"""The benchmark of the explorer judges: the worst of the measurements against the limit."""

import pytest

from benchmarks import explorer
from benchmarks.limits import Measured

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("measured", "met"),
    [
        (Measured(what="click", values=(0.2, 0.3, 0.9), limit=1), True),
        (Measured(what="click", values=(0.2, 0.3, 1.1), limit=1), False),
        (Measured(what="click", values=(), limit=1), False),
        (Measured(what="wrong panels", values=(0, 0, 1), limit=0, unit=""), False),
        (Measured(what="told", values=(3,), limit=1, unit="", least=True), True),
        (Measured(what="told", values=(0,), limit=1, unit="", least=True), False),
        (Measured(what="told", values=(), limit=0, unit="", least=True), False),
    ],
)
def test_one_measurement_beyond_the_limit_misses_it_and_ends_with_status_1(
    measured: Measured, met: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = Measured(what="other", values=(0,), limit=5)
    monkeypatch.setattr(explorer, "measure", lambda *_, **__: [fine, measured])
    monkeypatch.setattr("sys.argv", ["explorer"])
    assert explorer.main() == (0 if met else 1)
    _, _, other, line = capsys.readouterr().out.splitlines()
    assert other.endswith(" met") and line.endswith(" met" if met else " MISSED")
    for value in measured.values:
        assert f" {value:.4g} " in line
