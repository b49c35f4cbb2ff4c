"""What makes a bundle whole, from what it says of its models and prompts: in words and as a command."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from engram_interp import pairs
from engram_interp.results import Bundle

ANY = "engram-interp report --engram MODEL --baseline MODEL --prompts FILE --out DIR"
"""The command for a bundle that says nothing; words in capitals are to be filled in."""
AGAIN = "pip install --force-reinstall engram-interp"
_FILES = (".txt", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Way:
    """What to do: a sentence, and the command that follows its colon; an empty one where none helps."""

    todo: str
    command: str = ""


def makes(bundle: Bundle, what: str) -> Way:
    """What makes the missing `what` of `bundle`."""
    models = bundle.meta.get("models")
    engram, baseline = (_of(models, which) for which in ("engram", "baseline"))
    if engram.get("memory_layers") == [] and baseline:
        return Way(todo=f"Nothing makes {what} here: both models of this bundle are without a memory.")
    if not engram or baseline:
        return Way(
            todo=f"The report makes {what} where the models and prompts allow it:", command=command(bundle)
        )
    if not _said(engram.get("name")) or _is_packaged(bundle):
        return Way(todo=f"Nothing makes {what} here: this bundle is of one model, without a baseline.")
    return Way(
        todo=f"This bundle is of one model. The report makes {what} with a baseline beside it:",
        command=command(bundle),
    )


def anew(bundle: Bundle, more: str = "") -> Way:
    """What makes a damaged `bundle` anew; `more` follows the word “anew”."""
    if _is_packaged(bundle):
        return Way(todo="It came with the package; install that again:", command=AGAIN)
    return Way(todo=f"To make the bundle{more} anew:", command=command(bundle))


def command(bundle: Bundle) -> str:
    """The command for `bundle`: a packaged pair by its name, other models by theirs after ``PATH/``."""
    models = [_of(bundle.meta.get("models"), which) for which in ("engram", "baseline")]
    names = [_said(model.get("name")) for model in models]
    pair = _said(bundle.meta.get("name"))
    prompts = _prompts(bundle.meta)
    if pair in pairs.available() and names == [f"{pair}/engram", f"{pair}/baseline"]:
        return f"engram-interp report --pair {pair}{prompts} --out DIR"
    packaged = pairs.with_memory()
    engram, baseline = (
        name if name in packaged else shlex.quote(f"PATH/{name}") if name else "MODEL" for name in names
    )
    return f"engram-interp report --engram {engram} --baseline {baseline}{prompts} --out DIR"


def _is_packaged(bundle: Bundle) -> bool:
    """Whether it lies where the package keeps its bundles."""
    return bundle.path.resolve().parent == pairs.bundle_path().resolve().parent


def _prompts(meta: Mapping[str, object]) -> str:
    """The option that names the prompts; empty where they are the ones the report takes by itself."""
    source = _said(_of(meta, "prompts").get("source"))
    if source == "packaged prompts 'entities'":
        return ""
    return f" --prompts {shlex.quote(source) if PurePath(source).suffix in _FILES else 'FILE'}"


def _of(found: object, name: str) -> Mapping[str, object]:
    inner = found.get(name) if isinstance(found, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _said(value: object) -> str:
    """A word of the bundle that may stand in a command: a line of printable characters."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 200 else ""
