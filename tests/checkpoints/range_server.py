"""A small HTTP server that serves a folder by ranges, or misbehaves as it is told."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

Manner = Literal["ranges", "whole", "cut", "cut once", "busy", "forbidden", "other range", "no size"]


@dataclass
class Served:
    """What a server sends, and what it has sent.

    Attributes:
        folder: Files by the last part of the path.
        address: Where it listens.
        manner: How it answers requests for a range.
        sent: Of every answered range, file, first byte and the one after the last.
        headers: Of the last request.
    """

    folder: Path
    address: str = ""
    manner: Manner = "ranges"
    sent: list[tuple[str, int, int]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    failed: bool = False

    def bytes_of(self, name: str) -> int:
        """Bytes of a file's ranges that were sent."""
        return sum(stop - start for file, start, stop in self.sent if file == name)


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.headers = dict(self.headers)
            if self.path.startswith("/moved/"):
                self._empty(302, Location=self.path.replace("/moved/", "/", 1))
                return
            path = served.folder / self.path.rsplit("/", 1)[-1]
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if not path.is_file():
                self._empty(404)
            elif wanted is None or served.manner == "whole":
                self._send(200, path.read_bytes())
            elif served.manner in ("busy", "forbidden"):
                self._empty(503 if served.manner == "busy" else 403)
            else:
                self._range(path, int(wanted[1]), int(wanted[2]) + 1)

        def _range(self, path: Path, start: int, stop: int) -> None:
            content = path.read_bytes()
            if start >= len(content):
                self._empty(416)
                return
            stop = min(stop, len(content))
            shown = start + 1 if served.manner == "other range" else start
            cut = served.manner == "cut" or (served.manner == "cut once" and not served.failed)
            served.failed = True
            told = f"bytes {shown}-{stop - 1}/{len(content)}"
            told = f"Bytes {shown}-{stop - 1}/*" if served.manner == "no size" else told
            self._send(206, content[start:stop], told, cut=cut)
            served.sent.append((path.name, start, stop))

        def _send(self, status: int, body: bytes, shown: str = "", *, cut: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if shown:
                self.send_header("Content-Range", shown)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = self.close_connection or cut

        def _empty(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve a folder for as long as the block lasts."""
    served = Served(folder=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.daemon_threads = True
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
