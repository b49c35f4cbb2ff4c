"""``engram-interp train``: a model from a recipe and texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engram_interp.cli.progress import progress

if TYPE_CHECKING:
    from engram_interp.cli.progress import Update
    from engram_interp.model.training.loop import Progress

EXAMPLE = """\b
Examples:
  engram-interp train wiki-nano-engram --text wiki_*.txt.xz --valid valid.txt.xz --out runs/engram
  engram-interp train my-recipe.toml --text corpus.txt --out runs/mine --resume"""


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file (.toml), or a packaged recipe's name.")
    ],
    *,
    text: Annotated[
        list[Path], typer.Option(metavar="FILE...", help="Training text, plain or .xz; one file or several.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory for the model; new or empty.")],
    valid: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE...", help="Held-out text; by default the last 100,000 tokens."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A tokenizer.json; by default trained on the text.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="CPU threads; by default all.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where to train: cpu, cuda (the first GPU), cuda:1, …")
    ] = "cpu",
    keep: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Models to keep along the way, in checkpoints/step-N."),
    ] = 0,
) -> None:
    """Train a model and write its weights, configuration, tokenizer, log and provenance to --out.

    A line <|endoftext|> in a text file ends a document. A run that was interrupted goes on from its last
    saved step with --resume and the same texts; nothing else in --out is ever overwritten. On a CPU it ends
    as if it had never been cut; on a GPU only its next losses are promised, to 1e-4 nats and on the same kind
    of device.
    """
    from engram_interp import training

    plan = training.find_recipe(recipe)
    schedule = plan.schedule
    steps = max(1, schedule.tokens // (schedule.batch * plan.model_config().n_ctx))
    typer.echo(f"{plan.name}: {plan.cost()}", err=True)
    try:
        with progress(steps, every=15) as update:
            done = training.train(
                plan,
                text,
                out=out,
                valid=valid or (),
                tokenizer=tokenizer,
                resume=resume,
                threads=threads,
                device=device,
                keep=keep,
                on_step=Reporter(update),
            )
    except KeyboardInterrupt as error:
        error.add_note(f"What {out} holds is whole; add --resume to go on from the last saved step.")
        raise
    typer.echo(str(done))


class Reporter:
    """Says loss and speed after each step, and which run it is if there are several.

    Args:
        update: Where to say it.
    """

    def __init__(self, update: "Update") -> None:
        self.update = update
        self.before: Progress | None = None
        self.valid, self.name = "", ""

    def begin(self, name: str) -> None:
        """Name the run that starts."""
        self.before, self.valid, self.name = None, "", f"{name}: "

    def __call__(self, now: "Progress") -> None:
        """Say where the run stands."""
        if now.valid_loss is not None:
            self.valid = f", held-out {now.valid_loss:.3f}"
        rate = ""
        if self.before is not None and now.seconds > self.before.seconds:
            rate = (
                f", {(now.tokens - self.before.tokens) / (now.seconds - self.before.seconds):,.0f} tokens/s"
            )
        else:
            self.before = now
        text = f"{self.name}step {now.step:,}/{now.steps:,}, loss {now.loss:.3f}{self.valid}{rate}"
        self.update(now.step, text)
