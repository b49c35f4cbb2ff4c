"""``engram-interp losses``: held-out losses of every run of a family, from their saved weights."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """\b
Examples:
  engram-interp losses
  engram-interp losses runs --text valid.txt.xz
  engram-interp losses runs --text valid.txt.xz --out losses.nc"""


def losses(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="A folder that engram-interp family wrote; by default what is packaged."
        ),
    ] = None,
    *,
    text: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE...", help="Held-out text, plain or .xz; one file or several."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to save the result (.nc); a new file.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write a Markdown table.")] = False,
) -> None:
    """Measure every finished run's loss on the same text, and set the differences beside what a seed does.

    Losses are recomputed from the saved weights. Differences are paired token by token; their 95 % intervals
    resample documents, and so do not contain what another seed would change: that is the seeds' spread.
    Without DIR the losses of this project's own arms are shown, as they were measured.
    """
    from engram_interp import arms
    from engram_interp.arm_losses import losses as measure
    from engram_interp.arm_losses import packaged
    from engram_interp.errors import InputError
    from engram_interp.results.storage import check_folder

    if out is not None:  # all of this before minutes of measuring
        check_folder(out)
        if out.exists():
            raise InputError(f"{out} exists; give the name of a new file as --out.")
    if (folder is None) != (not text):
        raise InputError(
            "losses wants a folder and --text, or neither, for the packaged ones; got one of them."
        )
    if folder is None:
        found = packaged()
    else:
        family = arms.load(folder)
        found = measure(family, text or (), on_run=lambda name: typer.echo(f"… {name}", err=True))
    if out is not None:
        found.save(out)
    typer.echo("\n".join(found.markdown()) if markdown else found.summary())
