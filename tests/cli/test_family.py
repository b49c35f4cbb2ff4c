"""`family`: arms into one folder, and what makes them no family."""

from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.harness import RECIPE, one_line, run

DENSE = RECIPE.replace('"tiny"', '"tiny-dense"').replace("[engram]\nlayer_ids = [1]\nheads = 2\n", "")
DENSE = DENSE.replace("d_row = 6\nrows = 60\n", "")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes of two arms, and of what does not go with them."""
    folder = tmp_path_factory.mktemp("recipes")
    engram = RECIPE.replace('"tiny"', '"tiny-engram"')
    named = {
        "dense": DENSE,
        "engram": engram,
        "longer": engram.replace("tokens = 512", "tokens = 1024"),
        "empty": engram.replace("batch = 4", "batch = 0"),
        "escaping": engram.replace("tiny-engram", "../../x"),
    }
    for name, text in named.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path, recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family of one arm."""
    out = tmp_path_factory.mktemp("families") / "runs"
    result = family(folder, out, recipes / "dense.toml", "--seed", 1, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(out / "tiny-dense-seed1")
    assert "tiny-dense-seed1: step 8/8" in result.stderr
    return out


def family(folder: Path, out: Path, *more: object, text: str = "text.txt") -> Result:
    return run("family", "--text", folder / text, "--valid", folder / "valid.txt", "--out", out, *more)


def test_a_second_call_trains_nothing(folder: Path, recipes: Path, runs: Path) -> None:
    before = (runs / "tiny-dense-seed1" / "training.json").stat().st_mtime_ns
    result = family(folder, runs, recipes / "dense.toml", "--seed", 1)
    assert result.exit_code == 0 and "step" not in result.stderr
    assert (runs / "tiny-dense-seed1" / "training.json").stat().st_mtime_ns == before


def test_another_text_in_the_same_folder(folder: Path, recipes: Path, runs: Path) -> None:
    for recipe in ("dense", "engram"):
        result = family(folder, runs, recipes / f"{recipe}.toml", "--seed", 1, text="other.txt")
        one_line(result, "tiny-dense-seed1 trains on text.txt (", "--text gives other.txt (", "a new --out")
    assert [path.name for path in sorted(runs.iterdir())] == ["tiny-dense-seed1", "tokenizer.json"]


def test_another_tokenizer_in_the_same_folder(folder: Path, recipes: Path, runs: Path) -> None:
    given = folder / "engram" / "tokenizer.json"
    result = family(folder, runs, recipes / "engram.toml", "--tokenizer", given)
    one_line(result, f"{given} is another tokenizer", "leave --tokenizer out")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["dense", "longer"], ("tiny-engram differs from tiny-dense", "schedule.tokens (1024, not 512)")),
        (["dense", "empty"], ("empty.toml: schedule.batch wants a whole number of at least 1, got 0",)),
        (["escaping"], ("escaping.toml: name wants letters, digits", "got '../../x'")),
        (["dense", "dense"], ("tiny-dense-seed0 occurs twice",)),
        (["absent"], ("No recipe", "absent.toml'")),
    ],
)
def test_recipes_that_are_no_family(
    folder: Path, recipes: Path, tmp_path: Path, names: list[str], words: tuple[str, ...]
) -> None:
    result = family(folder, tmp_path / "a" / "b", *(recipes / f"{name}.toml" for name in names))
    one_line(result, *words)
    assert not list(tmp_path.iterdir())


def test_a_text_that_is_not_there(folder: Path, recipes: Path, tmp_path: Path) -> None:
    result = family(folder, tmp_path / "runs", recipes / "dense.toml", text="absent.txt")
    one_line(result, "No text file at", "absent.txt")
    assert not list(tmp_path.iterdir())
