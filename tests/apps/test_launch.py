"""How the explorer is started."""

import asyncio
import gc
import http.client
import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
import streamlit

from tests.apps.helpers import EXPLORER

STATIC = Path(streamlit.__file__).parent / "static"


def test_the_server_sends_nothing_out_and_listens_here_alone(launcher: ModuleType) -> None:
    command = launcher.command(browser=False)
    assert "--browser.gatherUsageStats=false" in command
    assert "--server.fileWatcherType=none" in command
    assert "--client.toolbarMode=minimal" in command
    assert "--server.address=localhost" in command
    assert "--server.headless=true" in command
    assert not [option for option in command if option.startswith("--server.port")]


def test_bundles_and_model_come_after_the_double_dash(launcher: ModuleType) -> None:
    command = launcher.command(["a.engram", Path("b c")], model=Path("m"), port=8700)
    assert command[0] == sys.executable
    assert command[3] == str(EXPLORER / "app.py")
    assert "--server.port=8700" in command
    assert "--server.headless=false" in command
    assert command[command.index("--") + 1 :] == ["a.engram", "b c", "--model", "m"]


def test_the_launcher_is_light() -> None:
    heavy = "bool({'streamlit', 'engram_interp'} & set(sys.modules))"
    code = f"import sys, runpy; runpy.run_path(sys.argv[1]); sys.exit({heavy})"
    done = subprocess.run([sys.executable, "-c", code, str(EXPLORER / "launch.py")], check=False)
    assert done.returncode == 0


def test_the_page_names_its_files_ahead_and_none_of_them_waits_for_the_one_before(
    server: tuple[str, int, float],
) -> None:
    address = server[0].removeprefix("http://")
    took = []
    with closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET", "/layers?b=wiki-nano")
        page = connection.getresponse().read().decode()
        files = re.findall(r'modulepreload" crossorigin href="\./(static/js/[^"]+)"', page)
        for file in files:
            began = time.perf_counter()
            connection.request("GET", f"/{file}")
            answer = connection.getresponse()
            body = answer.read()
            took.append(time.perf_counter() - began)
            assert answer.status == 200 and body == (STATIC / file).read_bytes()
            assert answer.getheader("content-type") == "text/javascript; charset=utf-8"
            assert answer.getheader("cache-control") == "public, immutable, max-age=31536000"
    assert {file.split("/")[-1].split(".")[0] for file in files} >= {"PlotlyChart", "Selectbox", "react-dom"}
    assert len(files) == len(set(files))
    assert sorted(took)[len(took) // 4] < 0.03  # 0.04 where the server waits for the browser's receipt


def test_the_files_named_ahead_are_sent_from_memory_and_all_else_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXPLORER))
    from explorer.frontend import Frontend

    passed: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope.get("path", scope["type"]))

    asked = Frontend(inner, pages=("layers",))
    [plotly] = (STATIC / "static" / "js").glob("PlotlyChart.*.js")

    def ask(path: str, *, method: str = "GET", kind: str = "http") -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError("nothing is asked of the browser")

        asyncio.run(asked({"type": kind, "method": method, "path": path}, receive, send))
        return sent

    read: list[Path] = []
    whole = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    for _ in range(2):
        start, body = ask(f"/static/js/{plotly.name}")
        assert start["status"] == 200 and body["body"] == plotly.read_bytes()
    assert read == [plotly, plotly]  # here alone: what is sent was read at the start
    assert not passed
    other = [f"/static/js/../{plotly.name}", "/static/js/none.js", "/static/js/"]
    for path in other:
        assert not ask(path)
    assert not ask(f"/static/js/{plotly.name}", method="HEAD")
    assert not ask("/layers", kind="websocket")
    assert passed == [*other, f"/static/js/{plotly.name}", "/layers"]


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/layer?b=wiki-nano", "./layers?b=wiki-nano&page=layer"),
        ("/layers/?b=wiki-nano", "../layers?b=wiki-nano"),
        ("/nonsense", "./?page=nonsense"),
        ("/..%2F..%2Fetc%2Fpasswd", "./?page=..%2F..%2Fetc%2Fpasswd"),
        ("//host.example%2Fx", "../?page=host.example%2Fx"),
        ("/static/none.js", None),
        ("/_stcore/none", None),
    ],
)
def test_a_page_that_is_none_leads_to_the_nearest_and_never_off_this_server(
    server: tuple[str, int, float], path: str, address: str | None
) -> None:
    with closing(http.client.HTTPConnection(urlsplit(server[0]).netloc)) as connection:
        connection.request("GET", path, headers={"Accept": "text/html,*/*"})
        answer = connection.getresponse()
        answer.read()
        assert (answer.status == 307) == (address is not None)
        assert answer.getheader("location") == address
        connection.request("GET", "/picture")  # as scripts and pictures are asked for
        assert connection.getresponse().getheader("location") is None


def test_garbage_is_collected_again_after_the_start_whatever_happened(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(launcher, "import_module", fails)
    gc.disable()
    try:
        with pytest.raises(ImportError, match=r"explorer\.overview"):
            launcher._warm_up()
        assert gc.isenabled()
    finally:
        gc.enable()
