"""``engram-interp report``: one page and one bundle about a pair of models."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from engram_interp.cli.progress import progress
from engram_interp.errors import InputError

if TYPE_CHECKING:
    from engram_interp.checkpoints import SubjectModel
    from engram_interp.data.prompts import PromptSet

EXAMPLE = """\b
Examples:
  engram-interp report --out report
  engram-interp report --engram runs/engram --baseline runs/base --prompts my.txt --out report"""

_PAIR = "wiki-nano"


def report(
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory: new, empty, or that of an earlier report.")
    ],
    pair: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"A packaged pair; {_PAIR} if nothing is given.")
    ] = None,
    engram: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Model with memory (with --baseline).")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Model to compare it with (with --engram).")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts, .txt or .jsonl; by default the packaged passages."),
    ] = None,
    markup: Annotated[
        Literal["none", "brackets"] | None,
        typer.Option(help="Whether [[entities]] are marked in --prompts; by default, if there are [[."),
    ] = None,
) -> None:
    """Compare a model with memory with its baseline, and write what was found.

    DIR/index.html holds everything on one page that needs neither a network nor this tool;
    DIR/NAME.engram holds the numbers, for the explorer and for Python. An earlier report in DIR is
    replaced once the new one is whole; any other directory is left alone.
    """
    if pair is not None and (engram is not None or baseline is not None):
        raise typer.BadParameter("give either --pair, or --engram and --baseline.")
    if (engram is None) != (baseline is None):
        missing = "--baseline" if baseline is None else "--engram"
        raise typer.BadParameter(f"--engram and --baseline go together; {missing} is missing.")
    from engram_interp import report as reports

    reports.check(out)
    texts = _prompts(prompts, markup)
    name, models, training = _models(pair or _PAIR, engram, baseline)
    with progress(1.0) as update:
        found = reports.analyse(*models, texts, name=name, training=training, on_stage=update)
    for note in found.meta["notes"]:
        typer.echo(note, err=True)
    page = reports.write(found, out)
    typer.echo(found.parts["depth"].summary())
    typer.echo(str(page))


def _prompts(path: Path | None, markup: Literal["none", "brackets"] | None) -> "PromptSet":
    from engram_interp.data import prompts

    if path is None:
        if markup is not None:
            raise typer.BadParameter("--markup says how to read --prompts; give a file too.")
        return prompts.load("entities")
    found = prompts.from_file(path, markup=markup or "none")
    if markup is None and any("[[" in text for text in found):
        return prompts.from_file(path, markup="brackets")
    return found


def _models(
    pair: str, engram: Path | None, baseline: Path | None
) -> tuple[str, tuple["SubjectModel", "SubjectModel"], dict[str, dict[str, Any]]]:
    """Name of the report, both models, and how they were trained where that is known."""
    if engram is None or baseline is None:
        from engram_interp import pairs

        loaded = pairs.load(pair)
        return loaded.name, (loaded.engram, loaded.baseline), loaded.training
    from engram_interp.checkpoints import load_model

    models = load_model(engram), load_model(baseline)
    training = {"engram": _training(engram), "baseline": _training(baseline)}
    return f"{models[0].name}-vs-{models[1].name}", models, training


def _training(directory: Path) -> dict[str, Any]:
    """What training.json says; nothing where there is none."""
    path = directory / "training.json"
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as cause:
        raise InputError(f"{path} is not JSON ({cause}); mend it or take it away.") from cause
    return facts if isinstance(facts, dict) else {}
