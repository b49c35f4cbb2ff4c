"""``engram-interp claims``: every claim, what was measured, and the verdict that follows."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engram_interp.claims import Row

EXAMPLE = """\b
Examples:
  engram-interp claims
  engram-interp claims runs
  engram-interp claims runs --markdown >> README.md
  engram-interp claims --bundles arms && engram-interp explore arms"""

_WIDE = 150
"""Columns of the table where the output is no terminal."""


def claims(
    places: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIR]...",
            help="Folders with verdicts (claim-NN.nc), or folders of such; by default the packaged ones.",
        ),
    ] = None,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write a Markdown table.")] = False,
    bundles: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write what was measured of each packaged arm as bundles for the explorer."
        ),
    ] = None,
) -> None:
    """Show the scoreboard: claim, source, verdict, what was found, what would change it.

    Found shows the measures that made the verdict what it is; the figure a script writes has all of them.
    Packaged verdicts are of a family of arms; where its script says something of the bundled pair too, that
    stands beside them.
    The scripts in analyses/ measure one claim each and save its verdict. A claim without a verdict is not
    tested; of several verdicts on one claim the last one made counts.
    """
    from engram_interp.claims import bundled, found, scoreboard

    if bundles is not None:
        _write(bundles, given=bool(places) or markdown)
        return
    rows = scoreboard(found(places)) if places else scoreboard(found(), bundled())
    if markdown:
        typer.echo("\n".join(as_markdown(rows)))
        return
    _show(rows)


def _write(folder: Path, *, given: bool) -> None:
    """One bundle an arm and seed, and where they are."""
    from engram_interp import arm_bundles
    from engram_interp.errors import InputError

    if given:
        raise InputError("--bundles writes the packaged arms' results; give it alone.")
    for path in arm_bundles.write(folder):
        typer.echo(str(path))
    typer.echo(f"engram-interp explore {folder} opens them.")


def as_markdown(rows: "list[Row]") -> list[str]:
    """The lines of a Markdown table, one row a claim, with the measures that made each verdict what it is."""
    lines = [
        "| | claim and its source | verdict | what was measured, on what, and found | what would change it |"
    ]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        one = row.claim
        script = f"[`{one.script}`](analyses/{one.script})" if one.script else "no script yet"
        cells = (
            f"{one.number}",
            f"{_capital(one.statement)} ({one.source})",
            f"**{row.word}**",
            "<br>".join([f"{_capital(one.measured)}.", *_told(row), script]),
            one.would_change,
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return lines


def _told(row: "Row") -> list[str]:
    """The measures that made the verdict what it is, and on what; then a run on the bundled pair."""
    from engram_interp.claims import telling

    told: list[str] = []
    if row.verdict is not None:
        told += [*telling(row.verdict), str(row.verdict.data.attrs.get("scope", ""))]
    if row.bundled is not None and row.bundled.summary() != row.sentence:
        first = [line for line in telling(row.bundled, most=1)[:1] if line not in told]
        told.append("; ".join([f"Run on the bundled pair: {row.bundled.word}", *first]))
    return [line for line in told if line]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _show(rows: "list[Row]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True, expand=True)
    table.add_column("", justify="right")
    for name, share in (("claim", 4), ("what was measured", 4), ("verdict", 2), ("found", 8)):
        table.add_column(name, ratio=share, overflow="fold", min_width=12 if name == "verdict" else None)
    table.add_column("what would change it", ratio=4)
    for row in rows:
        one = row.claim
        source = Text(f"\n{one.source}\n{one.script or 'no script yet'}", style="dim")
        # As Text, or rich would take [0.1, 0.2] for markup.
        texts = [Text(str(one.number)), Text(_capital(one.statement)) + source, Text(one.measured)]
        texts += [Text(row.word, style="bold"), Text("\n".join(_told(row))), Text(one.would_change)]
        table.add_row(*texts)
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
