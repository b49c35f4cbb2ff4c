"""What every test runs under: no network, no reader's home, few threads, shapes checked, fixed seeds."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).resolve().parent.parent

# Only these: hooking the whole package breaks typing.Self in the results.
SHAPES_CHECKED = tuple(f"engram_interp.{part}" for part in ("model", "memory", "capture", "metrics"))

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait make a crowded machine crawl
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOME = pytest.StashKey[Path]()

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")
install_import_hook(SHAPES_CHECKED, "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
    """Set the process up before anything of the package is imported."""
    home = Path(tempfile.mkdtemp(prefix="engram-interp-home-"))
    config.stash[HOME] = home
    os.environ.update(OFFLINE, HOME=str(home), HF_HOME=str(home / "huggingface"))
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        os.environ[f"XDG_{kind}_HOME"] = str(home / kind.lower())

    import torch  # only now: it and the libraries above it read the environment when imported

    # Among several processes MKL takes fewer threads when it likes, and sums in another order then.
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    torch.use_deterministic_algorithms(mode=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the home that the tests had."""
    if HOME in config.stash:
        shutil.rmtree(config.stash[HOME], ignore_errors=True)


def find_shared() -> Path | None:
    """The reference data: ENGRAM_INTERP_SHARED, else `shared` beside the checkout; None without either."""
    named = os.environ.get("ENGRAM_INTERP_SHARED")
    folder = Path(named) if named else REPOSITORY.parent / "shared"
    return folder.resolve() if folder.is_dir() else None


def find_browser() -> str | None:
    """The Chromium that browser tests drive: ENGRAM_INTERP_CHROMIUM, else the first one on the path."""
    named = os.environ.get("ENGRAM_INTERP_CHROMIUM")
    return named or next((found for name in BROWSERS if (found := shutil.which(name))), None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what this machine lacks; under CI=true a missing browser is a failure."""
    if item.get_closest_marker("shared") and find_shared() is None:
        pytest.skip("no reference data: neither ../shared nor ENGRAM_INTERP_SHARED")
    if item.get_closest_marker("browser") and find_browser() is None:
        lack = "no Chromium: install Debian's chromium or set ENGRAM_INTERP_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(lack)
        pytest.skip(lack)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        local = self.family == socket.AF_UNIX or str(address[0]) in {"127.0.0.1", "::1", "localhost"}
        if not local:
            self.close()
            raise AssertionError(f"a test tried to reach {address}; tests run offline")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start torch's global generator at the same place in every test (code under test passes its own)."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data that lies beside the checkout; the test is skipped without it."""
    folder = find_shared()
    if folder is None:
        pytest.skip("no reference data: neither ../shared nor ENGRAM_INTERP_SHARED")
    return folder


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The Chromium to drive; for tests marked `browser`, which run only where there is one."""
    browser = find_browser()
    assert browser is not None, "mark the test with pytest.mark.browser"
    return browser
