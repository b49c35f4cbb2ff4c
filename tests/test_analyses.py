"""The notebooks run from top to bottom, use the public interface, and end with a verdict."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engram_interp.results import open_bundle

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((REPOSITORY / "analyses").glob("[0-9]*.py"))
PUBLIC = {
    "engram_interp",
    "engram_interp.capture",
    "engram_interp.checkpoints",
    "engram_interp.data",
    "engram_interp.memory",
    "engram_interp.metrics",
    "engram_interp.results",
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_uses_the_public_interface_alone(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name for name in modules if name.startswith("engram_interp")} <= PUBLIC
    private = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr.startswith("_")]
    assert not private


def test_known_answers_in_the_reduced_setting(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = _run("00_known_answers.py", out, tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert "Over 3 exchangeable pairs" in verdict and "held 1 in" in verdict
    assert "the path reads 1.00 and the lens 1.00 layers" in verdict
    names = {"known_answers.json", "known_answers.html", "known_answers.engram"}
    assert {path.name for path in out.iterdir()} == names
    bundle = open_bundle(out / "known_answers.engram")
    assert not bundle.problems() and len(bundle.names) == 5


def _run(name: str, out: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    settings = {"ENGRAM_INTERP_QUICK": "1", "ENGRAM_INTERP_OUT": str(out)}
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(REPOSITORY / "analyses" / name)],
        cwd=folder,
        env={**os.environ, **settings, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_are_ten_cells() -> None:
    text = (REPOSITORY / "analyses" / "01_depth_and_gates.py").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"^# %% (\d+) ", text, flags=re.MULTILINE)] == list(range(1, 11))


def test_depth_and_gates_in_the_reduced_setting(tmp_path: Path) -> None:
    done = _run("01_depth_and_gates.py", tmp_path / "out", tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert "not resolved at this scale" in verdict
    assert "no interval is possible" in verdict
    bundle = open_bundle(tmp_path / "out" / "01_depth_and_gates.engram")
    assert not bundle.problems()
    assert {"depth", "gates", "gate-statistics", "ablation"} <= set(bundle.names)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_the_memory_microscope_in_the_reduced_setting(tmp_path: Path) -> None:
    done = _run("02_memory_microscope.py", tmp_path / "out", tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert "Claim “edits are local” on this pair: not resolved at this scale" in verdict
    assert "after layer 1, memory off: " in done.stdout and "asked 6.0 logits" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"identity.nc", "edits.nc"}
