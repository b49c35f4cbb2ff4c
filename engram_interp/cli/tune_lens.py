"""``engram-interp tune-lens``: an affine map per layer that puts it into the final layer's language."""

from pathlib import Path
from typing import Annotated

import typer

from engram_interp.cli.progress import progress

EXAMPLE = """\b
Examples:
  engram-interp tune-lens runs/mine --text valid.txt.xz --out runs/mine
  engram-interp tune-lens wiki-nano/baseline --text a.txt b.txt --out lens --tokens 100000"""


def tune_lens(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model directory, or a packaged pair's name (NAME/baseline)."),
    ],
    *,
    text: Annotated[
        list[Path], typer.Option(metavar="FILE...", help="Text that will not be analysed, plain or .xz.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help='Where the lens goes; lens="tuned" looks beside the model.'),
    ],
    tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Most tokens to take.")] = 300_000,
    seed: Annotated[int, typer.Option(metavar="N", help="Order of the text.")] = 0,
) -> None:
    """Train a tuned lens and write tuned_lens.safetensors and tuned_lens.json to --out.

    The model is not changed. The last tenth of the text is kept out of the training, and the divergence
    from the final prediction is measured on it before and after.
    """
    from engram_interp import lens_tuned
    from engram_interp.checkpoints import load_model
    from engram_interp.data.documents import documents

    texts, subject = list(documents(text)), load_model(model)
    with progress(1.0, every=10) as update:
        tuned = lens_tuned.train(
            subject,
            texts,
            tokens=tokens,
            seed=seed,
            progress=lambda step, steps, loss: update(step / steps, f"step {step}/{steps}, KL {loss:.3f}"),
        )
    tuned.save(out)
    before, after = tuned.facts["kl_before"], tuned.facts["kl_after"]
    for layer, (raw, learned) in enumerate(zip(before, after, strict=True)):
        worse = "" if learned < raw else "  (not better than the raw lens)"
        typer.echo(f"layer {layer}: {raw:.4f} nats raw, {learned:.4f} tuned{worse}")
    typer.echo(f"{out}: a tuned lens of {subject.name}, {tuned.facts['tokens']:,} tokens")
