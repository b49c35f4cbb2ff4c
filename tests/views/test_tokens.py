"""Tokens show what is there, and nothing they say can act."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_interp.views.markup import Html, element, fragment, join, style_sheet
from engram_interp.views.tokens import plotly_text, token_html, visible

ATTACK = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" of", "␣of"),
        ("a\nb\tc\r", "a↵b⇥c‹CR›"),
        ("", "‹empty›"),
        ("\0", "‹NUL›"),
        ("␀", "‹NUL›"),
        ("\x07", "‹U+0007›"),
        ("\u202eabc", "‹U+202E›abc"),
        ("\u2066", "‹U+2066›"),
        ("\u00a0", "‹U+00A0›"),
        ("\u3000", "‹U+3000›"),
        ("\u2028", "‹U+2028›"),
        ("\ufffd", "‹U+FFFD›"),
        ("\ue000", "‹U+E000›"),
        ("\udce2\udc82x\udcff", "‹E2 82›x‹FF›"),
        ("\ud83d", "‹U+D83D›"),
        ("\u0301", "◌\u0301"),
        (" \u0301", "␣◌\u0301"),
        ("e\u0301", "e\u0301"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("\u200d", "‹U+200D›"),
        ("a\u200d", "a‹U+200D›"),
        ("日本 العربية", "日本␣العربية"),
    ],
)
def test_what_cannot_be_seen_gets_a_mark(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters(codec=None), max_size=12))
def test_marks_leave_nothing_that_acts(text: str) -> None:
    shown = visible(text)
    assert shown
    shown.encode()
    assert not {"\0", "\n", "\u202e", "\u2066", "\u200e", "\ufeff"} & set(shown)
    assert "<" not in token_html(text).replace('<span class="mark">', "").replace("</span>", "")
    assert "<" not in plotly_text(text)


def test_markup_in_a_token_is_shown() -> None:
    assert token_html("<b> &") == '&lt;b&gt;<span class="mark">␣</span>&amp;'
    assert plotly_text(ATTACK) == "&lt;img␣src=x␣onerror=alert(1)&gt;"


def test_elements_escape_children_and_attributes() -> None:
    assert element("b", ATTACK, title='"><script>') == (
        '<b title="&quot;&gt;&lt;script&gt;">&lt;img src=x onerror=alert(1)&gt;</b>'
    )
    assert element("i", Html("<b>x</b>"), aria_label="a") == '<i aria-label="a"><b>x</b></i>'
    assert join(["<", Html("<")]) == "&lt;<"
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_broken_bytes_can_be_written_as_utf_8() -> None:
    element("b", "\udce2", title="\udce2").encode()


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_a_fragment_carries_its_style(theme: str) -> None:
    html = fragment(ATTACK, theme=theme)  # type: ignore[arg-type]
    assert html.startswith('<div class="engram-view"><style>')
    assert "<img" not in html
    assert ("prefers-color-scheme" in html) == (theme == "auto")
    assert "</" not in style_sheet(theme=theme)  # type: ignore[arg-type]
