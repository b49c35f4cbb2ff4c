"""Recipes: the packaged ones build, and what is wrong with a file is said."""

from pathlib import Path

import pytest

from engram_interp import training
from engram_interp.errors import InputError
from engram_interp.model.training.recipe import Recipe, Schedule
from tests import support

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


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch = 4", "batch = 0", "schedule.batch wants a whole number of at least 1, got 0"),
        ("1_000", '"5M"', "schedule.tokens wants a whole number of at least 1, got '5M'"),
        ("1_000", "1e3", r"schedule.tokens wants a whole number of at least 1, got 1000\.0"),
        (
            "batch = 4",
            "evaluate_every = 0",
            "schedule.evaluate_every wants a whole number of at least 1, got 0",
        ),
        ("batch = 4", "learning_rate = -1e-3", "schedule.learning_rate wants a number above 0, got -0.001"),
        ("batch = 4", "table_rate = -5", "schedule.table_rate wants a number above 0, got -5"),
        ("batch = 4", "weight_decay = -0.1", "schedule.weight_decay wants a number of at least 0, got -0.1"),
        ("batch = 4", "clip = inf", "schedule.clip wants a number above 0, got inf"),
        ("batch = 4", "beta2 = 1", "schedule.beta2 wants a number from 0 to below 1, got 1"),
        ("batch = 4", "final_rate = 1.5", "schedule.final_rate wants a number from 0 to 1, got 1.5"),
        ("batch = 4", "warmup = true", "schedule.warmup wants a whole number of at least 0, got True"),
        ("batch = 4", "seed = -1", "schedule.seed wants a whole number of at least 0, got -1"),
        ("batch = 4", "precision = 16", "schedule.precision wants text, got 16"),
        ("batch = 4", 'precision = "half"', "precision of float32 or bfloat16, got 'half'"),
        ("d_vocab = 300", 'd_vocab = "300"', "d_vocab wants a whole number of at least 1, got '300'"),
        (
            "d_vocab = 300",
            "d_vocab = 300\nfiction = -1",
            "fiction wants a whole number of at least 0, got -1",
        ),
        ("n_heads = 2", "n_heads = 0", "model.n_heads wants a whole number of at least 1, got 0"),
        ("n_heads = 2", "n_heads = [2]", r"model.n_heads wants a whole number of at least 1, got \[2\]"),
        ("[20, 30]", "[20, 0]", r"engram.rows wants a whole .* or a list, each a whole .*, got \[20, 0\]"),
        ("[1]", "1", "engram.layer_ids wants a list, each a whole number of at least 0, got 1"),
        ("rows", 'gate = "opne"\nrows', "engram.gate wants 'signed_sqrt' or 'plain' or 'open', got 'opne'"),
        ("rows", "bias = 1\nrows", "engram.bias wants true or false, got 1"),
        ("[schedule]", "[[schedule]]", r"schedule wants a table, \[schedule\], got \["),
    ],
)
def test_a_value_that_a_field_cannot_take_is_said_with_file_and_field(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with support.shapes_unchecked(), pytest.raises(InputError, match=f"mine.toml: .*{message}") as caught:
        Recipe.load(written(tmp_path, GOOD.replace(old, new)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "", ".", "-x", "a/b", "a b", "ü", "x\\n"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f'name = "{name}"{GOOD}')
    with pytest.raises(InputError, match=r"mine.toml: name wants letters, digits, .*; a run's folder"):
        Recipe.load(path)
    path.write_text(f"name = 3{GOOD}", encoding="utf-8")
    with support.shapes_unchecked(), pytest.raises(InputError, match=r"mine.toml: name wants text, got 3"):
        Recipe.load(path)


def test_values_are_checked_without_a_file_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^schedule.batch wants a whole number of at least 1, got 0"):
        Schedule(tokens=100, batch=0)
    with pytest.raises(InputError, match=r"^model.init_seed wants a whole number of at least 0, got -1"):
        Recipe.load(written(tmp_path, GOOD)).seeded(-1)
    with support.shapes_unchecked():
        assert Schedule(tokens=100, clip=1, weight_decay=0, warmup=0).clip == 1


def test_a_recipe_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No recipe 'wiki-nino': .* packaged recipes \(.*wiki-nano-engram"):
        training.find_recipe("wiki-nino")
    with pytest.raises(InputError, match="No recipe at"):
        Recipe.load(tmp_path / "none.toml")


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="precision of float32 or bfloat16, got 'float16'"):
        Schedule(tokens=100, precision="float16")
