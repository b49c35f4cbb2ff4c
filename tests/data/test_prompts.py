"""Prompt sets: the packaged passages, files of either kind, entity markup, and what is refused."""

import dataclasses
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram_interp.data import prompts
from engram_interp.data.prompts import PromptSet
from engram_interp.errors import InputError

PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]\0"), min_size=1, max_size=12)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def marked(found: PromptSet) -> list[list[str]]:
    return [
        [text[start:end] for start, end in spans]
        for text, spans in zip(found.texts, found.entities, strict=True)
    ]


# --- the packaged passages ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entities() -> PromptSet:
    return prompts.load("entities")


def test_passages_are_enough_for_a_comparison_of_layers(entities: PromptSet) -> None:
    assert len(entities) >= 115
    assert len(set(entities.ids)) == len(set(entities.texts)) == len(entities)
    assert sum(map(len, entities.entities)) >= 1000
    assert min(map(len, entities.entities)) >= 8


def test_passages_are_of_the_length_that_fits_a_small_context(entities: PromptSet) -> None:
    words = [len(text.split()) for text in entities]
    assert min(words) >= 90
    assert max(words) <= 135


def test_passages_are_clean_prose(entities: PromptSet) -> None:
    for name, text in zip(entities.ids, entities.texts, strict=True):
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert text == " ".join(text.split())
        assert not re.search(r"[\[\]#*<>]|\.\.|[,;:]\.| [.,;]", text), name
        assert text.endswith(".")


def test_spans_are_the_text_that_stood_in_brackets(entities: PromptSet) -> None:
    asset = files("engram_interp").joinpath("assets", "prompts", "entities.txt").read_text(encoding="utf-8")
    passages = asset.split("\n# id: ")[1:]
    assert [passage.split("\n")[0] for passage in passages] == list(entities.ids)
    for passage, found in zip(passages, marked(entities), strict=True):
        assert found == [" ".join(entity.split()) for entity in re.findall(r"\[\[(.*?)\]\]", passage, re.S)]


def test_spans_lie_in_order_and_end_where_a_word_ends(entities: PromptSet) -> None:
    for text, spans in zip(entities.texts, entities.entities, strict=True):
        flat = [position for span in spans for position in span]
        assert flat == sorted(flat)
        assert all(end == len(text) or not text[end].isalnum() for _, end in spans)


@pytest.mark.parametrize(
    "phrase",
    [
        "the United States of America",
        "the Second World War",
        "the Roman Catholic Church",
        "New York City",
        "Diana, Princess of Wales",
        "the Milky Way",
        "Alexander the Great",
    ],
)
def test_fixed_phrases_that_a_memory_may_hold_occur(entities: PromptSet, phrase: str) -> None:
    assert any(phrase.lower() in text.lower() for text in entities)


def test_an_unknown_set_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match=r"No packaged prompts are called 'entitys'; there is entities\."):
        prompts.load("entitys")


# --- the set itself ----------------------------------------------------------------------------------


def test_a_set_is_frozen_and_iterates_over_its_texts() -> None:
    found = prompts.from_texts(["one", "two three"])
    assert (len(found), list(found), found.ids) == (2, ["one", "two three"], ("texts-0", "texts-1"))
    assert found.entities == ((), ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "other"  # type: ignore[misc]


def test_head_keeps_names_and_entities_together() -> None:
    found = prompts.from_texts(["[[Oslo]]", "no", "in [[Rome]]"], name="cities", markup="brackets")
    assert found.head(1).ids == ("cities-0",)
    assert marked(found.head(2)) == [["Oslo"], []]
    assert found.head(7) == found
    with pytest.raises(InputError, match=r"wants at least 1 prompt, got 0"):
        found.head(0)


def test_digest_is_that_of_the_texts_in_order() -> None:
    one = prompts.from_texts(["ab", "c"])
    assert one.digest == hashlib.sha256(b"ab\0c").hexdigest()
    assert one.digest == prompts.from_texts(["[[ab]]", "c"], name="x", markup="brackets").digest
    others = [["c", "ab"], ["a", "bc"], ["abc"]]
    assert len({one.digest, *(prompts.from_texts(texts).digest for texts in others)}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ("a",)}, "got 1 ids, 2 texts and 2 tuples of entities"),
        ({"ids": ("a", "a")}, "want unique ids, 'a' occurs twice"),
        ({"texts": ("x", " ")}, r"Prompt 'b' of here is empty"),
        ({"entities": ((), ((0, 9),))}, r"within its 3 characters, got 0 to 9"),
        ({"entities": ((), ((1, 1),))}, r"within its 3 characters, got 1 to 1"),
        ({"ids": (), "texts": (), "entities": ()}, "There are no prompts in here"),
    ],
)
def test_inconsistent_sets_are_refused(change: dict[str, Any], message: str) -> None:
    sound: dict[str, Any] = {"ids": ("a", "b"), "texts": ("x", "yes"), "entities": ((), ((0, 3),))}
    PromptSet(name="n", source="here", **sound)
    with pytest.raises(InputError, match=message):
        PromptSet(name="n", source="here", **(sound | change))


# --- markup ------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), PLAIN), min_size=1, max_size=6))
def test_markup_gives_back_the_text_and_what_was_marked(pieces: list[tuple[bool, str]]) -> None:
    pieces = [(mark and bool(piece.strip()), piece) for mark, piece in pieces] + [(False, "end")]
    source = "".join(f"[[{piece}]]" if mark else piece for mark, piece in pieces)
    found = prompts.from_texts([source], markup="brackets")
    assert found.texts == ("".join(piece for _, piece in pieces),)
    assert marked(found) == [[piece.strip() for mark, piece in pieces if mark]]


