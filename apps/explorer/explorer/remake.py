"""The command that makes a bundle anew, from what the bundle says of its models and prompts."""

import shlex
from collections.abc import Mapping
from pathlib import PurePath

from engram_interp import pairs
from engram_interp.results import Bundle

ANY = "engram-interp report --engram MODEL --baseline MODEL --prompts FILE --out DIR"
"""The command for a bundle that says nothing; words in capitals are to be filled in."""
_FILES = (".txt", ".jsonl")


def command(bundle: Bundle) -> str:
    """The command for `bundle`: a packaged pair by its name, other models by theirs after ``PATH/``."""
    models = [_of(bundle.meta.get("models"), which) for which in ("engram", "baseline")]
    names = [_said(model.get("name")) for model in models]
    pair = _said(bundle.meta.get("name"))
    prompts = _prompts(bundle.meta)
    if pair in pairs.available() and names == [f"{pair}/engram", f"{pair}/baseline"]:
        return f"engram-interp report --pair {pair}{prompts} --out DIR"
    engram, baseline = (shlex.quote(f"PATH/{name}") if name else "MODEL" for name in names)
    return f"engram-interp report --engram {engram} --baseline {baseline}{prompts} --out DIR"


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
