"""Streamlit's page, told ahead of what it will need, and its connections, told not to wait.

Streamlit's page names its parts one level at a time: the browser learns of Plotly, which takes it most of a
second to read, only when the first figure arrives. Here the page says so at once. Its server also leaves
Nagle's algorithm on, so that every small file and message waits up to 40 ms for the one before it, and reads
a file in pieces, each in another thread. Here a named file is sent whole, from memory.
"""

import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlencode

import streamlit
from starlette.types import ASGIApp, Receive, Scope, Send

FILES = Path(streamlit.__file__).parent / "static"
_SCRIPTS = FILES / "static" / "js"
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
_WHERE = """
window.__streamlit = {
  BACKEND_BASE_URL: location.origin + location.pathname.replace(/(PAGES)\\/?$/, ""),
};
"""
"""Where the server is: of a page below the root the browser would look for it there, and complain."""
_ONE_STEP = """
const further = history.pushState.bind(history);
history.pushState = (state, title, url) => {
  const next = new URL(url ?? location.href, location.href);
  const unwritten = !new URLSearchParams(location.search).has("v");
  if (unwritten && next.pathname === location.pathname) history.replaceState(state, title, url);
  else further(state, title, url);
};
"""
"""A page is opened by its path and then completes its address: one step of Back and Forward, not two."""
_LETTERS = """
{
  let face = "";
  const lettered = (part) =>
    typeof part === "string" ? part.replace(/<svg[^>]*>/, (tag) => tag + face) : part;
  const Plain = Blob;
  window.Blob = class Blob extends Plain {
    constructor(parts = [], options = {}) {
      super(String(options?.type).startsWith("image/svg+xml") ? Array.from(parts, lettered) : parts, options);
    }
    static [Symbol.hasInstance](one) { return one instanceof Plain; }
  };
  const fetched = async () => {
    const reader = new FileReader();
    reader.onload = () => {
      const font = `font-family:"Source Sans";font-weight:200 900;src:url(${reader.result})`;
      face = `<style>@font-face{${font}}</style>`;
    };
    reader.readAsDataURL(await (await fetch("./static/media/FILE")).blob());
  };
  for (const moved of ["pointermove", "keydown"]) addEventListener(moved, fetched, { once: true });
}
"""
"""A figure saved as PNG is drawn anew from an SVG, which cannot see the page's fonts: this one goes along.

Without it the text is set in another font, wider than the places it was laid out for.
"""
_FONT = "SourceSansVF-Upright"
_FOR_GOOD = b"public, immutable, max-age=31536000"
"""A script's name carries the digest of what it holds, so a browser never need ask for it again."""
_OWN = ("static", "_stcore", "media", "component", "app", "vendor", "auth", "oauth2callback")
"""What Streamlit's server itself answers for, by the first part of an address."""
_IMPORTS = re.compile(rb'(?:from|import)\s*"\./([\w.-]+\.js)"')


class Frontend:
    """Answers for the page of every address in `pages`; everything else is Streamlit's."""

    def __init__(self, app: ASGIApp, *, pages: Sequence[str]) -> None:
        self._app = app
        self._pages = tuple(pages)
        self._paths = {f"/{page}" for page in pages}
        scripts = _files()
        self._scripts = {f"/static/js/{name}": body for name, body in scripts.items()}
        page = named_ahead((FILES / "index.html").read_text(encoding="utf-8"), scripts)
        self._page = placed(page, pages).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        _send_at_once(receive)
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in self._paths:
            await _answer(send, self._page, kind=b"text/html; charset=utf-8", keep=b"no-cache")
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in self._scripts:
            body = self._scripts[scope["path"]]
            await _answer(send, body, kind=b"text/javascript; charset=utf-8", keep=_FOR_GOOD)
        elif _opens_a_page(scope):
            query, raw = scope["query_string"].decode("latin-1"), scope.get("raw_path") or b"/"
            await _lead(send, elsewhere(scope["path"], query, self._pages, deep=raw.count(b"/")))
        else:
            await self._app(scope, receive, send)


def _opens_a_page(scope: Scope) -> bool:
    """Whether a reader opens an address that is neither a file nor one of Streamlit's own."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    first, *rest = scope["path"].strip("/").split("/")
    accepts = b"text/html" in dict(scope.get("headers", [])).get(b"accept", b"")
    return accepts and first not in _OWN and "." not in (rest[-1] if rest else first)


def elsewhere(path: str, query: str, pages: Sequence[str], *, deep: int) -> str:
    """The address to lead to from one of no page: the page it was meant for, told what was asked for.

    It is relative: a proxy may put the explorer below an address of its own.

    `deep` is how many slashes the address has as it was sent.

    >>> elsewhere("/layers/", "b=mine", ["", "layers"], deep=2)
    '../layers?b=mine'
    >>> elsewhere("/layer", "b=mine", ["", "layers"], deep=1)
    './layers?b=mine&page=layer'
    >>> elsewhere("/nonsense", "", ["", "layers"], deep=1)
    './?page=nonsense'
    """
    asked = path.strip("/")
    up = "../" * max(deep - 1, 0) or "./"
    nearest = asked if asked in pages else (get_close_matches(asked, list(pages), n=1) or [""])[0]
    told = "" if nearest == asked else urlencode({"page": asked})
    given = "&".join(filter(None, [query, told]))
    return f"{up}{nearest}?{given}" if given else f"{up}{nearest}"


async def _lead(send: Send, address: str) -> None:
    headers = [(b"location", address.encode("latin-1")), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _answer(send: Send, body: bytes, *, kind: bytes, keep: bytes) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-type", kind), (b"content-length", length), (b"cache-control", keep)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _send_at_once(receive: Receive) -> None:
    """Turn Nagle's algorithm off for the connection, where the server lets us see it (uvicorn does)."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and connection.family in {socket.AF_INET, socket.AF_INET6}:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def named_ahead(page: str, scripts: Iterable[str]) -> str:
    """Streamlit's `page` with the `scripts` it will ask for, Plotly read before the first figure comes."""
    lines = [
        f'<link rel="modulepreload" crossorigin href="./static/js/{name}">'
        for name in scripts
        if name not in page
    ]
    lines += [f"<script>{_WHILE_IT_WAITS.replace('FILE', name)}</script>" for name in _of(FIGURES)]
    return page.replace("</head>", "\n".join([*lines, "</head>"]), 1)


def placed(page: str, pages: Iterable[str]) -> str:
    """Streamlit's `page`, told where its server is when it is opened as one of `pages`, and its font."""
    below = "|".join(name for name in pages if name)
    font = next(iter(sorted((FILES / "static" / "media").glob(f"{_FONT}.*.woff2"))), None)
    letters = "" if font is None else f"<script>{_LETTERS.replace('FILE', font.name)}</script>"
    own = f"<script>{_WHERE.replace('PAGES', below)}{_ONE_STEP}</script>{letters}"
    return page.replace("<head>", f"<head>{own}", 1)


def _of(part: str) -> Iterator[str]:
    """The file of a part of Streamlit; its name carries a digest."""
    return (file.name for file in sorted(_SCRIPTS.glob(f"{part}.*.js"))[:1])


def _files() -> dict[str, bytes]:
    """The files of every part in `NEEDED`, and those that they import: some 7 MB, each read once."""
    found: dict[str, bytes] = {}
    waiting = [name for part in NEEDED for name in _of(part)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = (_SCRIPTS / name).read_bytes()
            waiting += (one.decode() for one in _IMPORTS.findall(found[name]))
    return found
