"""The command line, ``engram-interp COMMAND``: from training and capture to explorer, report and scoreboard.

torch and Streamlit are imported only inside the commands that need them, so that ``--help`` answers
at once.
"""

import sys
from typing import Annotated

import typer

import engram_interp
from engram_interp.cli import (
    capture,
    claims,
    evaluate,
    explore,
    family,
    index,
    losses,
    report,
    slots,
    train,
    tune_lens,
)
from engram_interp.cli.command import INTERRUPTED, Command, guarded

app = typer.Typer(
    name="engram-interp",
    epilog="engram-interp COMMAND --help shows the options of a command and an example.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command, epilog=explore.EXAMPLE)(guarded(explore.explore))
app.command(cls=Command, epilog=report.EXAMPLE)(guarded(report.report))
app.command(cls=Command, epilog=capture.EXAMPLE)(guarded(capture.capture))
app.command(cls=Command, epilog=slots.EXAMPLE)(guarded(slots.slots))
app.command(cls=Command, epilog=index.EXAMPLE)(guarded(index.index))
app.command(cls=Command, epilog=train.EXAMPLE)(guarded(train.train))
app.command(cls=Command, epilog=family.EXAMPLE)(guarded(family.family))
app.command(cls=Command, epilog=evaluate.EXAMPLE)(guarded(evaluate.evaluate))
app.command(cls=Command, epilog=losses.EXAMPLE)(guarded(losses.losses))
app.command(name="tune-lens", cls=Command, epilog=tune_lens.EXAMPLE)(guarded(tune_lens.tune_lens))
app.command(cls=Command, epilog=claims.EXAMPLE)(guarded(claims.claims))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"engram-interp {engram_interp.__version__}")
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A microscope for language models with conditional memory (Engram)."""


def main() -> None:
    """Run the command line and exit: 0 success, 1 an error in one line, 2 bad usage, 130 Ctrl-C."""
    try:
        app(prog_name="engram-interp")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
