"""Text files in: documents, digests, and files that cannot be read."""

import hashlib
import lzma
from pathlib import Path

import pytest

from engram_interp.data.documents import check_text, documents, read_text, text_digest
from engram_interp.errors import DamagedFileError, InputError

TEXT = "First line\nof one.\n<|endoftext|>\n\n<|endoftext|>\n  Zweites Stück ☃ \n<|endoftext|>\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    plain, packed = tmp_path / "one.txt", tmp_path / "two.txt.xz"
    plain.write_text(TEXT, encoding="utf-8")
    packed.write_bytes(lzma.compress(b"no mark, <|endoftext|> inside a line"))
    return [plain, packed]


def test_documents_of_several_files_in_order(files: list[Path]) -> None:
    assert list(documents(files)) == [
        "First line\nof one.",
        "Zweites Stück ☃",
        "no mark, <|endoftext|> inside a line",
    ]


def test_the_digest_is_of_the_decoded_text(files: list[Path]) -> None:
    whole = TEXT + "no mark, <|endoftext|> inside a line"
    assert text_digest(files) == hashlib.sha256(whole.encode()).hexdigest()
    assert read_text(files[0]) == TEXT
    assert check_text(str(files[1])) == files[1]


def test_files_that_cannot_be_read_are_named(tmp_path: Path, files: list[Path]) -> None:
    missing = tmp_path / "none.txt"
    for path in (missing, tmp_path):
        with pytest.raises(InputError, match=rf"No text file at {path}; give the path"):
            read_text(path)
    cut = tmp_path / "cut.txt.xz"
    cut.write_bytes(files[1].read_bytes()[:-12])
    with pytest.raises(DamagedFileError, match=r"cut.txt.xz is not a whole .xz file"):
        read_text(cut)
    latin = tmp_path / "latin.txt"
    latin.write_bytes("naïve".encode("latin-1"))
    with pytest.raises(DamagedFileError, match=r"latin.txt is not UTF-8 text \(byte 2: .*convert it first"):
        read_text(latin)
