"""How the explorer is started."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.apps.helpers import EXPLORER


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
    assert command[3] == str(EXPLORER / "main.py")
    assert "--server.port=8700" in command
    assert "--server.headless=false" in command
    assert command[command.index("--") + 1 :] == ["a.engram", "b c", "--model", "m"]


def test_the_launcher_is_light() -> None:
    heavy = "bool({'streamlit', 'engram_interp'} & set(sys.modules))"
    code = f"import sys, runpy; runpy.run_path(sys.argv[1]); sys.exit({heavy})"
    done = subprocess.run([sys.executable, "-c", code, str(EXPLORER / "launch.py")], check=False)
    assert done.returncode == 0
