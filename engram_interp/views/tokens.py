"""How a token is written so that a reader sees what is there, and nothing it says can act.

Token text comes from a vocabulary or from someone's prompt and is not to be trusted: it may hold
markup, direction overrides, control characters or half a character. What has no visible form
of its own is replaced by a mark; nothing is dropped.

===============================  ==========================================
in the token                     shown as
===============================  ==========================================
space, newline, tab, return      ``␣ ↵ ⇥ ‹CR›``
bytes that are no UTF-8          ``‹E2 82›`` (given as surrogate escapes)
NUL (also as its sign ``␀``)     ``‹NUL›``
control, bidi, other separators  ``‹U+202E›``
a combining sign without base    the sign on a dotted circle
nothing                          ``‹empty›``
===============================  ==========================================
"""

import html
import unicodedata
from itertools import groupby

from engram_interp.views.markup import Html, element

_SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "‹CR›", "\0": "‹NUL›", "␀": "‹NUL›"}
_JOINERS = "\u200c\u200d"
_HIDDEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF


def visible(text: str) -> str:
    r"""`text` with marks for what cannot be seen; plain text, not yet escaped for HTML.

    >>> visible(" of\n"), visible("\u202e"), visible("\udce2\udc82")
    ('␣of↵', '‹U+202E›', '‹E2 82›')
    """
    return "".join(piece for piece, _ in _pieces(text))


def unhidden(text: str) -> str:
    r"""A sentence with marks for what would turn or hide its letters; its spaces and line ends stay.

    >>> unhidden("no bundle \u202eabc here")
    'no bundle ‹U+202E›abc here'
    """
    return "".join(c if c in " \n" else visible(c) for c in text)


def spelled(text: str) -> str:
    r"""`text` with bytes that are no characters as marks, for where a file keeps characters only.

    >>> spelled(" of"), spelled("\udce2\udc82 of")
    (' of', '‹E2 82› of')
    """
    runs = ("".join(run) for _, run in groupby(text, key=_is_byte))
    return "".join(visible(run) if _is_byte(run[0]) else run for run in runs)


def shortened(text: str, *, most: int = 60) -> str:
    """`text` as it is up to `most` characters; a longer one's beginning, and how long it is.

    >>> shortened("Wales"), shortened("x" * 1200, most=4)
    ('Wales', 'xxxx… (1,200 characters)')
    """
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def token_html(text: str) -> Html:
    """`text` as escaped HTML, the marks set apart in ``<span class="mark">``."""
    parts = [element("span", piece, class_="mark") if marked else piece for piece, marked in _pieces(text)]
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def plotly_text(text: str) -> str:
    """`text` for a plotly label or hover, where ``<b>`` and ``<a>`` would otherwise be obeyed."""
    return plain_label(visible(text))


def plain_label(text: str) -> str:
    """Any text for plotly (a model's name, a reason): markup escaped, nothing else changed."""
    return html.escape(text, quote=False)


def _pieces(text: str) -> list[tuple[str, bool]]:
    """(text, is it a mark?) in order; neighbouring broken bytes share one mark."""
    if not text:
        return [("‹empty›", True)]
    pieces: list[tuple[str, bool]] = []
    for broken, group in groupby(enumerate(text), key=lambda pair: _is_byte(pair[1])):
        run = list(group)
        if broken:
            pieces.append((f"‹{' '.join(f'{ord(c) - 0xDC00:02X}' for _, c in run)}›", True))
        else:
            pieces.extend(_piece(text, index) for index, _ in run)
    return pieces


def _is_byte(character: str) -> bool:
    return _FIRST_BYTE <= ord(character) <= _LAST_BYTE


def _piece(text: str, index: int) -> tuple[str, bool]:
    character = text[index]
    category = unicodedata.category(character)
    if character in _SIGNS:
        return _SIGNS[character], True
    if character in _JOINERS and _joins(text, index):
        return character, False
    if category in _HIDDEN or character == "\ufffd":
        return f"‹U+{ord(character):04X}›", True
    if category in {"Mn", "Me", "Mc"} and (index == 0 or text[index - 1] in _SIGNS):
        return f"◌{character}", False
    return character, False


def _joins(text: str, index: int) -> bool:
    """Whether a joiner stands between two characters that can be seen (emoji, Indic, Persian)."""
    if not 0 < index < len(text) - 1:
        return False
    return not {unicodedata.category(text[index - 1]), unicodedata.category(text[index + 1])} & _HIDDEN
