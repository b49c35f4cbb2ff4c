"""`explore`: what is checked before the server, and how it ends."""

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engram_interp.checkpoints.loading import packaged
from engram_interp.cli import explore as exploring
from tests.cli.harness import one_line, run


def test_bundles_are_checked_first(tmp_path: Path) -> None:
    one_line(run("explore", tmp_path / "no.engram"), "There is no bundle")
    (tmp_path / "x.engram").mkdir()
    (tmp_path / "x.engram" / "manifest.json").write_text("{", encoding="utf-8")
    one_line(run("explore", tmp_path / "x.engram"), "is not JSON")
    one_line(run("explore", tmp_path), "is not JSON")


def test_the_launcher_gets_what_was_given(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}
    served: list[list[str]] = []

    def command(bundles: list[Path], **options: object) -> list[str]:
        given.update(options, bundles=bundles)
        return ["serve"]

    monkeypatch.setattr(exploring, "_launcher", lambda: SimpleNamespace(command=command))
    monkeypatch.setattr(exploring, "_run", served.append)
    monkeypatch.setattr("engram_interp.results.open_bundle", lambda path: path)
    result = run("explore", tmp_path, "--model", folder / "engram", "--no-browser")
    assert result.exit_code == 0, result.stderr
    assert served == [["serve"]]
    assert given == {
        "bundles": [tmp_path.resolve()], "model": (folder / "engram").resolve(),
        "port": None, "browser": False,
    }  # fmt: skip
    one_line(run("explore", tmp_path, "--model", tmp_path), "No model at", "planted")
    assert run("explore", tmp_path, "--model", "planted").exit_code == 0
    assert given["model"] == packaged()["planted"]


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engram_interp.results.open_bundle", lambda path: path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one_line(run("explore", tmp_path, "--port", port), f"Port {port} cannot be used")


def test_a_server_that_fails_is_a_failure() -> None:
    with pytest.raises(Exception, match="3") as caught:
        exploring._run([sys.executable, "-c", "raise SystemExit(3)"])
    assert getattr(caught.value, "exit_code", None) == 3
