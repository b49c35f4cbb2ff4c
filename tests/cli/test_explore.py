"""`explore`: what is checked before the server, and how it ends."""

import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engram_interp.checkpoints.loading import packaged
from engram_interp.cli import explore as exploring
from engram_interp.results import write_bundle
from tests.cli.harness import one_line, run
from tests.results import samples


def test_bundles_are_looked_for_first_and_a_damaged_one_is_left_to_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served: list[list[str]] = []
    monkeypatch.setattr(exploring, "_run", served.append)
    one_line(run("explore", tmp_path / "no.engram"), "There is no bundle")
    (tmp_path / "x.engram").mkdir()
    (tmp_path / "x.engram" / "manifest.json").write_text("{", encoding="utf-8")
    for place in (tmp_path / "x.engram", tmp_path):
        result = run("explore", place, "--no-browser")
        assert result.exit_code == 0 and "is not JSON" in result.stdout
    assert len(served) == 2
    (tmp_path / "empty").mkdir()
    one_line(run("explore", tmp_path / "empty"), "There is no bundle at")


def test_a_folder_is_listed_with_what_is_wrong_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exploring, "_run", lambda command: None)
    whole = write_bundle(tmp_path / "whole.engram", {"slots:0": samples.slot_lookup()})
    (tmp_path / "deeper").mkdir()
    shutil.copytree(whole, tmp_path / "deeper" / "cut.engram")
    (tmp_path / "deeper" / "cut.engram" / "manifest.json").write_text("{", encoding="utf-8")
    result = run("explore", tmp_path, "--no-browser")
    assert result.exit_code == 0, result.stderr
    one, other = result.stdout.splitlines()
    assert one == f"whole  {whole}  1 parts"
    assert other.startswith(f"cut  {tmp_path / 'deeper' / 'cut.engram'}  ") and "is not JSON" in other


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
    write_bundle(tmp_path / "one.engram", {"slots:0": samples.slot_lookup()})
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


def test_a_port_in_use(tmp_path: Path) -> None:
    write_bundle(tmp_path / "one.engram", {"slots:0": samples.slot_lookup()})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one_line(run("explore", tmp_path, "--port", port), f"Port {port} cannot be used")


def test_a_server_that_fails_is_a_failure() -> None:
    with pytest.raises(Exception, match="3") as caught:
        exploring._run([sys.executable, "-c", "raise SystemExit(3)"])
    assert getattr(caught.value, "exit_code", None) == 3
