"""Streamlit's page, told ahead of what it will need, and its connections, told not to wait.

Streamlit's page names its parts one level at a time: the browser learns of Plotly, which takes it most of a
second to read, only when the first figure arrives. Here the page says so at once. Its server also leaves
Nagle's algorithm on, so that every small file and message waits up to 40 ms for the one before it.
"""

import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import streamlit
from starlette.types import ASGIApp, Receive, Scope, Send

FILES = Path(streamlit.__file__).parent / "static"
FIGURES = "PlotlyChart"
NEEDED = (
    "BidiComponent",
    "Selectbox",
    "NumberInput",
    "Html",
    "PageLink",
    "Button",
    "DownloadButton",
    FIGURES,
)
"""Parts of Streamlit that most pages show; one that another Streamlit does not have is not named ahead."""
_WHILE_IT_WAITS = """
new PerformanceObserver((seen, observer) => {
  if (!seen.getEntries().some((entry) => entry.name.endsWith("/_stcore/host-config"))) return;
  observer.disconnect();
  setTimeout(() => import("./static/js/FILE"), 60);
}).observe({ type: "resource", buffered: true });
"""
"""Once the page has asked for its session: reads Plotly while the server works on the answer."""
_IMPORTS = re.compile(r'(?:from|import)\s*"\./([\w.-]+\.js)"')


class Frontend:
    """Answers for the page of every address in `pages`; everything else is Streamlit's."""

    def __init__(self, app: ASGIApp, *, pages: Sequence[str]) -> None:
        self._app = app
        self._paths = {f"/{page}" for page in pages}
        self._page = named_ahead((FILES / "index.html").read_text(encoding="utf-8")).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        _send_at_once(receive)
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in self._paths:
            await self._answer(send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, send: Send) -> None:
        length = str(len(self._page)).encode()
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", length)]
        headers.append((b"cache-control", b"no-cache"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._page})


def _send_at_once(receive: Receive) -> None:
    """Turn Nagle's algorithm off for the connection, where the server lets us see it (uvicorn does)."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def named_ahead(page: str) -> str:
    """Streamlit's `page` with the files it will ask for, and Plotly read before the first figure comes."""
    lines = [
        f'<link rel="modulepreload" crossorigin href="./static/js/{name}">'
        for name in _files()
        if name not in page
    ]
    lines += [f"<script>{_WHILE_IT_WAITS.replace('FILE', name)}</script>" for name in _of(FIGURES)]
    return page.replace("</head>", "\n".join([*lines, "</head>"]), 1)


def _of(part: str) -> Iterator[str]:
    """The file of a part of Streamlit; its name carries a digest."""
    return (file.name for file in sorted((FILES / "static" / "js").glob(f"{part}.*.js"))[:1])


def _files() -> list[str]:
    """The files of every part in `NEEDED`, and those that they import."""
    found: dict[str, None] = {}
    waiting = [name for part in NEEDED for name in _of(part)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += _IMPORTS.findall((FILES / "static" / "js" / name).read_text(encoding="utf-8"))
    return list(found)
