"""What every command shares: exit codes, one clear line for an error, and ``--debug``.

0 is success alone, 1 an error said in one line, 2 bad usage, 130 Ctrl-C, 141 a reader of the output
that went away.
"""

import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from engram_interp.errors import InputError

INTERRUPTED = 130
PIPE_CLOSED = 141

_DEBUG = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_TAKES_SEVERAL = {"--text", "--valid", "--sites"}


class Command(TyperCommand):
    """A command whose repeatable ``--text``, ``--valid`` and ``--sites`` also read ``--text a.txt b.txt``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse ``--text a b`` as ``--text a --text b`` where the option may be repeated."""
        repeatable = {name for p in self.params if getattr(p, "multiple", False) for name in p.opts}
        return super().parse_args(ctx, spread(args, repeatable & _TAKES_SEVERAL))


def spread(args: list[str], options: set[str]) -> list[str]:
    """The arguments with each of `options` repeated before every value that follows it.

    >>> spread(["--text", "a", "b", "--out", "c"], {"--text"})
    ['--text', 'a', '--text', 'b', '--out', 'c']
    """
    found: list[str] = []
    current, values = "", 0
    for index, arg in enumerate(args):
        if arg == "--":
            return found + args[index:]
        if arg.startswith("-") and arg != "-":
            current, values = arg, 0
        elif current in options:
            found += [current] if values else []
            values += 1
        found.append(arg)
    return found


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as a command: it gains ``--debug``, and its errors become a line and an exit code."""

    @functools.wraps(function)
    def command(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except (typer.Exit, typer.BadParameter):
            raise
        except BrokenPipeError as error:
            raise typer.Exit(_leave_quietly()) from error
        except KeyboardInterrupt as error:
            typer.echo(" ".join(["Interrupted.", *getattr(error, "__notes__", [])]), err=True)
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if debug:
                traceback.print_exc()
            else:
                typer.echo(f"engram-interp: {_said(error)}", err=True)
            raise typer.Exit(1) from error

    signature = inspect.signature(function)
    option = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_DEBUG)
    command.__dict__["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), option])
    command.__annotations__ = {**function.__annotations__, "debug": _DEBUG}
    return command


def _said(error: Exception) -> str:
    """One line: the message of an error made for the reader, the type of any other."""
    message = " ".join(str(error).split())
    if isinstance(error, InputError):
        return message
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or type(error).__name__}."
    return f"unexpected {type(error).__name__}: {message or 'no message'} (--debug shows the traceback)."


def _leave_quietly() -> int:
    """Send what is still buffered nowhere, so that closing stdout cannot fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
