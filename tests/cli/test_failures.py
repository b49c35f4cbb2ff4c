"""Failures inside a command: one line, the right exit code, a traceback only when asked for."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from engram_interp.cli.command import guarded
from engram_interp.errors import InputError
from tests.cli.harness import run


def _fails(error: BaseException) -> NoReturn:
    raise error


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(error: BaseException) -> None:
        monkeypatch.setattr("engram_interp.slots.lookup", lambda *_: _fails(error))

    return make


def test_an_unexpected_error_is_one_line(failing: Any, folder: Path) -> None:
    failing(ZeroDivisionError("a\nb"))
    result = run("slots", folder / "engram", "--text", "a")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line == "engram-interp: unexpected ZeroDivisionError: a b (--debug shows the traceback)."


def test_debug_shows_the_traceback(failing: Any, folder: Path) -> None:
    failing(InputError("wrong"))
    result = run("slots", folder / "engram", "--text", "a", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_interrupted(failing: Any, folder: Path) -> None:
    failing(KeyboardInterrupt())
    result = run("slots", folder / "engram", "--text", "a")
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_a_file_that_may_not_be_read(failing: Any, folder: Path) -> None:
    failing(PermissionError(13, "Permission denied", "x.txt"))
    result = run("slots", folder / "engram", "--text", "a")
    assert result.stderr == "engram-interp: x.txt: Permission denied.\n"


def test_a_command_keeps_its_signature() -> None:
    def command(word: str) -> None:
        """Say it."""

    assert list(guarded(command).__annotations__) == ["word", "return", "debug"]


def test_a_reader_that_goes_away(folder: Path) -> None:
    command = [sys.executable, "-m", "engram_interp", "slots", str(folder / "engram"), "--text", "a"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
