"""Running a command as a reader does, and what a good failure looks like."""

from typer.testing import CliRunner, Result

from engram_interp.cli import app
from tests import support

RECIPE = """
name = "tiny"
d_vocab = 290
[model]
n_layers = 2
d_model = 20
n_heads = 2
d_mlp = 28
n_ctx = 16
[engram]
layer_ids = [1]
heads = 2
d_row = 6
rows = 60
[schedule]
tokens = 512
batch = 4
evaluate_every = 4
"""


def run(*arguments: object) -> Result:
    with support.shapes_unchecked():
        return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(result: Result, *words: str) -> None:
    """The command failed with one sentence on stderr that holds `words`, and nothing else."""
    assert result.exit_code == 1, result.stderr
    [line] = [line for line in result.stderr.splitlines() if "%" not in line]
    assert line.startswith("engram-interp: ")
    assert "unexpected" not in line
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in line
    assert not result.stdout
