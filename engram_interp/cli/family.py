"""``engram-interp family``: all arms of a comparison, on the same batches."""

from pathlib import Path
from typing import Annotated

import typer

from engram_interp.cli.progress import progress
from engram_interp.cli.train import Reporter

EXAMPLE = """\b
Examples:
  engram-interp family nano-dense nano-engram --text wiki_*.txt.xz --valid valid.txt.xz --out runs
  engram-interp family nano-dense nano-engram nano-shuffled --seed 0 --seed 1 --text corpus.txt --out runs"""


def family(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", help="Recipe files (.toml), or packaged recipes' names."),
    ],
    *,
    text: Annotated[
        list[Path], typer.Option(metavar="FILE...", help="Training text, plain or .xz; one file or several.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs; they go on where they were.")],
    seed: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Seed of the initial weights; repeat for more.")
    ] = None,
    valid: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE...", help="Held-out text; by default the last 100,000 tokens."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A tokenizer.json; by default DIR's, at first trained on the text."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="CPU threads; by default all.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where to train: cpu, cuda (the first GPU), cuda:1, …")
    ] = "cpu",
    keep: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Models to keep along the way, in checkpoints/step-N."),
    ] = 10,
) -> None:
    """Train several recipes on the same batches, each into DIR/RECIPE-seedN.

    Run the same command again after an interruption: finished runs stand, the one that was cut goes on from
    its last saved step. All runs in DIR share texts, tokenizer and batches; what differs is refused.
    """
    from engram_interp.family import train_family
    from engram_interp.training import find_recipe

    plans = [find_recipe(recipe) for recipe in recipes]
    schedules = [plan.schedule for plan in plans]
    steps = max(s.tokens // (s.batch * p.model_config().n_ctx) for s, p in zip(schedules, plans, strict=True))
    try:
        with progress(max(1, steps), every=60) as update:
            reporter = Reporter(update)
            folders = train_family(
                plans,
                text,
                out=out,
                seeds=seed or (0,),
                valid=valid or (),
                tokenizer=tokenizer,
                threads=threads,
                device=device,
                keep=keep,
                on_run=reporter.begin,
                on_step=reporter,
            )
    except KeyboardInterrupt as error:
        error.add_note("What stands is whole; run the same command again to go on from the last saved step.")
        raise
    for folder in folders:
        typer.echo(str(folder))
