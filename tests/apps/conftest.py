"""The explorer under test: a made-up bundle, a tiny model, the app in this process, a server for browsers."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
import streamlit as st
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from streamlit.testing.v1 import AppTest

from engram_interp.checkpoints.native import save_native
from engram_interp.results import write_bundle
from tests import support
from tests.apps import awkward
from tests.apps.browsing import ARGUMENTS, SLOW
from tests.apps.helpers import EXPLORER, REPOSITORY, Start, parts, show
from tests.results import samples

Server = tuple[str, int, float]
VARIABLE = "ENGRAM_INTERP_KEPT"
KEPT = Path(tempfile.gettempdir()) / f"engram-shared-{os.getpid()}"
"""Where servers under test keep the texts of copied links."""


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
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """Starts the app with a command line and a link, in this process."""
    if VARIABLE not in os.environ:
        monkeypatch.setenv(VARIABLE, str(tmp_path / "shared"))
    monkeypatch.syspath_prepend(str(EXPLORER))
    st.cache_resource.clear()  # what another test typed or loaded

    def visit(*, page: str = "", **link: str) -> AppTest:
        app = AppTest.from_file(str(EXPLORER / "main.py"), default_timeout=120)
        app.query_params.update(link)
        app.run()
        if page:
            app.query_params.update(link)
            show(app, page)
        assert not app.exception, app.exception
        return app

    def run(*arguments: Path | str, page: str = "", **link: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
        return visit(page=page, **link)

    run.again = visit  # type: ignore[attr-defined]  # another visitor of the same server
    return run


@pytest.fixture
def local_server() -> Iterator[None]:
    """A server that listens to this machine alone, as the command line starts it."""
    before = st.get_option("server.address")
    st.config.set_option("server.address", "localhost")
    yield
    st.config.set_option("server.address", before)


@pytest.fixture
def tokens(start: Start, bundle: Path, tiny_model: Path) -> AppTest:
    """The Tokens page with a live model."""
    return start(bundle, "--model", tiny_model, page="tokens")


@pytest.fixture(scope="session")
def launcher() -> ModuleType:
    """apps/explorer/launch.py, loaded by its path as the command line does."""
    spec = importlib.util.spec_from_file_location("explorer_launch", EXPLORER / "launch.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def server(launcher: ModuleType) -> Iterator[Server]:
    """The explorer on the packaged bundles: its address, its process, and when it was started."""
    with serving(launcher) as found:
        yield found


@pytest.fixture(scope="session")
def places(launcher: ModuleType, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The explorer on a folder with a bundle of awkward texts, a whole one, and one that was cut short."""
    folder = tmp_path_factory.mktemp("places")
    write_bundle(folder / "awkward.engram", awkward.parts())
    shutil.copytree(bundle, folder / "whole.engram")
    cut = shutil.copytree(bundle, folder / "cut.engram")
    (cut / "parts" / "depth.nc").write_bytes(b"cut short")
    write_bundle(folder / "plain.engram", {"depth": samples.depth()})
    with serving(launcher, folder) as found:
        yield found


@dataclass(frozen=True, kw_only=True)
class Held:
    """A server in which every pass of an ablation waits in its first block for `let_go`."""

    address: str
    folder: Path

    def let_go(self) -> None:
        """Let the runs go on."""
        (self.folder / "go").touch()

    @property
    def inside(self) -> bool:
        """Whether a pass waits, or waited, in its first block."""
        return (self.folder / "inside").exists()

    @property
    def ended(self) -> int:
        """How many passes came to their end."""
        file = self.folder / "ended"
        return len(file.read_bytes()) if file.exists() else 0


_WAIT = """
import sys, time
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path({folder!r})

def wait(*_):
    (FOLDER / "inside").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.05)

class Wait:
    def find_spec(self, name, path=None, target=None):
        if name != "engram_interp.capture.ablations":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        whole = spec.loader.exec_module

        def with_the_wait(module):
            whole(module)
            run = module.log_probabilities

            def held(model, *given):
                hook = model.module.get_submodule("blocks.0").register_forward_hook(wait)
                try:
                    found = run(model, *given)
                finally:
                    hook.remove()
                with (FOLDER / "ended").open("ab") as file:
                    file.write(b".")
                return found

            module.log_probabilities = held

        spec.loader.exec_module = with_the_wait
        return spec

sys.meta_path.insert(0, Wait())
"""


@pytest.fixture
def held(launcher: ModuleType, tmp_path: Path) -> Iterator[Held]:
    """The explorer on the planted bundle; its ablations wait inside their first pass."""
    (tmp_path / "sitecustomize.py").write_text(_WAIT.format(folder=str(tmp_path)), encoding="utf-8")
    bundle = REPOSITORY / "engram_interp" / "assets" / "bundles" / "planted.engram"
    with serving(launcher, bundle, first=tmp_path) as (address, _, _):
        yield Held(address=address, folder=tmp_path)


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """One Chromium with a fresh profile."""
    expect.set_options(timeout=SLOW)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Opens a path of the explorer; afterwards no other host was asked and the console is clean."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(SLOW)
    hosts: set[str] = set()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def open_path(path: str) -> Page:
        page = context.new_page()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda websocket: hosts.add(urlsplit(websocket.url).netloc))
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path if path.startswith("http") else server[0] + path)
        return page

    yield open_path
    context.close()
    assert {host.partition(":")[0] for host in hosts} <= {"localhost", ""}, hosts
    assert not complaints, complaints


@contextmanager
def serving(launcher: ModuleType, *bundles: Path, first: Path = REPOSITORY) -> Iterator[Server]:
    """A server of its own process, until the block is left; it imports from `first` before all else."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": f"{first}{os.pathsep}{REPOSITORY}",
        "OMP_NUM_THREADS": "1",
        VARIABLE: str(KEPT),
    }
    started = time.monotonic()
    process = subprocess.Popen(
        launcher.command(bundles, port=port, browser=False),
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
        shutil.rmtree(KEPT, ignore_errors=True)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
