"""What the explorer was started with."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The command line after ``--``.

    Attributes:
        bundles: bundles, or folders that hold some; empty for those of the package.
        model: a native model directory for live runs; None for the packaged pair's.
    """

    bundles: tuple[Path, ...] = ()
    model: Path | None = None


def arguments() -> Arguments:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="explorer", add_help=False)
    parser.add_argument("bundles", nargs="*", type=Path)
    parser.add_argument("--model", type=Path)
    found, _ = parser.parse_known_args(sys.argv[1:])
    return Arguments(bundles=tuple(found.bundles), model=found.model)
