"""Texts that links speak of and never carry: typed prompts and notes, by names made of their content.

A text is known as long as the server runs. Copying its link also writes it to a folder of this machine, so
that the link opens after a restart; a name is made of the text, so a file can hold no other.
"""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Literal

import streamlit as st

Kind = Literal["typed", "note"]
VARIABLE = "ENGRAM_INTERP_KEPT"
LONGEST = 20_000
_AT_MOST = 200
_NAME = re.compile(r"(typed|note)-[0-9a-f]{8}")


def remember(kind: Kind, text: str) -> str:
    """Keep a text, and return the name that a link can carry."""
    name = _name(kind, text)
    texts = _texts()
    texts.pop(name, None)
    texts[name] = text
    while len(texts) > _AT_MOST:
        texts.pop(next(iter(texts)), None)
    return name


def text_of(name: str) -> str | None:
    """The text of that name, from this server or from the folder; None if neither has it."""
    if not _NAME.fullmatch(name):
        return None
    known = _texts().get(name)
    if known is not None:
        return known
    try:
        if (path := _path(name)).stat().st_size > 8 * LONGEST:
            return None
        text = json.loads(path.read_text(encoding="utf-8"))["text"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    kind: Kind = "note" if name.startswith("note") else "typed"
    return text if isinstance(text, str) and _name(kind, text) == name else None


def save(*names: str) -> None:
    """Write the texts of these names to the folder, each whole or not at all; a full disk is no harm."""
    for name in names:
        text = text_of(name)
        if text is None or (path := _path(name)).exists():
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(recipe(name, text), encoding="utf-8")
            temporary.replace(path)
        except OSError:
            continue


def recipe(name: str, text: str) -> str:
    """What a file that makes a link open holds."""
    return json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n"


def unknown(name: str) -> str:
    """Why a text cannot be shown, and what would make it known."""
    said = "is a text that was typed elsewhere and is not known here"
    if not _NAME.fullmatch(name):
        return said
    return f"{said} (type the same text, or put {recipe(name, '…').strip()} into {_path(name)})"


def folder() -> Path:
    """Where the texts of copied links are kept: `VARIABLE`, or a place of the user's own."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(state).expanduser() / "engram-interp" / "shared"
    except RuntimeError:  # this user has no home
        return Path(tempfile.gettempdir()) / "engram-interp" / "shared"


def _path(name: str) -> Path:
    return folder() / f"{name}.json"


def _name(kind: Kind, text: str) -> str:
    digest = hashlib.sha1(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return f"{kind}-{digest[:8]}"


@st.cache_resource(show_spinner=False)
def _texts() -> dict[str, str]:
    """Every text kept since the server started, by name."""
    return {}
