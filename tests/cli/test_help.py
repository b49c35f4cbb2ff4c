"""Help, usage and versions, without loading anything heavy."""

import subprocess
import sys

import pytest

from engram_interp.cli.command import spread
from tests.cli.harness import run

COMMANDS = (
    "explore", "report", "capture", "slots", "index", "train", "family", "tune-lens", "evaluate", "losses",
    "claims",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Examples:\n    engram-interp {command}" in result.stdout
    assert "--debug" in result.stdout


def test_help_loads_neither_torch_nor_streamlit() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from engram_interp.cli import app;"
        "assert CliRunner().invoke(app, ['report', '--help']).exit_code == 0;"
        "sys.exit(str({'torch', 'streamlit', 'transformers', 'xarray'} & set(sys.modules) or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_and_no_command() -> None:
    assert run("--version").stdout.startswith("engram-interp 0.")
    assert run().exit_code == 2
    assert run("slotz").exit_code == 2


def test_an_option_takes_several_values() -> None:
    given = ["r", "--text", "a", "b", "--out", "c", "--", "--text", "d", "e"]
    wanted = ["r", "--text", "a", "--text", "b", "--out", "c", "--", "--text", "d", "e"]
    assert spread(given, {"--text"}) == wanted
