"""Recipes: the packaged ones build, and what is wrong with a file is said."""

from pathlib import Path

import pytest

from engram_interp import training
from engram_interp.errors import InputError
from engram_interp.model.training.recipe import Recipe, Schedule

GOOD = """
d_vocab = 300
[model]
n_layers = 2
d_model = 12
n_heads = 2
d_mlp = 16
n_ctx = 16
[engram]
layer_ids = [1]
rows = [20, 30]
[schedule]
tokens = 1_000
batch = 4
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_a_model(tmp_path: Path) -> None:
    recipe = Recipe.load(written(tmp_path, GOOD))
    assert recipe.name == "mine"
    cfg = recipe.model_config()
    assert cfg.engram is not None
    assert (cfg.d_vocab, cfg.memory_layers, cfg.engram.rows) == (300, (1,), (20, 30))
    assert recipe.schedule.batch == 4
    assert training.find_recipe(tmp_path / "mine.toml") == recipe


@pytest.mark.parametrize("name", sorted(training.packaged_recipes()))
def test_packaged_recipes_build(name: str) -> None:
    recipe = training.find_recipe(name)
    assert recipe.name == name
    assert recipe.model_config().d_vocab == recipe.d_vocab


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d_vocab = ", "mine.toml is not a TOML recipe"),
        (GOOD.replace("d_vocab", "vocab"), r"lacks \['d_vocab'\] and has unknown \['vocab'\]"),
        (GOOD.replace("batch", "batches"), r"unknown \['schedule.batches'\]"),
        (GOOD.replace("tokens", "seed"), "with tokens"),
        (GOOD.replace("n_heads", "heads"), r"unknown keys \['heads'\] and lacks \['n_heads'\]"),
        (GOOD.replace("[1]", "[2]"), r"\(2,\) want to lie in 0 … 1"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.load(written(tmp_path, text))


def test_a_recipe_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No recipe 'wiki-nino': .* packaged recipes \(.*wiki-nano-engram"):
        training.find_recipe("wiki-nino")
    with pytest.raises(InputError, match="No recipe at"):
        Recipe.load(tmp_path / "none.toml")


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="precision of float32 or bfloat16, got 'float16'"):
        Schedule(tokens=100, precision="float16")
