"""Tokens that are part of a character: their bytes, in both spellings, and through a file."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from engram_interp import attribution
from engram_interp.checkpoints.token_bytes import as_text
from engram_interp.results import Result
from tests import support


def test_every_letter_of_the_tokenizers_library_is_a_byte_of_its_own() -> None:
    texts = [as_text(letter) for letter in pre_tokenizers.ByteLevel.alphabet()]
    found = {text.encode("utf-8", "surrogateescape") for text in texts if text is not None}
    assert found == {bytes([byte]) for byte in range(256)}


@pytest.mark.parametrize("text", ["🙂", "naïve 漢字", "\ufffd", "a\u202eb"])
def test_the_tokens_of_a_text_hold_its_bytes(text: str) -> None:
    model = support.subject()
    ids = model.tokenizer.encode(text, add_special_tokens=False).ids
    pieces = [model.token_text(number) for number in ids]
    assert "".join(pieces).encode("utf-8", "surrogateescape") == text.encode()


def test_a_token_of_neither_spelling_stays_as_it_is_decoded() -> None:
    vocabulary = {"a": 0, "漢\ufffd": 1}
    model = support.subject()
    object.__setattr__(model, "tokenizer", Tokenizer(models.WordLevel(vocabulary, unk_token="a")))
    assert model.token_text(1) == "漢\ufffd"


def test_a_target_that_is_half_a_character_is_saved_and_read_again(tmp_path: Path) -> None:
    model = support.subject()
    [half] = [number for number in range(model.d_vocab) if model.token_text(number) == "\udcf0"]
    found = attribution.memory(model, "Kalo met the ren", token=2, target=half, draws=40)
    again = Result.load(found.save(tmp_path / "found.nc"))
    assert again.data.attrs["target"] == "‹F0›"