def test_brackets_are_text_unless_asked_for() -> None:
    found = prompts.from_texts(["see [[note]]"])
    assert found.texts == ("see [[note]]",)
    assert found.entities == ((),)


@pytest.mark.parametrize("text", ["a [[b", "a b]]", "[[a [[b]] c]]", "]]a[["])
def test_unbalanced_brackets_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"Text 0 wants entities as \[\[…\]\], closed and not nested"):
        prompts.from_texts([text], markup="brackets")


def test_empty_entities_and_unknown_markup_are_refused() -> None:
    with pytest.raises(InputError, match=r"Text 1 marks an empty entity, \[\[ \]\]"):
        prompts.from_texts(["a", "b [[ ]] c"], markup="brackets")
    with pytest.raises(InputError, match=r"'none' or 'brackets', got 'html'"):
        prompts.from_texts(["a"], markup="html")  # type: ignore[arg-type]


# --- files -------------------------------------------------------------------------------------------


def test_a_text_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.txt", b"\xef\xbb\xbfFirst one.\r\n  Second \xc3\xa9.\r\n")
    found = prompts.from_file(path)
    assert found.texts == ("First one.", "Second é.")
    assert found.ids == ("mine-0", "mine-1")
    assert (found.name, found.source) == ("mine", str(path))


@pytest.mark.parametrize("ends", ["", "\n", "\n<|endoftext|>\n", "\n<|endoftext|>"])
@pytest.mark.parametrize("starts", ["", "<|endoftext|>\n"])
def test_a_text_file_with_separators_holds_documents(tmp_path: Path, starts: str, ends: str) -> None:
    content = starts + "One.\n\nStill [[One]].\n<|endoftext|>\nTwo." + ends
    found = prompts.from_file(write(tmp_path / "book.txt", content), markup="brackets")
    assert found.texts == ("One.\n\nStill One.", "Two.")
    assert marked(found) == [["One"], []]


def test_json_lines_give_texts_as_they_are_and_names(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": " a\nb", "id": "x"}, {"text": "c"}, {"text": "d", "id": 7}]
    path = write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    found = prompts.from_file(str(path))
    assert found.texts == (" a\nb", "c", "d")
    assert found.ids == ("x", "rows-1", "7")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"a\.txt is empty"),
        ("a.txt", b" \n\n", r"a\.txt is empty"),
        ("a.txt", b"one\n\nthree\n", r"a\.txt, line 2 is empty"),
        ("a.txt", b"one\ntwo \xff\n", r"a\.txt, line 2 is not UTF-8 \(invalid start byte\)"),
        ("a.txt", b"one\nt\0wo\n", r"a\.txt, line 2 holds a NUL character"),
        ("a.txt", b"<|endoftext|>\n", r"There are no prompts in .*a\.txt"),
        ("a.txt", b"one\n<|endoftext|>\n\n<|endoftext|>\ntwo", r"a\.txt, line 3 is empty"),
        ("a.csv", b"one", r"from a \.txt or \.jsonl file, got .*a\.csv"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', r"a\.jsonl, line 2 wants an object such as"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}', r"a\.jsonl, line 2 wants an object with \"text\""),
        ("a.jsonl", b'["a"]', r"a\.jsonl, line 1 wants an object with \"text\", got \[\"a\"\]"),
        ("a.jsonl", b'{"text": 3}', r"a\.jsonl, line 1 wants to be a string, got int"),
        ("a.jsonl", b'{"text": " "}', r"a\.jsonl, line 1 is empty"),
        ("a.jsonl", b'{"text": "\\ud800"}', r"a\.jsonl, line 1 holds half a surrogate pair"),
        ("a.jsonl", b'{"text": "a", "id": []}', r"a\.jsonl, line 1 wants a string as \"id\", got \[\]"),
        ("a.jsonl", b'{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}', r"'x' occurs twice"),
    ],
)
def test_unusable_files_are_refused_by_path_and_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prompts.from_file(write(tmp_path / name, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path / "folder.txt"):
        if path.stem == "folder":
            path.mkdir()
        with pytest.raises(InputError, match=rf"No prompt file at {re.escape(str(path))}"):
            prompts.from_file(path)


def test_bad_markup_in_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt, line 2 wants entities as"):
        prompts.from_file(write(tmp_path / "a.txt", "[[one]]\n[[two\n"), markup="brackets")


# --- what analyses accept ----------------------------------------------------------------------------


def test_coerce_takes_one_text_several_and_sets() -> None:
    found = prompts.from_texts(["a"])
    assert prompts.coerce(found) is found
    assert prompts.coerce("a b").texts == ("a b",)
    assert prompts.coerce(["a", "b"]).texts == prompts.coerce(("a", "b")).texts == ("a", "b")


@pytest.mark.parametrize(
    ("given_texts", "message"),
    [
        ("", "The prompt is empty"),
        (["a", "\n"], "Text 1 is empty"),
        (["a", 3], "Text 1 wants to be a string, got int"),
        ([], "There are no prompts in given texts"),
        (Path("a.txt"), r"got \w*Path; for a file use prompts\.from_file"),
        (b"a", "got bytes"),
        (None, "got NoneType"),
    ],
)
def test_coerce_refuses_the_rest(given_texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prompts.coerce(given_texts)
