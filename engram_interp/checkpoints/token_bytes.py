"""Tokens that are part of a character, as the bytes they stand for.

Two spellings are in use. Byte-level BPE (GPT-2's, DeepSeek's, Qwen's) writes every byte as one letter: the
printable ones of Latin-1 as themselves, the others, in order, as the letters from U+0100 on. SentencePiece
with byte fallback writes a byte as ``<0xE2>``.
"""

import re
from functools import cache

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def as_text(token: str | None) -> str | None:
    r"""A token of either spelling as text, bytes that are no whole character as Python's surrogate escapes.

    Args:
        token: as the vocabulary spells it; None for an id that it does not have.

    Returns:
        None where it is neither spelling.

    >>> as_text("<0xE2>"), as_text("âĤ"), as_text("Ġâ"), as_text("漢")
    ('\udce2', '\udce2\udc82', ' \udce2', None)
    """
    if not token:
        return None
    fallback = _FALLBACK.fullmatch(token)
    if fallback:
        return bytes([int(fallback[1], 16)]).decode("utf-8", "surrogateescape")
    letters = _letters()
    if not all(letter in letters for letter in token):
        return None
    return bytes(letters[letter] for letter in token).decode("utf-8", "surrogateescape")


@cache
def _letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    own = {chr(byte): byte for byte in printable}
    return own | {chr(0x100 + place): byte for place, byte in enumerate(others)}
