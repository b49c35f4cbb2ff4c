"""Reading pieces of a file, on the disk or behind HTTP range requests, without reading the whole."""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import requests

from engram_interp.errors import DamagedFileError, InputError

Span = tuple[int, int]
"""First byte, and the one after the last."""

_WORKERS = 16
_TRIES = 3
_PAUSE_SECONDS = 0.5
_TIMEOUT_SECONDS = 30.0
_PARTIAL, _WHOLE, _TOO_FAR = 206, 200, 416


class Ranges(Protocol):
    """A file of which pieces can be read."""

    @property
    def name(self) -> str:
        """What errors call it."""

    def size(self) -> int | None:
        """Bytes of the whole file; None where that is not told."""

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span, in this order."""


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A file on the disk, read with `pread`.

    Attributes:
        path: Where it lies.
    """

    path: Path

    @property
    def name(self) -> str:
        """What errors call it."""
        return str(self.path)

    def size(self) -> int:
        """Bytes of the whole file."""
        return self.path.stat().st_size

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span, in this order; give the spans sorted where that can be done.

        Raises:
            DamagedFileError: If the file ends before a span does.
        """
        handle = os.open(self.path, os.O_RDONLY)
        try:
            found = [_read(handle, start, stop) for start, stop in spans]
        finally:
            os.close(handle)
        for (start, stop), piece in zip(spans, found, strict=True):
            if len(piece) != stop - start:
                raise DamagedFileError(_short(self.name, start, stop, start + len(piece)))
        return found


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file behind HTTP, of which only the asked-for ranges travel, a few at a time.

    Attributes:
        url: Its address; redirects are followed.
        headers: Sent with every request, an authorisation for example.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.url

    def size(self) -> int | None:
        """Bytes of the whole file, as the server says (if it does) when it is asked for the first one.

        Raises:
            InputError: If it cannot be read by ranges.
        """
        with requests.Session() as session:
            return self._fetch(session, (0, 1))[1]

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of every span, in this order.

        Raises:
            InputError: If there is no such file, the server does not serve ranges, or it stops answering.
            DamagedFileError: If the file ends before a span does.
        """
        with requests.Session() as session:
            session.mount(
                self.url.split("//")[0] + "//", requests.adapters.HTTPAdapter(pool_maxsize=_WORKERS)
            )
            with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
                return [piece for piece, _ in pool.map(lambda span: self._fetch(session, span), spans)]

    def _fetch(self, session: requests.Session, span: Span) -> tuple[bytes, int | None]:
        """The bytes of one span, and the size of the whole file, which a server may leave out ("*")."""
        start, stop = span
        asked = {**self.headers, "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        with _answer(session, self.url, asked) as response:
            if response.status_code == _WHOLE:  # the body, perhaps 100 GB, is not read
                raise InputError(
                    f"The server of {self.url} ignores range requests (it answered with the whole file), so "
                    "rows cannot be read one by one; download the file and give its directory."
                )
            if response.status_code == _TOO_FAR:
                raise DamagedFileError(_short(self.url, start, stop, None))
            unit, _, rest = response.headers.get("Content-Range", "").strip().partition(" ")
            sent, _, total = rest.strip().partition("/") if unit.lower() == "bytes" else ("", "", "")
            known = total.isdigit() or total == "*"
            if response.status_code != _PARTIAL or sent != f"{start}-{stop - 1}" or not known:
                if total.isdigit() and int(total) < stop:
                    raise DamagedFileError(_short(self.url, start, stop, int(total)))
                raise InputError(
                    f"The server of {self.url} was asked for bytes {start}-{stop - 1} and answered "
                    f"{response.status_code} with {sent or 'no range'} of {total or 'an unknown size'}; "
                    "download the file and give its directory."
                )
            if len(response.content) != stop - start:
                raise DamagedFileError(_short(self.url, start, stop, start + len(response.content)))
            return response.content, int(total) if total.isdigit() else None


def _read(handle: int, start: int, stop: int) -> bytes:
    """Bytes of a file, fewer only where it ends: one `pread` may give less than was asked for."""
    found = os.pread(handle, stop - start, start)
    while more := os.pread(handle, stop - start - len(found), start + len(found)):
        found += more
    return found


def download(url: str, headers: Mapping[str, str]) -> bytes:
    """A small file whole.

    Raises:
        InputError: If there is none, or the server stops answering.
    """
    with requests.Session() as session, _answer(session, url, headers) as response:
        return response.content


def _answer(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """The server's answer, its body complete where it is a range or a small file; tried a few times."""
    cause = ""
    for attempt in range(_TRIES):
        time.sleep(_PAUSE_SECONDS * attempt)
        try:
            response = session.get(url, headers=dict(headers), stream=True, timeout=_TIMEOUT_SECONDS)
            if response.status_code in (_PARTIAL, _WHOLE) and not _ignores_range(response, headers):
                _ = response.content  # so that a cut connection shows here, where it is tried again
        except requests.RequestException as error:
            cause = f"{type(error).__name__}: {error}"
            continue
        if response.status_code < 400 or response.status_code == _TOO_FAR:
            return response
        response.close()
        cause = f"the server answered {response.status_code}"
        if response.status_code in (401, 403):
            raise InputError(
                f"{url} may not be read ({cause}); accept its terms and log in with hf auth login, or give "
                "another address."
            )
        if response.status_code < 500 and response.status_code != 429:
            raise InputError(f"There is nothing at {url} ({cause}); check the address and the revision.")
    raise InputError(f"{url} could not be read in {_TRIES} tries ({cause}); try again later.")


def _ignores_range(response: requests.Response, headers: Mapping[str, str]) -> bool:
    return response.status_code == _WHOLE and "Range" in headers


def _short(name: str, start: int, stop: int, end: int | None) -> str:
    size = "" if end is None else f" and the file ends at {end:,}"
    return (
        f"{name} is cut short: bytes {start:,} to {stop:,} are wanted{size}; download it again, or give the "
        "revision that its index belongs to."
    )
