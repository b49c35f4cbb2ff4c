"""Results that the package carries as one compressed archive, which compresses them together."""

import lzma
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from engram_interp.errors import DamagedFileError


@contextmanager
def unpacked(archive: Path, *, of: str) -> Iterator[Path]:
    """A folder with the files of a tar archive, until the block is left.

    Args:
        archive: The archive, of any compression that tarfile knows.
        of: What it holds, for the message.

    Raises:
        DamagedFileError: If it is not there or cut short.
    """
    with TemporaryDirectory() as folder:
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
        except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
            raise DamagedFileError(
                f"{archive} cannot be read as an archive of {of}; install the package again."
            ) from error
        yield Path(folder)
