"""``engram-interp losses``: held-out losses of every run of a family, from their saved weights."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """\b
Examples:
  engram-interp losses runs --text valid.txt.xz
  engram-interp losses runs --text valid.txt.xz --out losses.nc"""


def losses(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that engram-interp family wrote.")],
    *,
    text: Annotated[
        list[Path], typer.Option(metavar="FILE...", help="Held-out text, plain or .xz; one file or several.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to save the result (.nc); a new file.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write a Markdown table.")] = False,
) -> None:
    """Measure every finished run's loss on the same text, and set the differences beside what a seed does.

    Losses are recomputed from the saved weights. Differences are paired token by token; their 95 % intervals
    resample documents, and so do not contain what another seed would change: that is the seeds' spread.
    """
    from engram_interp import arms
    from engram_interp.arm_losses import losses as measure
    from engram_interp.errors import InputError

    if out is not None and out.exists():
        raise InputError(f"{out} exists; give the name of a new file as --out.")
    found = measure(arms.load(folder), text, on_run=lambda name: typer.echo(f"… {name}", err=True))
    if out is not None:
        found.save(out)
    typer.echo("\n".join(found.markdown()) if markdown else found.summary())
