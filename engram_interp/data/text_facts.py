"""Which texts a run trained on and held out, as its training.json says, and whether others are the same."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engram_interp.data.documents import text_digests
from engram_interp.errors import InputError


def text_facts(texts: Sequence[str | Path], valid: Sequence[str | Path] = ()) -> dict[str, Any]:
    """What training.json says of a run's texts: names of the files, SHA-256 of each and of all in order.

    ``valid_sha256`` is None without held-out files, where the end of the training text is held out.

    Raises:
        InputError: If a file is missing or cannot be read as text, or one is both trained on and held out.
    """
    (whole, each), (held_out, others) = text_digests(texts), text_digests(valid)
    for path, digest in zip(valid, others, strict=True):
        if digest in each:
            same = texts[each.index(digest)]
            raise InputError(
                f"{path} is to be held out and is the same text as {same}, which is trained on: a loss on it "
                "would say nothing of new text. Give other files as --valid, or none."
            )
    return {
        "text_files": [Path(path).name for path in texts],
        "text_sha256": whole,
        "text_file_sha256": each,
        "valid_files": [Path(path).name for path in valid],
        "valid_sha256": held_out if valid else None,
    }


def refuse_other_texts(run: str | Path, recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to go on with a run, or beside one, whose training.json names other texts than `given`.

    What the record does not tell is not compared: earlier versions wrote texts at the end of training only.

    Args:
        run: Where it lies.
        recorded: Its training.json.
        given: `text_facts` of the texts at hand.

    Raises:
        InputError: Naming the run and both texts.
    """
    for kind, does, option in (("text", "trains on", "--text"), ("valid", "holds out", "--valid")):
        digest = f"{kind}_sha256"
        if digest in recorded and recorded[digest] != given[digest]:
            raise InputError(
                f"{run} {does} {_told(recorded, kind)}, and {option} gives {_told(given, kind)}; give that "
                "text again, or a new --out."
            )


def refuse_mixed_texts(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to compare runs, their training.json by name, that were trained on different texts.

    Raises:
        InputError: Naming the runs of every text.
    """
    by_text: dict[str, list[str]] = {}
    for name, facts in runs.items():
        if facts.get("text_sha256"):
            by_text.setdefault(_told(facts, "text"), []).append(name)
    if len(by_text) > 1:
        told = "; ".join(f"{', '.join(names)} on {text}" for text, names in by_text.items())
        raise InputError(
            f"The runs were trained on different texts: {told}. Compare runs of one text; part the others."
        )


def refuse_trained_texts(runs: Mapping[str, Mapping[str, Any]], texts: Sequence[str | Path]) -> None:
    """Refuse held-out texts that runs, their training.json by name, were trained on.

    Raises:
        InputError: Naming the text and the runs.
    """
    whole, each = text_digests(texts)
    named = dict(zip(each, (Path(path).name for path in texts), strict=True))
    named.setdefault(whole, ", ".join(named.values()))
    for digest, text in named.items():
        seen = [
            name
            for name, facts in runs.items()
            if digest in (facts.get("text_sha256"), *facts.get("text_file_sha256", ()))
        ]
        if seen:
            raise InputError(
                f"Losses want text that was held out, and {', '.join(seen)} trained on {text}; give another "
                "as --text."
            )


def _told(facts: Mapping[str, Any], kind: str) -> str:
    """The names of a text's files and the start of their digest."""
    digest = facts.get(f"{kind}_sha256")
    if digest is None:
        return "the end of the training text"
    names = ", ".join(map(str, facts.get(f"{kind}_files", ()))) or "some files"
    return f"{names} (sha256 {str(digest)[:8]}…)"
