"""The explorer under test: a made-up bundle, a tiny model, the app in this process, a server for browsers."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from engram_interp.checkpoints.native import save_native
from engram_interp.results import write_bundle
from tests import support
from tests.apps.helpers import EXPLORER, REPOSITORY, Start, parts, show


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every part."""
    path = tmp_path_factory.mktemp("explorer") / "made-up.engram"
    return write_bundle(path, parts(), meta={"examples": [{"id": "0", "index": 0, "token": 3}]})


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native model directory with random weights and a context of 29 tokens."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_native(folder, support.model(), tokenizer=support.tokenizer())


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts the app with a command line and a link, in this process."""
    monkeypatch.syspath_prepend(str(EXPLORER))
    st.cache_resource.clear()  # what another test typed or loaded

    def run(*arguments: Path | str, page: str = "", **link: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
        app = AppTest.from_file(str(EXPLORER / "main.py"), default_timeout=120)
        app.query_params.update(link)
        app.run()
        if page:
            app.query_params.update(link)
            show(app, page)
        assert not app.exception, app.exception
        return app

    return run


@pytest.fixture(scope="session")
def launcher() -> ModuleType:
    """apps/explorer/launch.py, loaded by its path as the command line does."""
    spec = importlib.util.spec_from_file_location("explorer_launch", EXPLORER / "launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def server(launcher: ModuleType) -> Iterator[tuple[str, int, float]]:
    """The explorer on the packaged bundle: its address, its process, and when it was started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    process = subprocess.Popen(
        launcher.command(port=port, browser=False),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://localhost:{port}"
    try:
        while not _answers(f"{address}/_stcore/health"):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() - started < 60, "the server did not answer within a minute"
            time.sleep(0.05)
        yield address, process.pid, started
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
