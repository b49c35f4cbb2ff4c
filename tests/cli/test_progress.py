"""Progress on stderr."""

import pytest

from engram_interp.cli.progress import Clock, progress


def test_time_left_counts_only_what_was_done_here() -> None:
    seconds = iter([5.0, 15.0])  # of the first update, where a resumed run is at 50 already, and the second
    clock = Clock(100, now=lambda: next(seconds))
    clock.read(50)
    assert clock.read(60) == (10.0, 40.0)


def test_progress_without_a_terminal_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(4, every=3600) as update:
        for step in range(1, 5):
            update(step, f"step {step}")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["step 1", "step 4"]
