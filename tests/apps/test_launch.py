"""How the explorer is started."""

import http.client
import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import ModuleType

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
