"""The house rules no linter checks: light imports, sizes, docstrings, versions, no traces of a machine."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import engram_interp

REPOSITORY = Path(__file__).resolve().parent.parent
CODE = ("engram_interp", "apps", "analyses", "benchmarks", "tests")
MOST_LINES = 300
MOST_LINES_OF_A_PAGE = 200
MOST_METHODS = 10

# Longer than the rule, and why splitting would make it worse: {"engram_interp/x.py": "reason"}.
ARGUED_MODULES: dict[str, str] = {}
# More methods than the rule, and why: {"engram_interp/x.py:Class": "reason"}.
ARGUED_CLASSES: dict[str, str] = {}

NEVER_TRACKED = re.compile(
    r"(?<![\w.~/-])/(?:work|root|opt|home/[a-z]\w*|Users/[A-Za-z]\w*)/\w"  # a path on somebody's machine
    r"|pypi\.org|pythonhosted\.org|npmjs\.org|download\.pytorch\.org|deb\.debian\.org"  # a registry's host
)
LIGHT = """
import sys
import {module}
heavy = sorted({{"torch", "streamlit", "transformers", "transformer_lens"}} & set(sys.modules))
sys.exit(f"{module} loads {{heavy}}" if heavy else 0)
"""


def python_files() -> list[Path]:
    return sorted(path for folder in CODE for path in (REPOSITORY / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def tracked_files() -> list[Path]:
    """What git tracks or would add; in an unpacked source archive, which has no git, the code."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return python_files()
    return [path for name in listed.split("\0") if name and (path := REPOSITORY / name).is_file()]


def texts(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            yield path, data.decode(errors="replace")


@pytest.mark.parametrize("module", ["engram_interp", "engram_interp.views", "engram_interp.results"])
def test_saved_results_open_without_torch_and_streamlit(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT.format(module=module)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{relative(path)}:{number}: {line.strip()[:120]}"
        for path, text in texts(tracked_files())
        for number, line in enumerate(text.splitlines(), start=1)
        if NEVER_TRACKED.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("see /ro" + "ot/x", True),
        ('open("/home/' + 'someone/model")', True),
        ("--index-url https://py" + "pi.org/simple", True),
        ("a/root/x and ../work/x", False),
        ("blocks.1.hook_resid_post", False),
    ],
)
def test_the_search_for_traces_finds_what_it_should(line: str, named: bool) -> None:
    assert bool(NEVER_TRACKED.search(line)) is named


def test_version_is_the_newest_of_the_changelog() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == engram_interp.__version__


def test_pins_hold_every_dependency_and_agree() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every, runtime = (
        dict(re.findall(r"^([\w.-]+)==([\w.+!]+)", (REPOSITORY / name).read_text(encoding="utf-8"), re.M))
        for name in ("requirements.txt", "requirements-runtime.txt")
    )
    wanted = {re.split(r"[<>=!~ ]", line)[0] for line in project["dependencies"]}
    assert wanted <= set(runtime)
    assert wanted | {"pytest", "mypy", "ruff"} <= set(every)
    assert runtime.items() <= every.items()


def test_modules_are_short() -> None:
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert set(long) == set(ARGUED_MODULES), f"more than {MOST_LINES} lines, or no longer: {long}"


def test_pages_are_shorter_still() -> None:
    pages = {
        relative(path): len(text.splitlines())
        for path in (REPOSITORY / "apps" / "explorer" / "explorer").glob("*.py")
        if "\ndef page() -> None:" in (text := path.read_text(encoding="utf-8"))
    }
    assert len(pages) == 7
    assert not {name: count for name, count in pages.items() if count > MOST_LINES_OF_A_PAGE}


def methods(node: ast.ClassDef) -> int:
    """How many names a class defines as functions: an overloaded one, or a property's setter, counts once."""
    return len({part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)})


def test_classes_are_small() -> None:
    large = {
        f"{relative(path)}:{node.name}": methods(node)
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and methods(node) > MOST_METHODS
    }
    assert set(large) == set(ARGUED_CLASSES), f"more than {MOST_METHODS} methods, or no longer: {large}"


def test_every_module_says_what_it_is() -> None:
    silent = [
        relative(path)
        for path in python_files()
        if not path.name.startswith("_") or path.name == "__init__.py"
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent
